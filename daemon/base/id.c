/* SPDX-License-Identifier: Apache-2.0 */
/* Time-sortable identifiers. */
#include "daemon/base/id.h"

#include <string.h>
#include <sys/random.h>

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
        if (place[1] != '\0') {
            ret_id[i] = place[1];
            return;
        }
        ret_id[i] = id_alphabet[0];
    }
}

int id_next(int64_t milliseconds, const char *previous, char ret_id[ID_BYTES])
{
    uint8_t bytes[16];
    char fresh[ID_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return -1;
    for (int i = 0; i < 6; i++)
        bytes[i] = (uint8_t)((uint64_t)milliseconds >> (40 - 8 * i));
    id_encode(bytes, fresh);
    if (previous != NULL && id_is_valid(previous) && strncmp(fresh, previous, 10) <= 0)
        id_increment(previous, ret_id);
    else
        memcpy(ret_id, fresh, ID_BYTES);
    return 0;
}

bool id_is_valid(const char *text)
{
    return text != NULL && strnlen(text, ID_BYTES) == ID_CHARACTERS && text[0] <= '7' &&
           strspn(text, id_alphabet) == ID_CHARACTERS;
}
