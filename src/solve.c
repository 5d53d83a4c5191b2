/* SPDX-License-Identifier: Apache-2.0 */
/* Sketches, pursuit and ALS refinement. */
#include "src/solve.h"

#include "src/base/memory.h"
#include "src/linalg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t layer_cost(const layer *target)
{
    return target->rows + target->columns;
}

static double block_weight(const layer *target, size_t index)
{
    return index == 0 ? target->weight_sum : target->weight[index - 1];
}

/* Components of a block whose gain per parameter is above the threshold. */
static size_t count_above(const layer *target, size_t index, double threshold, size_t limit)
{
    const block *found = &target->blocks[index];
    double scale = block_weight(target, index) / (double)layer_cost(target);
    size_t count = 0;
    while (count < found->basis && count < limit
           && scale * found->sigma[count] * found->sigma[count] > threshold)
        count++;
    return count;
}

static double sum_squares(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return sum;
}

int solve_sketch(layer *target, size_t sketch_rows, layer_summary *summary, didi_error *error)
{
    size_t *basis = memory_zeroed(target->tasks, sizeof *basis);
    if (basis == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "sketch of %zu tasks", target->tasks);
    for (size_t t = 0; t < target->tasks; t++)
        basis[t] = sketch_rows;
    int status = layer_update_experts(target, basis, error);
    free(basis);
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++) {
        const block *found = &target->blocks[t + 1];
        double tail = target->energy[t] - sum_squares(found->sigma, found->basis);
        status = summary_set_sigma(summary, t + 1, found->sigma, found->basis, tail, error);
    }
    return status;
}

/* ---- pursuit ---- */

/* How many rows the next update should carry: those the last threshold will want, with room to grow, and
 * more room when every row was worth keeping. A block that holds nothing yet starts as wide as `start`. */
static size_t next_basis(const layer *target, size_t index, double last, size_t start, size_t limit)
{
    size_t now = target->blocks[index].basis;
    size_t kept = count_above(target, index, last, SIZE_MAX);
    size_t wanted = kept + kept / 8 + 8;
    if (now == 0)
        wanted = start;
    else if (kept == now)
        wanted = kept + kept / 2 + 8;
    return wanted < limit ? wanted : limit;
}

static size_t widest_expert(const layer *target)
{
    size_t widest = 8;
    for (size_t t = 1; t <= target->tasks; t++)
        if (target->blocks[t].basis > widest)
            widest = target->blocks[t].basis;
    return widest;
}

/* One round at `threshold`, on the way to `last`. */
static int pursue_round(layer *target, bool shared, double threshold, double last,
                        const solve_limits *limits, size_t *basis, didi_error *error)
{
    size_t start = widest_expert(target);
    if (shared) {
        int status = layer_update(target, 0, next_basis(target, 0, last, start, limits->shared), error);
        if (status != DIDI_OK)
            return status;
        target->blocks[0].rank = count_above(target, 0, threshold, limits->shared);
    }
    for (size_t t = 0; t < target->tasks; t++)
        basis[t] = next_basis(target, t + 1, last, start, limits->expert);
    int status = layer_update_experts(target, basis, error);
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++)
        target->blocks[t + 1].rank = count_above(target, t + 1, threshold, limits->expert);
    return status;
}

static int summarise_blocks(const layer *target, layer_summary *summary, didi_error *error)
{
    int status = DIDI_OK;
    for (size_t j = 0; j <= target->tasks && status == DIDI_OK; j++)
        status = summary_set_sigma(summary, j, target->blocks[j].sigma, target->blocks[j].basis, 0,
                                   error);
    return status;
}

int solve_pursue(layer *target, bool shared, const double *thresholds, size_t rounds,
                 const solve_limits *limits, layer_summary *summary, didi_error *error)
{
    size_t *basis = memory_zeroed(target->tasks, sizeof *basis);
    if (basis == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "pursuit of %zu tasks", target->tasks);
    int status = DIDI_OK;
    for (size_t round = 0; round < rounds && status == DIDI_OK; round++)
        status = pursue_round(target, shared, thresholds[round], thresholds[rounds - 1], limits,
                              basis, error);
    if (status == DIDI_OK)
        status = summarise_blocks(target, summary, error);
    free(basis);
    return status;
}

/* ---- refinement ---- */

/* Blocks left as dense take no part: their task leaves the shared fit. */
static void apply_dense_flags(layer *target, const layer_summary *summary, double *weight)
{
    for (size_t t = 0; t < target->tasks; t++)
        weight[t] = summary->dense[t + 1] ? 0 : target->weight[t];
    layer_set_weights(target, weight);
}

static size_t refine_basis(size_t rank)
{
    return rank == 0 ? 0 : rank + (rank / 10 < 4 ? 4 : rank / 10);
}

static int als_sweep(layer *target, bool shared, const layer_summary *summary, size_t *basis,
                     didi_error *error)
{
    if (shared && summary->rank[0] > 0 && target->weight_sum > 0) {
        int status = layer_update(target, 0, refine_basis(summary->rank[0]), error);
        if (status != DIDI_OK)
            return status;
        target->blocks[0].rank = summary->rank[0] < target->blocks[0].basis
                                     ? summary->rank[0]
                                     : target->blocks[0].basis;
    }
    for (size_t t = 0; t < target->tasks; t++)
        basis[t] = refine_basis(summary->rank[t + 1]);
    int status = layer_update_experts(target, basis, error);
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++) {
        block *expert = &target->blocks[t + 1];
        expert->rank = summary->rank[t + 1] < expert->basis ? summary->rank[t + 1] : expert->basis;
    }
    return status;
}

static int refine_als(layer *target, bool shared, const refine_options *options,
                      layer_summary *summary, didi_error *error)
{
    size_t *basis = memory_zeroed(target->tasks, sizeof *basis);
    double *errors = memory_zeroed(target->tasks, sizeof *errors);
    int status = DIDI_OK;
    if (basis == NULL || errors == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "refinement of %zu tasks", target->tasks);
        goto out;
    }
    status = layer_loss(target, errors, &summary->loss, error);
    for (size_t step = 0; step < options->steps && status == DIDI_OK; step++) {
        double before = summary->loss;
        status = als_sweep(target, shared, summary, basis, error);
        if (status == DIDI_OK)
            status = layer_loss(target, errors, &summary->loss, error);
        if (status == DIDI_OK && options->report != NULL)
            options->report(options->context, step, summary->loss);
        if (before - summary->loss < options->tolerance * before)
            break;
    }
out:
    free(basis);
    free(errors);
    return status;
}

int solve_refine(layer *target, bool shared, const refine_options *options, layer_summary *summary,
                 didi_error *error)
{
    double *weight = memory_zeroed(target->tasks, sizeof *weight);
    if (weight == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "weights of %zu tasks", target->tasks);
    apply_dense_flags(target, summary, weight);
    free(weight);
    for (size_t j = 0; j <= target->tasks; j++) {
        block *found = &target->blocks[j];
        found->rank = summary->rank[j] < found->basis ? summary->rank[j] : found->basis;
    }
    if (options->optimizer == DIDI_OPTIMIZER_ADAM)
        return solve_refine_adam(target, options, &summary->loss, error);
    return refine_als(target, shared, options, summary, error);
}
