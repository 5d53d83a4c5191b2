/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of numbers in 1 to 8 bits each, with one level for every group of 64.
 *
 * A code q in 0 .. 2^bits - 1 stands for (q - half) * step, half = (2^bits - 1) / 2: a symmetric
 * grid without zero, with +-level at its ends. step = level / half, and level = (16 + c mod 16)
 * 2^(floor(c / 16) - 20 + exponent) for the group's byte c, or 0 for c = 0. Quantised groups are
 * the codes as one stream of bits, the lowest bit of the lowest byte first, filled up to a whole
 * byte, and then the byte c of every started group (the last may be short). The exponent is shared
 * by rows of like magnitudes; a quantised row has its own, a signed byte before the rest. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { QUANTISE_GROUP = 64, QUANTISE_BITS_MAX = 8 };

/* Bytes of a row, and without its exponent, of `count` numbers at 1 to 8 `bits`; count <=
 * SIZE_MAX / 16. */
size_t quantise_row_bytes(size_t count, unsigned bits);
size_t quantise_groups_bytes(size_t count, unsigned bits);

/* Quantises `count` finite values into `out` (quantise_row_bytes). Of the levels that can be stored
 * a group gets the one with the lowest squared error, as far as a search downwards from the largest
 * magnitude finds it. Magnitudes far below the row's largest (2^-16 of it) or below 2^-100 become
 * zero or as near to it as can be stored. The same values give the same bytes on every processor.
 */
void quantise_row(const float *values, size_t count, unsigned bits, uint8_t *out);

/* The values of a quantised row: float32, finite for any bytes. */
void dequantise_row(const uint8_t *in, size_t count, unsigned bits, float *out);

/* The exponent for `values`, from their largest magnitude: -100 to 127. A higher one gives the same
 * values as long as the levels of their groups are within its 16 octaves. */
int quantise_exponent(const float *values, size_t count);

/* As quantise_row and dequantise_row with an exponent that is kept elsewhere, at least that of
 * the values. */
void quantise_groups(const float *values, size_t count, unsigned bits, int exponent, uint8_t *out);
void dequantise_groups(const uint8_t *in, size_t count, unsigned bits, int exponent, float *out);

/* Mean of |x - x^|^2 / |x|^2 over normally distributed rows in full groups, at 1 to 8 bits:
 * measured. */
double quantise_noise(unsigned bits);
