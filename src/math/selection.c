/* SPDX-License-Identifier: Apache-2.0 */
/* A float's bits, turned so that they are in its order as an unsigned number, are counted by their
 * upper 16 bits and then, of those that have the half found, by their lower ones. */
#include "src/math/selection.h"

#include "src/base/base.h"
#include "src/math/vector.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SIGN 0x80000000U
enum { HALF_BITS = 16, FEW = 32 };

int selection_create(selection *self, uint64_t rank, bool magnitudes, didi_error *error)
{
    *self = (selection){.rank = rank,
                        .magnitudes = magnitudes,
                        .bins = memory_zeroed(SELECTION_BINS, sizeof(uint64_t))};
    return self->bins != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "counts of %d numbers", SELECTION_BINS);
}

void selection_clear(selection *self)
{
    free(self->bins);
    *self = (selection){0};
}

/* Both zeros have one key. */
static uint32_t key_of(float value, uint32_t cleared)
{
    uint32_t bits = 0;
    value += 0.0F;
    memcpy(&bits, &value, sizeof bits);
    bits &= ~cleared;
    return (bits & SIGN) != 0 ? ~bits : bits | SIGN;
}

/* Whether any of a few numbers has this upper half: mostly none has. */
VECTOR_CLONES
static bool any_has(const float *values, uint32_t cleared, uint32_t upper)
{
    uint32_t found = 0;
    for (size_t i = 0; i < FEW; i++)
        found |= key_of(values[i], cleared) >> HALF_BITS == upper;
    return found != 0;
}

static void count_lower(const float *values, size_t count, uint32_t cleared, uint32_t upper,
                        uint64_t *bins)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t key = key_of(values[i], cleared);
        if (key >> HALF_BITS == upper)
            bins[key % SELECTION_BINS]++;
    }
}

void selection_count(const selection *self, const float *values, size_t count, uint64_t *bins)
{
    uint32_t cleared = self->magnitudes ? SIGN : 0;
    uint32_t upper = self->key >> HALF_BITS;
    assert(self->passes < 2);
    for (size_t i = 0; i < count && self->passes == 0; i++)
        bins[key_of(values[i], cleared) >> HALF_BITS]++;
    for (size_t i = 0; i < count && self->passes == 1; i += FEW)
        if (count - i < FEW || any_has(values + i, cleared, upper))
            count_lower(values + i, smaller(count - i, FEW), cleared, upper, bins);
}

void selection_add(selection *self, const uint64_t *bins)
{
    for (size_t i = 0; i < SELECTION_BINS; i++)
        self->bins[i] += bins[i];
}

void selection_add_zeros(selection *self, uint64_t zeros)
{
    if (self->passes == 0)
        self->bins[SIGN >> HALF_BITS] += zeros;
    else if (self->key >> HALF_BITS == SIGN >> HALF_BITS)
        self->bins[0] += zeros;
}

void selection_end_pass(selection *self)
{
    assert(self->passes < 2);
    size_t bin = SELECTION_BINS - 1;
    while (bin > 0 && self->rank >= self->bins[bin])
        self->rank -= self->bins[bin--];
    assert(self->rank < self->bins[bin]);
    self->key |= (uint32_t)bin << (self->passes == 0 ? HALF_BITS : 0);
    self->passes++;
    memset(self->bins, 0, SELECTION_BINS * sizeof *self->bins);
}

float selection_value(const selection *self)
{
    assert(self->passes == 2);
    uint32_t bits = (self->key & SIGN) != 0 ? self->key & ~SIGN : ~self->key;
    float value = 0;
    memcpy(&value, &bits, sizeof value);
    return value;
}
