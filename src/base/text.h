/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of text from outside: UTF-8 and control characters; and lists of words. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Length (1 to 4) of the well-formed UTF-8 character at text[0..bytes), 0 if there is none:
 * overlong forms, surrogates and code points above U+10FFFF are not well-formed (RFC 3629). */
size_t text_character(const char *text, size_t bytes);

/* True if text[0..bytes) is UTF-8 throughout. */
bool text_is_utf8(const char *text, size_t bytes);

/* True if text[0..bytes) holds a character below U+0020, or U+007F. */
bool text_has_control(const char *text, size_t bytes);

/* Copies the NUL-terminated `text` into target[0..target_bytes), target_bytes > 0: always
 * terminated, cut at a character boundary; control characters and bytes that are not UTF-8 become
 * '?'. */
void text_copy_printable(char *target, size_t target_bytes, const char *text);

/* Cuts white space off both ends, in place. */
char *text_trim(char *text);

/* Makes the list of words of a table of rows X(id, word). */
#define TEXT_WORD(id, word) word,

/* Where `text` stands in the list; `count` if it does not. */
size_t text_find(const char *const *words, size_t count, const char *text);

/* Adds `quote` `word` `quote` to a list "a, b" in `list` of `size` bytes; what does not fit is cut.
 */
void text_list_add(char *list, size_t size, const char *quote, const char *word);
