/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of text from outside: UTF-8 and control characters; lists of words; text that is printed
 * into memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Length (1 to 4) of the well-formed UTF-8 character at text[0..bytes), 0 if there is none:
 * overlong forms, surrogates and code points above U+10FFFF are not well-formed (RFC 3629). */
size_t text_character(const char *text, size_t bytes);

/* True if text[0..bytes) is UTF-8 throughout. */
bool text_is_utf8(const char *text, size_t bytes);

/* True if text[0..bytes) holds a character below U+0020, or U+007F. */
bool text_has_control(const char *text, size_t bytes);

/* Length of the well-formed character at text[0..bytes) if a terminal or a log may get it as it is.
 * 0 of what must not be shown raw: control characters (C0, DEL, C1), what turns the direction of
 * text, has no width or ends a line, and bytes that are not UTF-8. */
size_t text_printable_character(const char *text, size_t bytes);

/* The number of the character of `length` well-formed bytes at `text`. */
uint32_t text_code_point(const char *text, size_t length);

enum { TEXT_ESCAPE_BYTES = 11 /* "\u{10ffff}" and its end */ };

/* Escapes what text_printable_character refuses at text[0..bytes), bytes > 0: "\u{1b}"; a byte that
 * is not UTF-8 is shown as a surrogate, "\u{dcff}" for 0xFF. Returns how many bytes it took. */
size_t text_escape_character(const char *text, size_t bytes, char ret_escape[TEXT_ESCAPE_BYTES]);

/* Copies the NUL-terminated `text` into target[0..target_bytes), target_bytes > 0, fit to be shown:
 * escaped as above, always terminated, cut at a character's or an escape's end. */
void text_copy_printable(char *target, size_t target_bytes, const char *text);

/* The same in fresh memory, whole. Caller frees; NULL when out of memory. */
char *text_printable(const char *text);

/* Cuts white space off both ends, in place. */
char *text_trim(char *text);

/* Makes the list of words of a table of rows X(id, word). */
#define TEXT_WORD(id, word) word,

/* Where `text` stands in the list; `count` if it does not. */
size_t text_find(const char *const *words, size_t count, const char *text);

/* Adds `quote` `word` `quote` to a list "a, b" in `list` of `size` bytes; what does not fit is cut.
 */
void text_list_add(char *list, size_t size, const char *quote, const char *word);

/* A stream whose text ends in memory. open_memstream() of glibc will not do: where memory is
 * refused while it grows, bytes are missing and neither ferror() nor fclose() tells. */
typedef struct text_stream text_stream;

/* NULL when out of memory. */
text_stream *text_stream_open(void);

/* What to print into; it is the stream's own and closed with it. */
FILE *text_stream_file(const text_stream *self);

/* How many bytes were printed so far. */
size_t text_stream_bytes(text_stream *self);

/* Closes and frees the stream. Returns the whole text, with a NUL behind it, in fresh memory that
 * the caller frees; NULL when any byte of it was lost. `ret_bytes` may be NULL. */
char *text_stream_close(text_stream *self, size_t *ret_bytes);
