/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays that the snapshot of a tensor may hold, "name.index": the only place that knows their
 * names and types. What they are is said where they are made; those of the last group are
 * published, and have the output's type where none is given. */
#pragma once

#include "src/files/files.h"

#define KEPT_ARRAY_TABLE(X)                                                                        \
    X(ENERGY, "energy", F64)           /* 1 x T: |tau_t|^2 */                                      \
    X(ERROR, "error", F64)             /* 1 x T: |stored - tau_t|^2 */                             \
    X(UNSHARED, "unshared", F64)       /* 1 x T: |shared part - tau_t|^2 */                        \
    X(SUMS, "sums", F64)               /* 1 x n: what a method sums up of a tensor */              \
    X(FILTERED, "filtered", F32)       /* m x n: sum of what a filter leaves of the tasks */       \
    X(LOSS, "loss", F64)               /* 1 x 1 */                                                 \
    X(TAIL, "tail", F64)               /* 1 x (T + 1): energy beyond the singular values */        \
    X(SIGMA, "sigma", F64)             /* of each block, n x 1: singular values */                 \
    X(PURSUED, "pursued", F64)         /* 1 x 4: what pursuit left */                              \
    X(LEFT, "left", F32)               /* of each block, basis x m */                              \
    X(RIGHT, "right", F32)             /* of each block, basis x n */                              \
    X(CROSS, "cross", F32)             /* (T q) x q: products of singular vectors */               \
    X(EXPERT_TAIL, "expert_tail", F64) /* T x q */                                                 \
    X(SHARED_TAIL, "shared_tail", F64) /* T x q */                                                 \
    X(CORNER, "corner", F64)           /* 1 x T */                                                 \
    X(B, "B", U8)                      /* of each file, m x rank; output's type */                 \
    X(A, "A", U8)                      /* of each file, rank x n; output's type */                 \
    X(DELTA, "delta", U8)              /* of each file, m x n; output's type */                    \
    X(PACKED, "packed", U8)            /* of each file, bytes x 1 */                               \
    X(BITS, "bits", U8)                /* of each expert, bytes x 1: a bit for each number */      \
    X(SCALE, "scale", F32)             /* of each expert, 1 x 1: of its bits */                    \
    X(COLUMNS, "columns", U8)          /* of each expert, m x entries; 16 or 32 bits */            \
    X(VALUES, "values", U8)            /* of each expert, m x entries; output's type */

typedef enum kept_array {
#define KEPT_ENUMERATOR(id, name, dtype) KEPT_##id,
    KEPT_ARRAY_TABLE(KEPT_ENUMERATOR)
#undef KEPT_ENUMERATOR
} kept_array;

enum { KEPT_NAME_BYTES = 32 };
void kept_name(kept_array array, size_t index, char ret_name[KEPT_NAME_BYTES]);
didi_dtype kept_dtype(kept_array array);

/* The array in a snapshot; *ret_rows may be NULL. Lives as long as the snapshot. Errors:
 * DIDI_FORMAT: it is not there, of another type or width. */
int kept_find(const snapshot *from, kept_array array, size_t index, uint64_t columns,
              uint64_t *ret_rows, const void **ret_data, didi_error *error);
/* Copies the `count` doubles of a row. Errors: the same. */
int kept_copy(const snapshot *from, kept_array array, double *values, size_t count,
              didi_error *error);
