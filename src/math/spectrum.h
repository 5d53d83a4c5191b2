/* SPDX-License-Identifier: Apache-2.0 */
/* Exact singular values and vectors of one dense matrix, by Gram matrix and symmetric eigensolver.
 */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for singular triplets of a matrix m x n. */
typedef struct triplets {
    size_t count;
    double *sigma;       /* count, descending */
    float *left, *right; /* rows of length one: count x m, count x n; both NULL for sigma alone */
    bool few;            /* no more are computed than are asked for: faster up to a third of them */
} triplets;

/* The `count` <= min(m, n) leading singular triplets of X (m x n). Works on the Gram matrix of the
 * smaller side: in double up to SPECTRUM_DOUBLE_ORDER (relative accuracy 1e-7 down to 1e-7 of the
 * largest value), above it in float32, where singular values below 3e-4 of the largest are noise
 * (method.md 5). Where sigma is 0, the row of the longer side is zero. Falls back to LAPACK's SVD
 * when the eigensolver does not converge. X is untouched and must be finite. Errors: DIDI_NUMERIC,
 * DIDI_NO_MEMORY. */
int spectrum_leading(size_t m, size_t n, const float *x, const triplets *ret_leading,
                     didi_error *error);

enum { SPECTRUM_DOUBLE_ORDER = 256 };

/* What share of the largest singular value of a matrix whose smaller side is `order` is noise. */
double spectrum_noise(size_t order);
/* Bytes that spectrum_leading takes beside X and what it returns, at most. */
uint64_t spectrum_memory(uint64_t m, uint64_t n);
