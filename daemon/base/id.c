/* SPDX-License-Identifier: Apache-2.0 */
/* Time-sortable identifiers. */
#include "daemon/base/id.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

enum { TIME_CHARACTERS = 10 };

static const char id_alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

static void id_encode(const uint8_t bytes[16], char ret_id[ID_BYTES])
{
    /* 130 bits for 128: the first character carries three. */
    for (unsigned i = 0; i < ID_CHARACTERS; i++) {
        unsigned value = 0;
        for (unsigned bit = 0; bit < 5; bit++) {
            int position = (int)(i * 5 + bit) - 2;
            unsigned byte = position < 0 ? 0U : bytes[position / 8];
            unsigned set = position < 0 ? 0U : byte >> (7 - position % 8) & 1U;
            value = value << 1 | set;
        }
        ret_id[i] = id_alphabet[value];
    }
    ret_id[ID_CHARACTERS] = '\0';
}

/* The id after `previous` in sort order. */
static void id_increment(const char *previous, char ret_id[ID_BYTES])
{
    memmove(ret_id, previous, ID_BYTES);
    for (int i = ID_CHARACTERS - 1; i >= 0; i--) {
        const char *place = strchr(id_alphabet, ret_id[i]);
        assert(place != NULL);
        if (place[1] != '\0') {
            ret_id[i] = place[1];
            return;
        }
        ret_id[i] = id_alphabet[0];
    }
}

/* The first characters: the time alone. */
static void time_encode(int64_t milliseconds, char ret_text[TIME_CHARACTERS])
{
    for (unsigned i = 0; i < TIME_CHARACTERS; i++)
        ret_text[i] = id_alphabet[(uint64_t)milliseconds >> (5 * (TIME_CHARACTERS - 1 - i)) & 31U];
    ret_text[0] = id_alphabet[(uint64_t)milliseconds >> 45 & 7U];
}

int id_next(int64_t milliseconds, const char *previous, char ret_id[ID_BYTES])
{
    uint8_t bytes[16];
    char now[TIME_CHARACTERS];
    time_encode(milliseconds, now);
    /* Within a millisecond nothing random is asked for: many requests have one. */
    if (previous != NULL && id_is_valid(previous) && memcmp(now, previous, sizeof now) <= 0) {
        id_increment(previous, ret_id);
        return 0;
    }
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return -1;
    for (int i = 0; i < 6; i++)
        bytes[i] = (uint8_t)((uint64_t)milliseconds >> (40 - 8 * i));
    id_encode(bytes, ret_id);
    return 0;
}

static bool is_digit(char c)
{
    return (c >= '0' && c <= '9') ||
           (c >= 'a' && c <= 'z' && c != 'i' && c != 'l' && c != 'o' && c != 'u');
}

bool id_is_valid(const char *text)
{
    size_t count = 0;
    if (text == NULL || text[0] > '7')
        return false;
    while (count < ID_CHARACTERS && is_digit(text[count]))
        count++;
    return count == ID_CHARACTERS && text[count] == '\0';
}

int64_t id_milliseconds(const char *id)
{
    uint64_t value = 0;
    for (int i = 0; i < TIME_CHARACTERS; i++)
        value = value << 5 | (uint64_t)(strchr(id_alphabet, id[i]) - id_alphabet);
    return (int64_t)(value & 0xffffffffffff);
}
