/* SPDX-License-Identifier: Apache-2.0 */
/* What methods share whose experts are low-rank factors or deltas: such a method says what becomes
 * of each tensor, and everything else is here. Of what is stored as factors a whole matrix is in
 * memory, one task's at a time; the rest goes panel by panel. */
#pragma once

#include "src/methods/methods.h"

typedef enum expert_share {
    SHARE_NOTHING,
    SHARE_SUM,  /* `scale` sum_t w_t tau_t, whole */
    SHARE_MEAN, /* `scale` sum_t w_t tau_t / sum_t w_t over the tasks that have a vector, whole */
} expert_share;

typedef enum expert_form {
    EXPERT_NONE,
    EXPERT_FACTORS, /* truncated SVD of tau_t less what is shared, as it is stored */
    EXPERT_DELTA,   /* tau_t itself: nothing is shared */
} expert_form;

/* What is stored of a tensor. */
typedef struct expert_part {
    expert_share share;
    double scale;
    expert_form form;
    size_t rank; /* of factors, at least 1 */
} expert_part;

/* What `self` of these methods begins with. */
typedef struct experts {
    method_head head;
    expert_part *parts; /* of each tensor */
} experts;

/* ---- parts ---- */

/* Nothing stored; tau_t itself; a sum for all tasks and nothing else. */
expert_part expert_nothing(void);
expert_part expert_delta(void);
expert_part expert_sum(double scale);
/* The `rank` leading triplets of tau_t. At full rank the delta, which is smaller and the same; at
 * rank 0 nothing. */
expert_part expert_factors(const family_tensor *tensor, size_t rank);

/* min(rows, columns), and whether the tensor has two axes, or two and more. */
size_t expert_full_rank(const family_tensor *tensor);
bool expert_has_two_axes(const family_tensor *tensor);
bool expert_is_matrix(const family_tensor *tensor);
/* The whole part of a share of full rank. */
size_t expert_rank_of(const family_tensor *tensor, double share);

/* By the names that model families use: the weights and biases of attention, and of MLPs (nothing
 * is both). */
bool expert_is_attention(const char *tensor);
bool expert_is_mlp(const char *tensor);

/* ---- what a method's tables hold ---- */

/* For `open`: asks for the part of every tensor. Errors: DIDI_NO_MEMORY. */
int experts_open(experts *self, expert_part (*part_of)(const void *self, const family_tensor *of),
                 didi_error *error);
/* The same for a method that treats some tensors apart by their names: `what` is what they are
 * called. Errors besides: DIDI_INVALID, subject "/method": none is. */
int experts_open_named(experts *self, bool (*is_named)(const family_tensor *of),
                       expert_part (*part_of)(const void *self, const family_tensor *of),
                       const char *what, didi_error *error);
/* The other hooks, and the only row. */
int experts_plan(void *self, didi_error *error);
void experts_close(void *self);
enum { EXPERTS_STAGES = 1 };
extern const method_stage experts_stages[EXPERTS_STAGES];
