/* SPDX-License-Identifier: Apache-2.0 */
/* Which of some words somebody may have meant. */
#include "src/base/nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { NEAREST_BEGIN_BYTES = 3 }; /* so much of a word tells it */

nearest nearest_begin(const char *wanted)
{
    return (nearest){.wanted = wanted, .distance = SIZE_MAX};
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Of two words of NEAREST_BYTES_MAX bytes at most: rows of the table that the next one needs. */
static size_t distance_of(const char *a, const char *b)
{
    size_t rows[3][NEAREST_BYTES_MAX + 1];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *now = rows[2];
    const size_t columns = strlen(b);
    for (size_t j = 0; j <= columns; j++)
        last[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        now[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            const size_t wrong = same(a[i - 1], b[j - 1]) ? 0 : 1;
            now[j] = least(last[j - 1] + wrong, least(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
                now[j] = least(now[j], before[j - 2] + 1);
        }
        size_t *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[columns];
}

static bool ends_behind_slash(const char *word, size_t bytes, const char *ending, size_t wanted)
{
    return bytes > wanted && word[bytes - wanted - 1] == '/' &&
           strcmp(word + bytes - wanted, ending) == 0;
}

void nearest_try(nearest *self, const char *candidate)
{
    const size_t wanted = strlen(self->wanted);
    const size_t bytes = strlen(candidate);
    if (wanted == 0 || bytes == 0 || wanted > NEAREST_BYTES_MAX || bytes > NEAREST_BYTES_MAX)
        return;
    const bool tells =
        (wanted >= NEAREST_BEGIN_BYTES && strncasecmp(candidate, self->wanted, wanted) == 0) ||
        ends_behind_slash(candidate, bytes, self->wanted, wanted);
    const size_t distance = tells ? 1 : distance_of(self->wanted, candidate);
    const size_t most = wanted < 3 ? 1 : (wanted + 2) / 3;
    if (distance >= self->distance || distance > most || distance >= wanted)
        return;
    self->distance = distance;
    memcpy(self->found, candidate, bytes + 1);
}

char *nearest_text(const nearest *self, const char *before, const char *after,
                   char target[NEAREST_TEXT_BYTES])
{
    target[0] = '\0';
    if (self->found[0] != '\0')
        snprintf(target, NEAREST_TEXT_BYTES, "; did you mean %s%s%s?", before, self->found, after);
    return target;
}
