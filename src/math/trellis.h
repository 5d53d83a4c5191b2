/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of numbers at 1 to 4 bits each by trellis-coded quantisation (Marcellin and Fischer 1990),
 * with Ungerboeck's code of 128 states (1982) and one level for a row.
 *
 * Of the grid of 2^(bits + 1) values every fourth belongs to the same of four subsets. A number's
 * code has as its lowest bit the next bit of a sequence, whose last 8 bits name the subset by two
 * parities; the upper bits of the code say which value of the subset. So a number chooses among
 * twice the values its bits could name, and the encoder finds the best sequence for the whole row.
 *
 * A row is the codes as one stream, the lowest bit of the lowest byte first, filled up to a whole
 * byte, and then one byte c: the row's level is (16 + c mod 16) 2^(floor(c / 16) - 20 + exponent),
 * or 0 for c = 0, and a value is its whole number (docs/format.md) times level / 128. An exponent
 * above 125 counts as 125, so that all values are finite. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { TRELLIS_BITS_MAX = 4 };

/* Bytes of a row of `count` numbers at 1 to 4 `bits`; count <= SIZE_MAX / 16. */
size_t trellis_row_bytes(size_t count, unsigned bits);

/* Quantises `count` finite values into `out` (trellis_row_bytes), with an exponent that is kept
 * elsewhere: at least quantise_exponent of the values. The same values give the same bytes on every
 * processor. */
void trellis_row(const float *values, size_t count, unsigned bits, int exponent, uint8_t *out);

/* The values of such a row: float32, finite for any bytes. */
void trellis_values(const uint8_t *in, size_t count, unsigned bits, int exponent, float *out);

/* Mean of |x - x^|^2 / |x|^2 over normally distributed rows, at 1 to 4 bits: measured. */
double trellis_noise(unsigned bits);
