/* SPDX-License-Identifier: Apache-2.0 */
/* What an expert picks instead of holding numbers of its own for all of a tensor: a mask over what
 * is shared, signs of one magnitude, or the numbers of a few places. The parts of format 5
 * (docs/format.md, section 8). */
#pragma once

#include "src/base/base.h"
#include "src/package/packed.h"

#include <stdbool.h>
#include <stdint.h>

/* Bytes of `count` bits: bit i is bit i mod 8, the lowest first, of byte i div 8. */
uint64_t bits_bytes(uint64_t count);

static inline bool bits_at(const uint8_t *bits, uint64_t index)
{
    return (bits[index / 8] >> index % 8 & 1) != 0;
}

/* That `bytes` are `count` bits and the last byte is filled up with zeros. Pure. Errors:
 * DIDI_MISMATCH (another length), DIDI_FORMAT (a bit beyond the last), with `tensor` as subject. */
int bits_check(const uint8_t *bytes, uint64_t size, uint64_t count, const char *tensor,
               didi_error *error);

/* That the columns of each row ascend and are below `columns`. Pure. Errors: DIDI_FORMAT. */
int places_check(const uint32_t *places, uint64_t rows, uint64_t entries, uint64_t columns,
                 const char *tensor, didi_error *error);

/* All of an expert for one tensor; owns its arrays. */
typedef struct picks {
    uint64_t rows, columns;
    uint8_t *mask;  /* rows x columns bits: where `scale` times what is shared is added */
    uint8_t *signs; /* rows x columns bits: `scale` is added, or taken away where it is 0 */
    float scale;
    float *masked;         /* what a mask is over: rows x columns, ... */
    uint8_t *masked_bytes; /* ... or packed; both NULL without a mask */
    packed masked_packed;  /* a view of these */
    uint64_t entries;      /* of each row */
    uint32_t *places;      /* rows x entries: columns, ascending */
    float *values;         /* rows x entries: what is added there */
} picks;

bool picks_are_empty(const picks *self);
/* Adds rows first .. first + rows to out (rows x columns, contiguous). What a mask is over must be
 * there. Errors: DIDI_NO_MEMORY. */
int picks_add(const picks *self, uint64_t first, uint64_t rows, float *out, didi_error *error);
/* Frees the arrays; a zeroed one is fine. */
void picks_clear(picks *self);
