/* SPDX-License-Identifier: Apache-2.0 */
/* Weights, sketches, pursuit and ALS refinement. */
#include "src/methods/didi/pursuit.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <math.h>
#include <stdlib.h>

/* ---- what a task and a tensor weigh, by energy and by name ---- */

double solve_role(const char *tensor)
{
    static const char *const scores[] = {"*q_proj*", "*k_proj*", "*query*",  "*.key.*",
                                         "*.wq.*",   "*.wk.*",   "*.to_q.*", "*.to_k.*",
                                         "*q_lin.*", "*k_lin.*", "*.q.*",    "*.k.*"};
    return family_name_matches(tensor, scores, sizeof scores / sizeof *scores) ? 0.5 : 1;
}

double solve_vector_role(const char *tensor, size_t dimensions)
{
    static const char *const widening[] = {
        "*fc1.bias",  "*c_fc.bias",          "*intermediate.dense.bias",
        "*lin1.bias", "*up_proj.bias",       "*gate_proj.bias",
        "*.wi*.bias", "*dense_h_to_4h.bias", "*linear1.bias"};
    static const char *const scales[] = {"*.weight", "*.gamma"};
    if (solve_role(tensor) < 1)
        return 1 / 32.0;
    if (family_name_matches(tensor, widening, sizeof widening / sizeof *widening) ||
        (dimensions == 1 && family_name_matches(tensor, scales, sizeof scales / sizeof *scales)))
        return 0.1;
    return 1;
}

/* How a task's weight follows its energy within a layer (docs/method.md, "Weights"). */
#define FAR_EXPONENT 0.4

void solve_weights(didi_weighting weighting, double role, const double *task_weight,
                   const double *energy, size_t tasks, double *ret_weight)
{
    double mean = 0;
    for (size_t t = 0; t < tasks; t++)
        mean += energy[t] / (double)tasks;
    double scale = weighting != DIDI_WEIGHTING_NONE && mean > 0 ? 1 / sqrt(mean) : 1;
    if (weighting == DIDI_WEIGHTING_ACCURACY)
        scale *= role;
    for (size_t t = 0; t < tasks; t++)
        ret_weight[t] = energy[t] > 0 ? task_weight[t] * scale : 0;
    for (size_t t = 0; t < tasks && weighting == DIDI_WEIGHTING_ACCURACY; t++)
        ret_weight[t] *= energy[t] > 0 ? pow(energy[t] / mean, FAR_EXPONENT) : 0;
}

/* ---- sketches ---- */

static size_t layer_cost(const layer *target)
{
    return target->rows + target->columns;
}

/* Components of a block whose gain per parameter is above the threshold. */
static size_t count_above(const layer *target, size_t index, double threshold, size_t limit)
{
    const block *found = &target->blocks[index];
    double scale = layer_block_weight(target, index) / (double)layer_cost(target);
    size_t count = 0;
    while (count < found->basis && count < limit &&
           scale * found->sigma[count] * found->sigma[count] > threshold)
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
    int status = layer_update_experts(target, LAYER_UPDATE, basis, error);
    if (status == DIDI_OK) /* once more: a single step reads flat spectra far too low */
        status = layer_update_experts(target, LAYER_UPDATE, basis, error);
    free(basis);
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++) {
        const block *found = &target->blocks[t + 1];
        double tail = target->energy[t] - sum_squares(found->sigma, found->basis);
        status = summary_set_sigma(summary, t + 1, found->sigma, found->basis, tail, error);
    }
    return status;
}

/* ---- pursuit ---- */

enum {
    LOOK_AHEAD = 3,   /* rounds whose rows are kept warm already */
    SHORT_PURSUIT = 4 /* rounds up to which half updates would not settle */
};

/* How many rows the next update should carry: those a later threshold will want, with room to grow,
 * and more room when every row was worth keeping. A block that holds nothing yet starts as wide as
 * `start`. */
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

/* One round at `threshold`, on the way to `last`: an update of every block or half of one (`step`),
 * since what a round is for is that shared block and experts meet. */
typedef struct pursuit_round {
    layer_step step;
    double threshold, last;
    bool shared;
    const solve_limits *limits;
    size_t *basis; /* T: room */
} pursuit_round;

static int pursue_round(layer *target, const pursuit_round *round, didi_error *error)
{
    size_t start = widest_expert(target);
    size_t limit = round->limits->expert;
    if (round->shared) {
        size_t rows = next_basis(target, 0, round->last, start, round->limits->shared);
        int status = round->step == LAYER_TURN ? layer_turn(target, 0, rows, error)
                                               : layer_update(target, 0, rows, error);
        if (status != DIDI_OK)
            return status;
        target->blocks[0].rank = count_above(target, 0, round->threshold, round->limits->shared);
    }
    for (size_t t = 0; t < target->tasks; t++)
        round->basis[t] = next_basis(target, t + 1, round->last, start, limit);
    int status = layer_update_experts(target, round->step, round->basis, error);
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++)
        target->blocks[t + 1].rank = count_above(target, t + 1, round->threshold, limit);
    return status;
}

/* Errors, loss and the singular values of every block, and for the experts the energy that no row
 * of theirs holds. */
static int summarise_blocks(const layer *target, layer_summary *summary, didi_error *error)
{
    int status = layer_errors_fitted(target, summary->error, &summary->loss, error);
    for (size_t j = 0; j <= target->tasks && status == DIDI_OK; j++) {
        const block *found = &target->blocks[j];
        double tail = 0;
        if (j > 0)
            tail = summary->error[j - 1] -
                   sum_squares(found->sigma + found->rank, found->basis - found->rank);
        status = summary_set_sigma(summary, j, found->sigma, found->basis, tail, error);
    }
    return status;
}

void solve_resume(layer *target, bool shared, double threshold, const solve_limits *limits)
{
    for (size_t j = 0; j <= target->tasks; j++)
        target->blocks[j].rank =
            j == 0 && !shared
                ? 0
                : count_above(target, j, threshold, j == 0 ? limits->shared : limits->expert);
}

int solve_pursue(layer *target, bool shared, const double *thresholds, size_t rounds,
                 const solve_limits *limits, layer_summary *summary, didi_error *error)
{
    size_t *basis = memory_zeroed(target->tasks, sizeof *basis);
    if (basis == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "pursuit of %zu tasks", target->tasks);
    int status = DIDI_OK;
    for (size_t round = 0; round < rounds && status == DIDI_OK; round++) {
        size_t ahead = round + LOOK_AHEAD < rounds ? round + LOOK_AHEAD : rounds - 1;
        bool whole = rounds <= SHORT_PURSUIT || round + 1 == rounds;
        pursuit_round next = {whole ? LAYER_UPDATE : LAYER_TURN,
                              thresholds[round],
                              thresholds[ahead],
                              shared,
                              limits,
                              basis};
        status = pursue_round(target, &next, error);
    }
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

static int set_rank(layer *target, size_t index, size_t rank, didi_error *error)
{
    int status = layer_pad_block(target, index, rank, error);
    if (status == DIDI_OK)
        target->blocks[index].rank = rank;
    return status;
}

/* Steps go beyond the optimum of one side, since the other follows it: a loss in half as many. The
 * first sweep does not know the way yet, and the last half takes what there is. */
#define RELAX 1.6

static int refine_als(layer *target, const refine_options *options, double *ret_loss,
                      didi_error *error)
{
    double fitted[2] = {INFINITY, options->before > 0 ? options->before : INFINITY}; /* of late */
    size_t halves = 2 * options->steps;
    int status = DIDI_OK;
    for (size_t half = 0; half < halves && status == DIDI_OK; half++) {
        bool last = half + 1 == halves;
        double now = 0;
        status = layer_half_sweep(target, half < 2 || last ? 1 : RELAX, &now, error);
        if (status != DIDI_OK)
            break;
        *ret_loss = now;
        if (options->report != NULL && (last || half % 2 == 1))
            options->report(options->context, half / 2, now);
        if (half > 0 && !last && fitted[0] - now < options->tolerance * fitted[0])
            halves = half < 2 ? half + 1 : half + 2;
        fitted[0] = fitted[1];
        fitted[1] = now;
    }
    return status;
}

static int measure_loss(const layer *target, layer_summary *summary, didi_error *error)
{
    double *errors = memory_zeroed(target->tasks, sizeof *errors);
    int status = errors != NULL
                     ? layer_loss(target, errors, &summary->loss, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "loss of %zu tasks", target->tasks);
    free(errors);
    return status;
}

int solve_refine(layer *target, const refine_options *options, layer_summary *summary,
                 didi_error *error)
{
    double *weight = memory_zeroed(target->tasks, sizeof *weight);
    if (weight == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "weights of %zu tasks", target->tasks);
    apply_dense_flags(target, summary, weight);
    free(weight);
    int status = DIDI_OK;
    for (size_t j = 0; j <= target->tasks && status == DIDI_OK; j++)
        status = set_rank(target, j, summary->rank[j], error);
    if (status != DIDI_OK)
        return status;
    if (options->steps == 0)
        return measure_loss(target, summary, error);
    if (options->optimizer == DIDI_OPTIMIZER_ADAM)
        return solve_refine_adam(target, options, &summary->loss, error);
    return refine_als(target, options, &summary->loss, error);
}

/* ---- lengths ---- */

#define RESTORE_EXPONENT (-0.25)

static void scale_block(block *target, size_t columns, double gain)
{
    for (size_t i = 0; i < target->basis * columns; i++)
        target->right[i] *= (float)gain;
    for (size_t i = 0; i < target->basis; i++)
        target->sigma[i] *= gain;
}

void solve_restore(layer *target, double most, const layer_summary *summary)
{
    double energy = layer_weighted_energy(target);
    double kept = energy > 0 ? 1 - summary->loss / energy : 1;
    double gain = kept > 0 && kept < 1 ? pow(kept, RESTORE_EXPONENT) : 1;
    gain = gain < most ? gain : most;
    for (size_t j = 0; j <= target->tasks; j++)
        scale_block(&target->blocks[j], target->columns, gain);
    target->gain *= gain;
}
