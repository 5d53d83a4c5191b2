/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of numbers in 1 to 8 bits each, with one scale for every group of 64.
 *
 * A code q in 0 .. 2^bits - 1 stands for (q - (2^bits - 1) / 2) * scale: a symmetric grid without
 * zero. A packed row is the codes as one stream of bits, the lowest bit of the lowest byte first,
 * filled up to a whole byte, and then the scales, 16 bits little-endian each, one for every started
 * group (the last group may be short). A stored scale s is the float32 whose bits are s << 15:
 * eight bits of exponent and eight of mantissa, no sign.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QUANTISE_GROUP = 64, QUANTISE_BITS_MAX = 8 };

/* Bytes of a packed row of `count` numbers at 1 to 8 `bits`; count <= SIZE_MAX / 16. */
size_t quantise_row_bytes(size_t count, unsigned bits);

/* Packs `count` finite values into `out` (quantise_row_bytes). The scale of a group is searched for
 * the lowest squared error: clip factors first, then least squares for the codes they give; codes
 * are chosen for the scale as it is stored. A group without a magnitude of 1e-30 has scale 0. The
 * same values give the same bytes on every processor. */
void quantise_row(const float *values, size_t count, unsigned bits, uint8_t *out);

/* The values a packed row stands for: float32 products, exact but for one rounding. Any bytes of
 * the right number can be read, and give finite values if quantise_row_is_finite. */
void dequantise_row(const uint8_t *in, size_t count, unsigned bits, float *out);

/* Whether no code of a packed row could stand for Inf or NaN. Always so after quantise_row. */
bool quantise_row_is_finite(const uint8_t *in, size_t count, unsigned bits);

/* Mean of |x - x^|^2 / |x|^2 over normally distributed rows in full groups, at 1 to 8 bits:
 * measured. */
double quantise_noise(unsigned bits);
