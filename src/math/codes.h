/* SPDX-License-Identifier: Apache-2.0 */
/* Codes of 1 to 8 bits as a stream, lowest bit first, and levels of one byte: 4 bits of exponent
 * and 4 of mantissa. Inside src/math: quantise.h and trellis.h store both. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    LEVEL_CODE_MAX = 255,
    LEVEL_OFFSET = 0x6F0, /* of a level's code from the upper bits of its float32 */
    LEVEL_SHIFT = 19,
};

static inline size_t codes_bytes(size_t count, unsigned bits)
{
    return (count * bits + 7) / 8;
}

/* The level of a code as a share of 2^exponent. */
static inline float level_of(unsigned code)
{
    float level = 0;
    uint32_t bits = (code + LEVEL_OFFSET) << LEVEL_SHIFT;
    memcpy(&level, &bits, sizeof level);
    return code > 0 ? level : 0.0F;
}

/* The code of the lowest level that is not below `share`, or the highest there is. */
static inline unsigned level_above(float share)
{
    uint32_t bits = 0;
    memcpy(&bits, &share, sizeof bits);
    bits = (bits + (1U << LEVEL_SHIFT) - 1) >> LEVEL_SHIFT;
    if (bits <= LEVEL_OFFSET)
        return 1;
    return bits - LEVEL_OFFSET < LEVEL_CODE_MAX ? bits - LEVEL_OFFSET : LEVEL_CODE_MAX;
}

/* Eight codes are `bits` whole bytes. */
static inline void pack_codes(const uint8_t *codes, size_t count, unsigned bits, uint8_t *out)
{
    for (size_t first = 0; first < count; first += 8) {
        size_t taken = smaller(8, count - first);
        uint64_t word = 0;
        for (size_t i = 0; i < taken; i++)
            word |= (uint64_t)codes[first + i] << (i * bits);
        memcpy(out, &word, (taken * bits + 7) / 8);
        out += bits;
    }
}

static inline void unpack_codes(const uint8_t *in, size_t count, unsigned bits, uint8_t *codes)
{
    uint64_t mask = (1U << bits) - 1;
    for (size_t first = 0; first < count; first += 8) {
        size_t taken = smaller(8, count - first);
        uint64_t word = 0;
        memcpy(&word, in, (taken * bits + 7) / 8);
        for (size_t i = 0; i < taken; i++)
            codes[first + i] = (uint8_t)(word >> (i * bits) & mask);
        in += bits;
    }
}
