/* SPDX-License-Identifier: Apache-2.0 */
/* Identifiers that sort by time: 48 bits of milliseconds and 80 random bits in Crockford's base 32,
 * lower case, 26 characters. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { ID_CHARACTERS = 26, ID_BYTES = 27 };

/* Makes an id for the time `milliseconds`. It sorts after `previous` (NULL for none): if the clock
 * did not advance, the previous id plus one is given. Returns 0, or -1 when the kernel gives no
 * random bits. */
int id_next(int64_t milliseconds, const char *previous, char ret_id[ID_BYTES]);

/* True for text that id_next could have made. */
bool id_is_valid(const char *text);

/* The time of a valid id, in milliseconds. */
int64_t id_milliseconds(const char *id);
