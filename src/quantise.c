/* SPDX-License-Identifier: Apache-2.0 */
/* Group-wise symmetric quantisation with a search of the scale. */
#include "src/quantise.h"

#include "src/vector.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

static const float magnitude_min = 1e-30F;
static const float magnitude_max = 3e38F; /* every value is below it, whatever its scale */

/* Shares of the scale that clips nothing, down to which scales are tried: about half of the best
 * share for normally distributed values. */
static const float share_min[QUANTISE_BITS_MAX + 1] = {0.0F,  0.2F, 0.2F, 0.3F, 0.4F,
                                                       0.55F, 0.7F, 0.8F, 0.88F};

/* Scales tried for one group and what each gives, u being code - (2^bits - 1) / 2. */
typedef struct trial {
    float scale[LANES];
    float product[LANES]; /* sum x u */
    float square[LANES];  /* sum u^2 */
} trial;

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t quantise_row_bytes(size_t count, unsigned bits)
{
    return (count * bits + 7) / 8 + 2 * ((count + QUANTISE_GROUP - 1) / QUANTISE_GROUP);
}

/* Scales keep 8 bits of exponent and 8 of mantissa: a float32 without its sign, cut after 16 bits
 * and rounded to nearest even. */
static inline uint32_t scale_bits(float scale)
{
    uint32_t bits = 0;
    memcpy(&bits, &scale, sizeof bits);
    return (bits + 0x3FFFU + (bits >> 15 & 1U)) >> 15;
}

static inline float scale_of_bits(uint32_t bits)
{
    float scale = 0;
    bits <<= 15;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

static inline float scale_round(float scale)
{
    return scale_of_bits(scale_bits(scale));
}

/* A code as a float; `half` is (2^bits - 1) / 2. Codes outside of 0 .. 2 half are the nearest. */
static inline float code_of(float value, float inverse, float half)
{
    float position = value * inverse + (half + 0.5F);
    position = position > 0.0F ? position : 0.0F;
    position = position < 2.0F * half ? position : 2.0F * half;
    return (float)(int32_t)position;
}

static inline float half_of(unsigned bits)
{
    return (float)((1U << bits) - 1) / 2.0F;
}

VECTOR_CLONES
static void trial_run(trial *self, const float *restrict x, size_t count, float half)
{
    float inverse[LANES];
    float product[LANES];
    float square[LANES];
    for (size_t j = 0; j < LANES; j++) {
        inverse[j] = 1.0F / self->scale[j];
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

/* A stored scale of low squared error; `largest` is the largest magnitude, between 1 and 2. */
static float group_search(const float *x, size_t count, unsigned bits, float largest)
{
    float half = half_of(bits);
    float step = (1.0F - share_min[bits]) / (float)(LANES - 1);
    trial tried;
    for (size_t j = 0; j < LANES; j++)
        tried.scale[j] = scale_round(largest * (1.0F - step * (float)j) / half);
    trial_run(&tried, x, count, half);
    for (size_t j = 0; j < LANES; j++)
        tried.scale[j] = scale_round(tried.product[j] / tried.square[j]);
    trial_run(&tried, x, count, half);
    size_t best = 0;
    float best_error = INFINITY;
    for (size_t j = 0; j < LANES; j++) {
        float scale = tried.scale[j];
        float error = scale * (scale * tried.square[j] - 2.0F * tried.product[j]);
        if (error < best_error) {
            best_error = error;
            best = j;
        }
    }
    return tried.scale[best];
}

/* The stored scale for a group. Powers of two move its values to where squares neither overflow nor
 * vanish, without rounding. */
static float group_scale(const float *x, size_t count, unsigned bits)
{
    float largest = 0.0F;
    for (size_t i = 0; i < count; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    if (largest < magnitude_min)
        return 0.0F;
    float moved[QUANTISE_GROUP];
    int exponent = ilogbf(largest);
    float factor = ldexpf(1.0F, -exponent);
    for (size_t i = 0; i < count; i++)
        moved[i] = x[i] * factor;
    float scale = group_search(moved, count, bits, largest * factor);
    float limit = magnitude_max / (half_of(bits) + 1.0F);
    return scale_round(fminf(ldexpf(scale, exponent), limit));
}

VECTOR_CLONES
static void group_codes(const float *restrict x, size_t count, float scale, float half,
                        uint8_t *restrict codes)
{
    float inverse = scale > 0.0F ? 1.0F / scale : 0.0F;
    for (size_t i = 0; i < count; i++)
        codes[i] = (uint8_t)code_of(x[i], inverse, half);
}

/* Eight codes are `bits` whole bytes. */
static void pack_codes(const uint8_t *codes, size_t count, unsigned bits, uint8_t *out)
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

static void unpack_codes(const uint8_t *in, size_t count, unsigned bits, uint8_t *codes)
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

void quantise_row(const float *values, size_t count, unsigned bits, uint8_t *out)
{
    uint8_t *scales = out + (count * bits + 7) / 8;
    for (size_t first = 0; first < count; first += QUANTISE_GROUP) {
        size_t taken = smaller(QUANTISE_GROUP, count - first);
        uint8_t codes[QUANTISE_GROUP];
        float scale = group_scale(values + first, taken, bits);
        group_codes(values + first, taken, scale, half_of(bits), codes);
        pack_codes(codes, taken, bits, out + first / 8 * bits);
        uint16_t stored = (uint16_t)scale_bits(scale);
        memcpy(scales, &stored, sizeof stored);
        scales += sizeof stored;
    }
}

VECTOR_CLONES
static void group_values(const uint8_t *restrict codes, size_t count, float scale, float half,
                         float *restrict out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = ((float)codes[i] - half) * scale;
}

void dequantise_row(const uint8_t *in, size_t count, unsigned bits, float *out)
{
    const uint8_t *scales = in + (count * bits + 7) / 8;
    for (size_t first = 0; first < count; first += QUANTISE_GROUP) {
        size_t taken = smaller(QUANTISE_GROUP, count - first);
        uint8_t codes[QUANTISE_GROUP];
        uint16_t stored = 0;
        memcpy(&stored, scales, sizeof stored);
        scales += sizeof stored;
        unpack_codes(in + first / 8 * bits, taken, bits, codes);
        group_values(codes, taken, scale_of_bits(stored), half_of(bits), out + first);
    }
}

bool quantise_row_is_finite(const uint8_t *in, size_t count, unsigned bits)
{
    const uint8_t *end = in + quantise_row_bytes(count, bits);
    for (const uint8_t *scale = in + (count * bits + 7) / 8; scale < end; scale += 2) {
        uint16_t stored = 0;
        memcpy(&stored, scale, sizeof stored);
        if (!isfinite(half_of(bits) * scale_of_bits(stored)))
            return false;
    }
    return true;
}

double quantise_noise(unsigned bits)
{
    static const double measured[QUANTISE_BITS_MAX + 1] = {
        1.0, 0.3576, 0.1129, 0.0329, 0.00873, 0.00218, 0.000542, 0.0001353, 0.0000343};
    return measured[bits];
}
