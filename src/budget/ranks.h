/* SPDX-License-Identifier: Apache-2.0 */
/* Integer ranks under a budget of parameters. Pure functions of spectra: no tensor is touched. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Unknown components: each is guessed to have a 30th less energy than the one before. */
enum { ALLOCATE_GUESSED_FALL = 30 };

/* One block that competes for ranks: the shared matrix or one expert of one layer. */
typedef struct allocate_block {
    const double *sigma; /* singular values, descending */
    size_t count;        /* how many are known and may be taken (<= rank_limit) */
    double weight; /* of sigma^2 in the loss: sum_t w_t for the shared matrix, w_t for an expert */
    uint64_t cost; /* parameters per rank: m + n */
    uint64_t dense_cost; /* parameters of the dense form (m n), or 0 where it may not be taken */
    size_t limit;        /* ranks it may take at most; beyond `count` their gain is guessed */
    double tail;         /* sum of sigma^2 beyond `count` */
    size_t rank;         /* result */
    bool dense;          /* result: keep the block dense instead (rank is then 0) */
} allocate_block;

typedef struct allocate_result {
    uint64_t parameters; /* taken */
    double threshold;    /* lowest weight * sigma^2 / cost taken; 0 when nothing was */
} allocate_result;

/* Greedy marginal allocation (method.md 5): components in the order of weight * sigma^2 / cost
 * until the budget is spent; a component that no longer fits closes its block and smaller ones go
 * on, so that what is left is less than one rank of any open block. Exact for separable losses up
 * to that edge. The dense form of a block follows its last component when all rank_limit ranks are
 * taken. Ties go to the lower block index. Sets rank and dense of every block. Errors:
 * DIDI_NO_MEMORY. */
int allocate_exact(allocate_block *blocks, size_t count, uint64_t budget,
                   allocate_result *ret_result, didi_error *error);

/* The thresholds at which allocate_exact would stop for budgets j / steps of `budget`, j
 * = 1..steps, the schedule of pursuit (method.md 6). Ranks are left untouched. */
int allocate_schedule(const allocate_block *blocks, size_t count, uint64_t budget, size_t steps,
                      double *ret_thresholds, didi_error *error);

/* Largest whole ranks not above scale * real[i], at one global factor chosen so that the budget is
 * not exceeded, then one more rank where the fraction lost is largest and still fits (method.md 5:
 * one global factor, then rounding). `count` caps each. Errors: DIDI_NO_MEMORY. */
int allocate_round(allocate_block *blocks, size_t count, const double *real, uint64_t budget,
                   didi_error *error);

/* One point of the curve of error against parameters. */
typedef struct allocate_point {
    uint64_t parameters;
    double loss; /* weighted sum of squared tails that remain */
} allocate_point;

/* The frontier: `points` points, evenly spaced in parameters up to everything known, of the loss
 * that greedy allocation leaves: total + sum of tails. `total_tail` is the loss no component
 * removes. */
int allocate_frontier(const allocate_block *blocks, size_t count, size_t points,
                      allocate_point *ret_points, didi_error *error);
