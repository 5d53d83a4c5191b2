/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors taken whole into memory, for methods that decompose matrices and give one model for all
 * tasks. What these publish goes through panels all the same, so a restart takes it up again. */
#pragma once

#include "src/methods/stored.h"

/* A matrix to such methods: two axes, and no "text_projection" in its name, as the authors of
 * TSV-M and ISO have it. Of all else they take the mean. */
bool whole_is_matrix(const family_tensor *tensor);

/* tau_task (rows x columns). Errors: those of stored_shared_panels. */
int whole_read(work *work, size_t tensor, size_t task, float *ret_tau, didi_error *error);
/* sum_t w_t tau_t of the item's tensor, in double and in the order of the tasks. */
int whole_sum(stored *out, const work *work, float *ret_sum, didi_error *error);

/* Stores scale * values: rows x columns numbers or, with `turned`, their transpose. */
typedef struct whole_result {
    const float *values;
    bool turned;
    double scale;
} whole_result;
int whole_store(stored *out, work *work, size_t tensor, const whole_result *result,
                didi_error *error);
/* Bytes of a tensor's numbers in float32. */
uint64_t whole_bytes(const work *work, size_t tensor);

/* ---- singular vectors of several matrices of one shape, side by side ---- */

typedef struct whole_vectors {
    size_t m, n, count;
    float *matrix;       /* m x n: what is decomposed, and at last the merged one */
    float *left, *right; /* count x m, count x n, as rows */
    double *sigma;       /* count */
} whole_vectors;

/* Room for `room` triplets. Errors: DIDI_NO_MEMORY. whole_vectors_clear accepts a zeroed one. */
int whole_vectors_create(whole_vectors *self, const work *work, size_t tensor, size_t room,
                         didi_error *error);
void whole_vectors_clear(whole_vectors *self);
/* Adds the leading `count` triplets of the matrix, but those whose singular value is rounding or
 * not above `noise`: vectors of what is zero would be any. *ret_sum (may be NULL) gets the sum of
 * all `count` values. Errors: DIDI_NUMERIC, DIDI_NO_MEMORY. */
int whole_vectors_add(whole_vectors *self, size_t count, double noise, double *ret_sum,
                      didi_error *error);
/* matrix = polar(U) diag(sigma) polar(V)': the nearest orthonormal vectors in place of those that
 * were added. They are lost. Errors: likewise. */
int whole_vectors_join(whole_vectors *self, didi_error *error);
/* Bytes of all of that. */
uint64_t whole_vectors_bytes(const work *work, size_t tensor, size_t room);
