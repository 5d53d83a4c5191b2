/* SPDX-License-Identifier: Apache-2.0 */
/* Task vectors that adapters give as factors, and layers that hold them so. */
#pragma once

#include "src/layer/family.h"

/* Whether tau_t is known to be of low rank, and of which: it is zero, or an adapter's factors are
 * all there is to it. */
bool family_low_rank(const family_tensor *tensor, size_t task, size_t *ret_rank);
/* How many tasks that is of, and the sum of their ranks; 0 and 0 where no task has factors here,
 * and everything is done as without adapters. */
typedef struct family_ranks {
    size_t tasks, sum, most;
} family_ranks;
family_ranks family_sum_ranks(const family *family, const family_tensor *tensor);

/* A layer that holds what is of low rank as factors, read now, and the other task vectors as one
 * that is streamed or not. Errors: those of family_load_layer. */
int family_create_factored(const family *family, const family_tensor *tensor, bool streamed,
                           atomic_ullong *bytes_read, layer **ret_layer, didi_error *error);
