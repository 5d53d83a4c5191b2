/* SPDX-License-Identifier: Apache-2.0 */
/* A matrix cut to its leading singular triplets, as a package stores them: the nearest matrix of
 * that rank (Eckart and Young 1936), rounded or packed. */
#pragma once

#include "src/didi.h"

typedef struct truncated {
    size_t rank;   /* 0: the matrix is zero, and nothing is stored */
    double *sigma; /* rank: singular values */
    float *b, *a;  /* m x rank and rank x n, rounded to the output dtype; NULL where it packs */
    uint8_t *packed;
    size_t packed_bytes;
} truncated;

/* Cuts X (m x n, finite) to `rank` triplets, at least 1 and at most min(m, n); fewer where singular
 * values are zero to float32. Both factors get the roots of the singular values; where numbers are
 * packed the right one is refitted to the left one as it is stored. X ends as what the stored
 * numbers miss of it. Errors: DIDI_NUMERIC, DIDI_NO_MEMORY; *ret_cut is then empty. */
int truncate_matrix(size_t m, size_t n, float *x, size_t rank, didi_precision precision,
                    truncated *ret_cut, didi_error *error);
void truncated_clear(truncated *self);

/* Bytes that this takes beside X, and of what it returns. */
uint64_t truncate_memory(uint64_t m, uint64_t n, uint64_t rank);
uint64_t truncated_memory(uint64_t m, uint64_t n, uint64_t rank);
