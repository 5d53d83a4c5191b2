/* SPDX-License-Identifier: Apache-2.0 */
/* Gram matrices of layers' inputs, which a user computed where the data is; of a tensor with one
 * axis, which multiplies or is added number by number, their diagonals. */
#pragma once

#include "src/layer/family.h"

/* Looks for the Gram matrix of a task's inputs to a tensor, columns x columns in float32 or double
 * under the base's name; for a tensor with one axis, columns numbers. The task has Gram matrices.
 * Errors: DIDI_NOT_FOUND (there is none), DIDI_MISMATCH (another shape), DIDI_INVALID (another
 * dtype); subject: the directory's name. */
int family_check_gram(const family *family, const family_tensor *tensor, size_t task,
                      didi_error *error);
/* Reads one that family_check_gram found; a matrix is made symmetric to the last bit.
 * Errors: DIDI_NUMERIC (NaN, Inf, a negative diagonal, or further from symmetric than sums in
 * float32 are), DIDI_CHANGED, DIDI_IO, DIDI_NO_MEMORY. */
int family_read_gram(const family *family, const family_tensor *tensor, size_t task,
                     double *ret_gram, atomic_ullong *bytes_read, didi_error *error);
