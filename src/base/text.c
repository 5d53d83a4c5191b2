/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of text from outside: UTF-8 and control characters; text that is printed into memory. */
#include "src/base/text.h"

#include "src/base/memory.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xC0u) == 0x80u;
}

/* The second byte's range carries the checks for overlong forms, surrogates and the upper bound. */
static bool second_byte_fits(unsigned char first, unsigned char second)
{
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (first == 0xE0)
        low = 0xA0;
    else if (first == 0xED)
        high = 0x9F;
    else if (first == 0xF0)
        low = 0x90;
    else if (first == 0xF4)
        high = 0x8F;
    return second >= low && second <= high;
}

size_t text_character(const char *text, size_t bytes)
{
    if (bytes == 0)
        return 0;
    unsigned char first = (unsigned char)text[0];
    if (first < 0x80)
        return 1;
    size_t length = 0;
    if (first >= 0xC2 && first <= 0xDF)
        length = 2;
    else if (first >= 0xE0 && first <= 0xEF)
        length = 3;
    else if (first >= 0xF0 && first <= 0xF4)
        length = 4;
    if (length == 0 || length > bytes || !second_byte_fits(first, (unsigned char)text[1]))
        return 0;
    for (size_t i = 2; i < length; i++)
        if (!is_continuation((unsigned char)text[i]))
            return 0;
    return length;
}

bool text_is_utf8(const char *text, size_t bytes)
{
    while (bytes > 0) {
        size_t length = text_character(text, bytes);
        if (length == 0)
            return false;
        text += length;
        bytes -= length;
    }
    return true;
}

bool text_has_control(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            return true;
    return false;
}

uint32_t text_code_point(const char *text, size_t length)
{
    static const unsigned char first_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    assert(length >= 1 && length <= 4);
    uint32_t point = (unsigned char)text[0] & first_bits[length];
    for (size_t i = 1; i < length; i++)
        point = point << 6 | ((unsigned char)text[i] & 0x3fu);
    return point;
}

/* Characters that are UTF-8 and still not for terminals and logs. */
static const struct {
    uint32_t first, last;
} unprintable[] = {
    {0x0000, 0x001f},   /* C0 */
    {0x007f, 0x009f},   /* DEL, C1 */
    {0x00ad, 0x00ad},   /* soft hyphen */
    {0x061c, 0x061c},   /* Arabic letter mark */
    {0x180e, 0x180e},   /* Mongolian vowel separator: no width */
    {0x200b, 0x200f},   /* no width; direction marks */
    {0x2028, 0x202e},   /* line and paragraph separators; embeddings and overrides */
    {0x2060, 0x206f},   /* word joiner, invisible operators, isolates, deprecated controls */
    {0xfeff, 0xfeff},   /* byte order mark */
    {0xfff9, 0xfffb},   /* interlinear annotation */
    {0xe0000, 0xe007f}, /* tags: no width */
};

size_t text_printable_character(const char *text, size_t bytes)
{
    size_t length = text_character(text, bytes);
    uint32_t point = length > 0 ? text_code_point(text, length) : 0;
    for (size_t i = 0; i < sizeof unprintable / sizeof unprintable[0]; i++)
        if (point >= unprintable[i].first && point <= unprintable[i].last)
            return 0;
    return length;
}

size_t text_escape_character(const char *text, size_t bytes, char ret_escape[TEXT_ESCAPE_BYTES])
{
    assert(bytes > 0);
    size_t length = text_character(text, bytes);
    uint32_t point = length > 0 ? text_code_point(text, length) : 0xdc00u + (unsigned char)text[0];
    (void)snprintf(ret_escape, TEXT_ESCAPE_BYTES, "\\u{%x}", (unsigned)point);
    return length > 0 ? length : 1;
}

/* Copies `text` escaped while it fits into `room` bytes, of which none is written when `target` is
 * NULL; returns the bytes taken, without an end. */
static size_t copy_printable(char *target, size_t room, const char *text)
{
    size_t left = strlen(text);
    size_t used = 0;
    while (left > 0) {
        char escape[TEXT_ESCAPE_BYTES];
        const char *piece = text;
        size_t step = text_printable_character(text, left);
        size_t bytes = step;
        if (step == 0) {
            step = text_escape_character(text, left, escape);
            piece = escape;
            bytes = strlen(escape);
        }
        if (bytes > room - used)
            break;
        if (target != NULL)
            memcpy(target + used, piece, bytes);
        used += bytes;
        text += step;
        left -= step;
    }
    return used;
}

void text_copy_printable(char *target, size_t target_bytes, const char *text)
{
    assert(target_bytes > 0 && text != NULL);
    target[copy_printable(target, target_bytes - 1, text)] = '\0';
}

char *text_printable(const char *text)
{
    size_t bytes = copy_printable(NULL, SIZE_MAX, text);
    char *copy = memory_zeroed(bytes + 1, 1);
    if (copy != NULL)
        copy_printable(copy, bytes, text);
    return copy;
}

size_t text_find(const char *const *words, size_t count, const char *text)
{
    size_t at = 0;
    while (at < count && strcmp(words[at], text) != 0)
        at++;
    return at;
}

char *text_trim(char *text)
{
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = '\0';
    while (isspace((unsigned char)*text))
        text++;
    return text;
}

void text_list_add(char *list, size_t size, const char *quote, const char *word)
{
    size_t used = strlen(list);
    assert(used < size);
    (void)snprintf(list + used, size - used, "%s%s%s%s", used == 0 ? "" : ", ", quote, word, quote);
}

struct text_stream {
    FILE *file;
    char *text;
    size_t bytes, room; /* room for the NUL is beside it */
    bool lost;
    char buffer[4096];
};

/* Called by stdio with what its buffer holds. */
static ssize_t stream_take(void *cookie, const char *data, size_t bytes)
{
    text_stream *self = cookie;
    if (bytes > self->room - self->bytes) {
        size_t larger = 0;
        char *moved = NULL;
        if (!__builtin_add_overflow(self->room, self->room, &larger) &&
            !__builtin_add_overflow(larger, bytes, &larger) && larger < SIZE_MAX)
            moved = memory_resized(self->text, larger + 1, 1);
        if (moved == NULL) {
            self->lost = true;
            return 0;
        }
        self->text = moved;
        self->room = larger;
    }
    if (bytes > 0)
        memcpy(self->text + self->bytes, data, bytes);
    self->bytes += bytes;
    return (ssize_t)bytes;
}

text_stream *text_stream_open(void)
{
    text_stream *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->text = memory_zeroed(1, 1);
    if (self->text != NULL)
        self->file = fopencookie(self, "w", (cookie_io_functions_t){.write = stream_take});
    if (self->file == NULL) {
        free(self->text);
        free(self);
        return NULL;
    }
    (void)setvbuf(self->file, self->buffer, _IOFBF, sizeof self->buffer);
    return self;
}

FILE *text_stream_file(const text_stream *self)
{
    return self->file;
}

size_t text_stream_bytes(text_stream *self)
{
    self->lost = fflush(self->file) != 0 || self->lost;
    return self->bytes;
}

char *text_stream_close(text_stream *self, size_t *ret_bytes)
{
    bool lost = ferror(self->file) != 0;
    lost = fclose(self->file) != 0 || lost || self->lost;
    char *text = self->text;
    if (lost) {
        free(text);
        text = NULL;
    } else {
        text[self->bytes] = '\0';
        if (ret_bytes != NULL)
            *ret_bytes = self->bytes;
    }
    free(self);
    return text;
}
