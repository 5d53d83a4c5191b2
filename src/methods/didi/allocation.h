/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks and widths of all blocks under a budget: of parameters, and of anything else. */
#pragma once

#include "src/methods/didi/didi_method.h"

/* ---- blocks.c: the blocks of all layers as the allocation sees them ---- */

int didi_list_blocks(const didi *self, allocate_block **ret_blocks, size_t *ret_count,
                     didi_error *error);
int didi_uniform_ranks(const didi *self, allocate_block *blocks, size_t count, didi_error *error);

/* ---- balance.c ---- */

/* `objective: worst_task`: sets task_share and every layer's weights so that the relative errors
 * which a greedy allocation of factor_budget leaves, predicted from the summaries, are alike. From
 * scratch, or from the shares in force. Nothing with `mean`. Errors: DIDI_NO_MEMORY. */
int didi_balance_tasks(didi *self, bool from_scratch, didi_error *error);

/* ---- promote.c ---- */

/* `dense: auto`: vectors kept as their mean become deltas for each task where that lowers the
 * squared error more than the same numbers spent on the components `blocks` would take last. Spends
 * factor_budget, so dense_stored and it are then to be counted again. Errors: DIDI_NO_MEMORY. */
int didi_promote_dense(didi *self, allocate_block *blocks, size_t count, didi_error *error);

/* ---- frontier.c ---- */

/* After a pursuit: weighted energy that the list of blocks holds twice, in rows of the shared
 * blocks beyond pursuit's ranks and in what the experts leave. */
double didi_counted_twice(const didi *self);
int didi_frontier_from_spectra(didi *self, const allocate_block *blocks, size_t count,
                               didi_error *error);
/* The lower of what the blocks of a pursuit and the spectra predict; after the above. */
int didi_frontier_from_blocks(didi *self, const allocate_block *blocks, size_t count,
                              didi_error *error);

/* ---- choose.c: ranks and widths together, for budgets that are not of parameters ---- */

/* Thresholds of pursuit, or the ranks of the other allocators. */
int didi_schedule_bytes(didi *self, didi_error *error);
int didi_final_bytes(didi *self, didi_error *error);
/* errors[t]: the relative error predicted of each task's matrices under the budget. */
int didi_bytes_errors(didi *self, double *errors, didi_error *error);
/* Where pursuit would stop by the singular values known now (loss per parameter), and the
 * parameters of factors taken then. */
int didi_bytes_threshold(didi *self, double *ret_threshold, uint64_t *ret_parameters,
                         didi_error *error);
/* One width for everything, after ranks were found under a budget of parameters. */
void didi_set_fixed_widths(didi *self);
/* After a refinement: whether another pass is needed to come to the error asked for. */
int didi_again(void *self, bool *ret_again, size_t *ret_stage, didi_error *error);
int didi_curves(didi *self, didi_error *error);

/* ---- learn.c: ranks by the differentiable truncation ---- */

int didi_learn_ranks(didi *self, allocate_block *blocks, size_t count, didi_error *error);
