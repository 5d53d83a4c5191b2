/* SPDX-License-Identifier: Apache-2.0 */
/* splitmix64, counter-based. Short because the numbers of a seed depend on nothing else. */
#include "src/math/random.h"

#include "src/base/base.h"

#include <assert.h>

uint64_t random_mix(uint64_t seed, uint64_t value)
{
    uint64_t z = seed + 0x9e3779b97f4a7c15U * (value + 1);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

void random_normal(uint64_t seed, float *values, size_t count, float scale)
{
    random_normal_from(seed, 0, values, count, scale);
}

void random_normal_from(uint64_t seed, uint64_t first, float *values, size_t count, float scale)
{
    assert(scale >= 0);
    /* A uniform 16-bit number has variance (65536^2 - 1) / 12; four of them four times that. */
    const float unit = scale * (1.0F / 37837.227F);
    enum { PIECE = 1 << 16 };
    for (size_t i = 0; i < count; i++) {
        if (i % PIECE == 0)
            spill_touched(PIECE * sizeof *values);
        uint64_t z = random_mix(seed, first + i);
        int32_t sum = (int32_t)(z & 0xffff) + (int32_t)((z >> 16) & 0xffff) +
                      (int32_t)((z >> 32) & 0xffff) + (int32_t)(z >> 48) - 131070;
        values[i] = (float)sum * unit;
    }
}
