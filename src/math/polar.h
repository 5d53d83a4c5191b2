/* SPDX-License-Identifier: Apache-2.0 */
/* The nearest matrix with orthonormal rows: the polar factor P Q' of X = P diag(sigma) Q'. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>
#include <stdint.h>

/* X (rows x columns, contiguous, rows <= columns) becomes its polar factor (X X')^-1/2 X, and
 * *ret_sum the sum of its singular values (may be NULL). Directions whose singular value is below
 * polar_noise of the largest are no part of X but rounding: they are left out, and the factor has
 * fewer directions than rows. By the eigenvectors of the Gram matrix; with them in float32 (orders
 * above SPECTRUM_DOUBLE_ORDER) what they leave is made orthonormal by Newton-Schulz steps. X must
 * be finite. Errors: DIDI_NUMERIC, DIDI_NO_MEMORY. */
int polar_rows(size_t rows, size_t columns, float *x, double *ret_sum, didi_error *error);
double polar_noise(size_t rows);

/* Bytes that it takes beside X, at most. */
uint64_t polar_bytes(size_t rows, size_t columns);
