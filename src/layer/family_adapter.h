/* SPDX-License-Identifier: Apache-2.0 */
/* What adapters change, read. */
#pragma once

#include "src/layer/family.h"

/* One tensor of all models, and where bytes read are counted. */
typedef struct family_reader {
    const family *family;
    const family_tensor *tensor;
    atomic_ullong *bytes_read;
} family_reader;

/* Reads elements of a float tensor as float32, and counts their bytes. Errors: DIDI_NUMERIC (NaN or
 * Inf: names model, tensor and element), DIDI_CHANGED, DIDI_IO. */
int family_read_finite(const checkpoint *model, const checkpoint_tensor *source, uint64_t first,
                       float *values, uint64_t count, atomic_ullong *bytes_read, didi_error *error);

/* The factors of a task's change, which has some: left (rank x rows) and right (rank x columns),
 * the scale being on the left. Errors as above, and DIDI_NO_MEMORY. */
int family_read_factors(const family_reader *self, size_t task, float *left, float *right,
                        didi_error *error);

/* values += elements [first, first + count) of their product. Errors: the same; DIDI_NUMERIC where
 * it overflows. */
int family_add_factors(const family_reader *self, size_t task, uint64_t first, size_t count,
                       float *values, didi_error *error);

/* Elements of W_t - W_0 of a change whose rows are brought to given lengths (DoRA, Liu et al.
 * 2024): row i of W_t is magnitude_i (V + scale B A)_i / |(V + scale B A)_i|, V being the task's
 * values or else the base's. Where the base holds transposes these are columns, whose lengths take
 * a pass over the whole tensor, once. `base` holds the same elements of W_0. Errors: the same;
 * DIDI_NUMERIC where a row is zero. */
int family_read_directed(const family_reader *self, size_t task, uint64_t first, size_t count,
                         const float *base, float *ret_delta, didi_error *error);
