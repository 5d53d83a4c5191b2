/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks by the differentiable truncation: never worse than the uniform and the greedy ones. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"
#include "src/budget/budget.h"
#include "src/files/files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct learner {
    didi *merge;
    differentiable_layer *layers;
    snapshot **states;
    double *real;   /* of all blocks, layer by layer */
    double **ranks; /* those of each layer */
    double *scratch;
    size_t *whole; /* T + 1 */
} learner;

static void learner_clear(learner *self)
{
    size_t count = self->merge->work->layer_count;
    for (size_t l = 0; self->states != NULL && l < count; l++)
        snapshot_close(self->states[l]);
    for (size_t l = 0; self->layers != NULL && l < count; l++)
        free((void *)self->layers[l].sigma);
    free(self->layers);
    free(self->states);
    free(self->real);
    free(self->ranks);
    free(self->scratch);
    free(self->whole);
}

/* Cuts the spectra to q values per block; what is beyond is summed into tails. */
static int cut_spectra(learner *self, size_t l, size_t q, didi_error *error)
{
    const layer_summary *summary = &self->merge->work->summaries[l];
    size_t blocks = summary->tasks + 1;
    double *sigma = memory_zeroed(blocks * q + blocks, sizeof *sigma);
    if (sigma == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "spectra of %zu blocks", blocks);
    double *tail = sigma + blocks * q;
    for (size_t j = 0; j < blocks; j++)
        for (size_t i = 0; i < summary->count[j]; i++) {
            double value = summary->sigma[j][i];
            if (i < q)
                sigma[j * q + i] = value;
            else
                tail[j] += value * value;
        }
    self->layers[l].sigma = sigma;
    self->layers[l].tail = tail;
    return DIDI_OK;
}

static int open_layer(learner *self, size_t l, didi_error *error)
{
    didi *merge = self->merge;
    const solve_limits *limits = &merge->limits[l];
    differentiable_layer *out = &self->layers[l];
    size_t q = limits->expert > limits->shared ? limits->expert : limits->shared;
    char name[64];
    work_snapshot_name("decompose", l, name);
    out->tasks = merge->work->options.task_count;
    out->q = q;
    out->cost = merge->work->layers[l]->rows + merge->work->layers[l]->columns;
    out->rank_limit =
        q < merge->work->layers[l]->rank_limit ? q : merge->work->layers[l]->rank_limit;
    out->weight = merge->work->summaries[l].weight;
    const void *data[4] = {NULL};
    static const kept_array arrays[] = {KEPT_CROSS, KEPT_EXPERT_TAIL, KEPT_SHARED_TAIL,
                                        KEPT_CORNER};
    int status = snapshot_open(merge->work->options.work_fd, name, &self->states[l], error);
    for (size_t i = 0; i < 4 && status == DIDI_OK; i++)
        status = kept_find(self->states[l], arrays[i], 0, arrays[i] == KEPT_CORNER ? out->tasks : q,
                           NULL, &data[i], error);
    out->cross = data[0];
    out->expert_tail = data[1];
    out->shared_tail = data[2];
    out->corner = data[3];
    return status == DIDI_OK ? cut_spectra(self, l, q, error) : status;
}

static int learner_create(learner *self, didi_error *error)
{
    size_t count = self->merge->work->layer_count;
    size_t blocks = self->merge->work->options.task_count + 1;
    size_t widest = 1;
    self->layers = memory_zeroed(count, sizeof *self->layers);
    self->states = memory_zeroed(count, sizeof *self->states);
    self->ranks = memory_zeroed(count, sizeof *self->ranks);
    self->real = memory_zeroed(count * blocks, sizeof *self->real);
    self->whole = memory_zeroed(blocks, sizeof *self->whole);
    if (self->layers == NULL || self->states == NULL || self->ranks == NULL || self->real == NULL ||
        self->whole == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "rank optimiser of %zu layers", count);
    for (size_t l = 0; l < count; l++) {
        int status = open_layer(self, l, error);
        if (status != DIDI_OK)
            return status;
        self->ranks[l] = self->real + l * blocks;
        widest = self->layers[l].q > widest ? self->layers[l].q : widest;
    }
    self->scratch = memory_zeroed(6 * blocks * widest, sizeof *self->scratch);
    return self->scratch != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "scratch");
}

static void report_step(void *context, size_t step, double loss, double ratio)
{
    didi *merge = context;
    atomic_store(&merge->work->steps_done, step + 1);
    work_point(merge->work, DIDI_STAGE_ALLOCATE, step, loss, NAN,
               didi_ratio(merge, ratio * work_matrix_parameters(merge->work)));
}

/* Truncated loss of whole ranks, relative to the weighted energy. */
static double truncated_loss(learner *self, const allocate_block *blocks)
{
    size_t per_layer = self->merge->work->options.task_count + 1;
    double loss = 0;
    for (size_t l = 0; l < self->merge->work->layer_count; l++) {
        for (size_t j = 0; j < per_layer; j++)
            self->whole[j] = blocks[l * per_layer + j].rank;
        loss += differentiable_truncated(&self->layers[l], self->whole, self->scratch);
    }
    return loss / work_weighted_energy(self->merge->work);
}

/* Keeps `blocks` as they are when their truncated loss is at most the best so far. */
static void keep_better(learner *self, const allocate_block *blocks, size_t count,
                        allocate_block *best, double *best_loss, const char *what)
{
    double loss = truncated_loss(self, blocks);
    work_note(self->merge->work, DIDI_STAGE_ALLOCATE, "truncated loss %.6f with %s ranks", loss,
              what);
    if (loss < *best_loss) {
        *best_loss = loss;
        memcpy(best, blocks, count * sizeof *best);
    }
}

static int run_optimiser(learner *learning, const allocate_block *blocks, size_t count,
                         didi_error *error)
{
    didi *self = learning->merge;
    for (size_t i = 0; i < count; i++)
        learning->real[i] = (double)blocks[i].rank;
    differentiable_options options = {
        .beta = self->work->options.beta,
        .lambda = self->work->options.lambda,
        .learning_rate = self->work->options.rank_learning_rate,
        .steps = self->work->options.rank_steps,
        .target = (double)self->factor_budget / work_matrix_parameters(self->work),
        .matrix_parameters = (uint64_t)work_matrix_parameters(self->work),
        .energy = work_weighted_energy(self->work),
        .parallel = self->work->parallel,
        .cancelled = &self->work->cancelled,
        .context = self,
        .report = report_step,
    };
    atomic_store(&self->work->steps_done, 0);
    atomic_store(&self->work->steps_wanted, options.steps);
    return differentiable_optimise(learning->layers, self->work->layer_count, &options,
                                   learning->ranks, error);
}

/* Starts from the greedy ranks, learns, and keeps the best of uniform, greedy and learned. */
int didi_learn_ranks(didi *self, allocate_block *blocks, size_t count, didi_error *error)
{
    learner learning = {.merge = self};
    allocate_result result = {0};
    double best_loss = INFINITY;
    allocate_block *best = memory_zeroed(count, sizeof *best);
    int status = best != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "ranks");
    if (status == DIDI_OK)
        status = learner_create(&learning, error);
    if (status == DIDI_OK)
        status = didi_uniform_ranks(self, blocks, count, error);
    if (status == DIDI_OK) {
        keep_better(&learning, blocks, count, best, &best_loss, "uniform");
        for (size_t i = 0; i < count; i++)
            blocks[i].dense_cost = 0;
        status = allocate_exact(blocks, count, self->factor_budget, &result, error);
    }
    if (status != DIDI_OK)
        goto out;
    keep_better(&learning, blocks, count, best, &best_loss, "greedy");
    status = run_optimiser(&learning, blocks, count, error);
    if (status == DIDI_OK)
        status = allocate_round(blocks, count, learning.real, self->factor_budget, error);
    if (status != DIDI_OK)
        goto out;
    keep_better(&learning, blocks, count, best, &best_loss, "learned");
    memcpy(blocks, best, count * sizeof *best);
out:
    learner_clear(&learning);
    free(best);
    return status;
}
