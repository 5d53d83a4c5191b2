/* SPDX-License-Identifier: Apache-2.0 */
/* Group-wise symmetric quantisation with a search of each group's level. */
#include "src/math/quantise.h"

#include "src/base/base.h"
#include "src/math/codes.h"
#include "src/math/vector.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    LANES = 16,
    LANES_NEAR = 10,  /* a best level among the first of these is taken for the best of all */
    LEVELS_ABOVE = 2, /* tried above the first that clips nothing: a step may fit by chance */
    EXPONENT_MIN = -100,
    EXPONENT_MAX = 127,
};

/* Levels tried for one group and what each gives, u being code - (2^bits - 1) / 2. */
typedef struct trial {
    float step[LANES];
    float product[LANES]; /* sum x u */
    float square[LANES];  /* sum u^2 */
} trial;

size_t quantise_groups_bytes(size_t count, unsigned bits)
{
    assert(bits >= 1 && bits <= QUANTISE_BITS_MAX && count <= SIZE_MAX / 16);
    return codes_bytes(count, bits) + (count + QUANTISE_GROUP - 1) / QUANTISE_GROUP;
}

size_t quantise_row_bytes(size_t count, unsigned bits)
{
    return 1 + quantise_groups_bytes(count, bits);
}

/* ---- levels ---- */

VECTOR_CLONES
static float largest_magnitude(const float *values, size_t count)
{
    /* Magnitudes compare as their bits do, which vectorises. */
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = 0;
        memcpy(&bits, values + i, sizeof bits);
        bits &= 0x7FFFFFFFU;
        largest = bits > largest ? bits : largest;
    }
    float magnitude = 0;
    memcpy(&magnitude, &largest, sizeof magnitude);
    return magnitude;
}

int quantise_exponent(const float *values, size_t count)
{
    float largest = largest_magnitude(values, count);
    if (largest < ldexpf(1.0F, EXPONENT_MIN))
        return EXPONENT_MIN;
    int exponent = ilogbf(largest) + 1;
    if (exponent <= EXPONENT_MAX && largest > ldexpf(level_of(LEVEL_CODE_MAX), exponent))
        exponent++;
    return exponent < EXPONENT_MAX ? exponent : EXPONENT_MAX;
}

/* ---- one group ---- */

static inline float half_of(unsigned bits)
{
    return (float)((1U << bits) - 1) / 2.0F;
}

/* From code to code; a group's values are multiples of half of it. */
static inline float step_of(float level, unsigned bits)
{
    return level / half_of(bits);
}

/* A code as a float; `half` is (2^bits - 1) / 2. Codes outside of 0 .. 2 half are the nearest. */
static inline float code_of(float value, float inverse, float half)
{
    float position = value * inverse + (half + 0.5F);
    position = position > 0.0F ? position : 0.0F;
    position = position < 2.0F * half ? position : 2.0F * half;
    return (float)(int32_t)position;
}

VECTOR_CLONES
static void trial_run(trial *self, const float *restrict x, size_t count, float half)
{
    float inverse[LANES];
    float product[LANES];
    float square[LANES];
    for (size_t j = 0; j < LANES; j++) {
        inverse[j] = 1.0F / self->step[j];
        product[j] = square[j] = 0.0F;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < LANES; j++) {
            float u = code_of(x[i], inverse[j], half) - half;
            product[j] += x[i] * u;
            square[j] += u * u;
        }
    }
    memcpy(self->product, product, sizeof product);
    memcpy(self->square, square, sizeof square);
}

/* The code of the level with the lowest squared error for values as shares of 2^exponent. Levels
 * are tried from above the first that clips nothing downwards, as long as lower ones are better. */
static unsigned group_search(const float *x, size_t count, unsigned bits)
{
    float half = half_of(bits);
    unsigned best = 0;
    float best_error = INFINITY; /* less sum x^2, so that zeros give 0 */
    bool lower = true;
    unsigned first = level_above(largest_magnitude(x, count)) + LEVELS_ABOVE;
    for (unsigned top = first < LEVEL_CODE_MAX ? first : LEVEL_CODE_MAX; top > 0 && lower;
         top = top > LANES ? top - LANES : 0) {
        trial tried;
        for (unsigned j = 0; j < LANES; j++)
            tried.step[j] = step_of(level_of(top > j ? top - j : 1), bits);
        trial_run(&tried, x, count, half);
        lower = false;
        for (unsigned j = 0; j < LANES && j < top; j++) {
            float step = tried.step[j];
            float error = step * (step * tried.square[j] - 2.0F * tried.product[j]);
            if (error < best_error) {
                best_error = error;
                best = top - j;
                lower = j >= LANES_NEAR;
            }
        }
    }
    return best_error < 0.0F ? best : 0;
}

VECTOR_CLONES
static void group_codes(const float *restrict x, size_t count, float step, float half,
                        uint8_t *restrict codes)
{
    float inverse = step > 0.0F ? 1.0F / step : 0.0F;
    for (size_t i = 0; i < count; i++)
        codes[i] = (uint8_t)code_of(x[i], inverse, half);
}

void quantise_groups(const float *values, size_t count, unsigned bits, int exponent, uint8_t *out)
{
    assert(bits >= 1 && bits <= QUANTISE_BITS_MAX);
    assert(exponent >= EXPONENT_MIN && exponent <= EXPONENT_MAX);
    uint8_t *levels = out + codes_bytes(count, bits);
    float factor = ldexpf(1.0F, -exponent);
    for (size_t first = 0; first < count; first += QUANTISE_GROUP) {
        size_t taken = smaller(QUANTISE_GROUP, count - first);
        float shares[QUANTISE_GROUP];
        uint8_t codes[QUANTISE_GROUP];
        for (size_t i = 0; i < taken; i++)
            shares[i] = values[first + i] * factor;
        unsigned level = group_search(shares, taken, bits);
        group_codes(shares, taken, step_of(level_of(level), bits), half_of(bits), codes);
        pack_codes(codes, taken, bits, out + first / 8 * bits);
        *levels++ = (uint8_t)level;
    }
}

VECTOR_CLONES
static void group_values(const uint8_t *restrict codes, size_t count, float step, float half,
                         float *restrict out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = ((float)codes[i] - half) * step;
}

void dequantise_groups(const uint8_t *in, size_t count, unsigned bits, int exponent, float *out)
{
    assert(bits >= 1 && bits <= QUANTISE_BITS_MAX);
    const uint8_t *levels = in + codes_bytes(count, bits);
    for (size_t first = 0; first < count; first += QUANTISE_GROUP) {
        size_t taken = smaller(QUANTISE_GROUP, count - first);
        uint8_t codes[QUANTISE_GROUP];
        float step = step_of(ldexpf(level_of(*levels++), exponent), bits);
        unpack_codes(in + first / 8 * bits, taken, bits, codes);
        group_values(codes, taken, step, half_of(bits), out + first);
    }
}

void quantise_row(const float *values, size_t count, unsigned bits, uint8_t *out)
{
    int exponent = quantise_exponent(values, count);
    out[0] = (uint8_t)(int8_t)exponent;
    quantise_groups(values, count, bits, exponent, out + 1);
}

void dequantise_row(const uint8_t *in, size_t count, unsigned bits, float *out)
{
    dequantise_groups(in + 1, count, bits, (int8_t)in[0], out);
}

double quantise_noise(unsigned bits)
{
    assert(bits >= 1 && bits <= QUANTISE_BITS_MAX);
    static const double measured[QUANTISE_BITS_MAX + 1] = {
        1.0, 0.3577, 0.1130, 0.0330, 0.00881, 0.00222, 0.000560, 0.000141, 0.0000354};
    return measured[bits];
}
