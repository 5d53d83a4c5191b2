/* SPDX-License-Identifier: Apache-2.0 */
/* Discrete Fourier transforms of any length, in double: those that 2, 3 and 5 make up are split by
 * them (Cooley and Tukey 1965), others are a convolution of a power of two (Bluestein 1970). */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fourier_number {
    double real, imaginary;
} fourier_number;

/* X (rows x columns, contiguous) becomes its transform along both axes: X_kl = sum over a and b of
 * x_ab e^(-2 pi i (k a / rows + l b / columns)); with `inverse` the other sign, divided by
 * rows columns. rows, columns: at least 1. Errors: DIDI_NO_MEMORY, and X is then undefined. */
int fourier_transform(size_t rows, size_t columns, bool inverse, fourier_number *x,
                      didi_error *error);
/* Bytes that it takes beside X. */
uint64_t fourier_memory(size_t rows, size_t columns);
