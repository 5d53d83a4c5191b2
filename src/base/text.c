/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of text from outside: UTF-8 and control characters. */
#include "src/base/text.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
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

void text_copy_printable(char *target, size_t target_bytes, const char *text)
{
    assert(target_bytes > 0 && text != NULL);
    size_t left = strlen(text);
    size_t used = 0;
    while (left > 0) {
        size_t length = text_character(text, left);
        size_t step = length == 0 ? 1 : length;
        if (used + step >= target_bytes)
            break;
        if (length == 0 || text_has_control(text, 1))
            target[used] = '?';
        else
            memcpy(target + used, text, step);
        used += step;
        text += step;
        left -= step;
    }
    target[used] = '\0';
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
