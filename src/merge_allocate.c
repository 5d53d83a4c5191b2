/* SPDX-License-Identifier: Apache-2.0 */
/* The items that look at all layers at once: pursuit's schedule, learned ranks, final ranks. */
#include "src/merge_internal.h"

#include "src/allocate.h"
#include "src/base/memory.h"
#include "src/differentiable.h"
#include "src/state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the scan found zero need not be stored, and leaves its room to the factors. */
static void count_dense(didi_merge *self)
{
    size_t tasks = self->options.task_count;
    self->dense_stored = 0;
    for (size_t i = 0; i < self->dense_count; i++) {
        size_t changed = 0;
        for (size_t t = 0; t < tasks; t++)
            changed += self->dense_summaries[i].energy[t] > 0;
        size_t copies = self->options.dense == DIDI_DENSE_PER_TASK ? changed
                        : self->options.dense == DIDI_DENSE_MEAN   ? (changed > 0)
                                                                   : 0;
        self->dense_stored += self->dense[i]->elements * copies;
    }
    uint64_t ceiling = (uint64_t)floor(self->options.budget * (double)self->plan.parameters);
    self->factor_budget = ceiling - self->dense_stored;
}

/* A task whose tensors all equal the base's has nothing to merge: most likely a mistake. */
static int check_tasks_differ(const didi_merge *self, didi_error *error)
{
    for (size_t t = 0; t < self->options.task_count; t++) {
        double energy = 0;
        for (size_t l = 0; l < self->layer_count; l++)
            energy += self->summaries[l].energy[t];
        for (size_t i = 0; i < self->dense_count; i++)
            energy += self->dense_summaries[i].energy[t];
        if (energy == 0)
            return didi_fail(error, DIDI_MISMATCH, self->options.tasks[t].label,
                             "task '%s' (%s) is identical to the base %s: its task vector is zero",
                             self->options.tasks[t].name, self->options.tasks[t].label,
                             self->options.base_label);
    }
    return DIDI_OK;
}

/* Lists every block of every layer: shared first, then the experts. */
static int list_blocks(const didi_merge *self, bool shared, allocate_block **ret_blocks,
                       size_t *ret_count, didi_error *error)
{
    size_t per_layer = self->options.task_count + 1;
    allocate_block *blocks = memory_zeroed(self->layer_count * per_layer, sizeof *blocks);
    if (blocks == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of blocks");
    for (size_t l = 0; l < self->layer_count; l++) {
        const layer_summary *summary = &self->summaries[l];
        const family_tensor *tensor = self->layers[l];
        const solve_limits *limits = &self->limits[l];
        double weight_sum = 0;
        for (size_t t = 0; t < summary->tasks; t++)
            weight_sum += summary->weight[t];
        for (size_t j = 0; j < per_layer; j++) {
            size_t limit = j == 0 ? limits->shared : limits->expert;
            limit = limit < tensor->rank_limit ? limit : tensor->rank_limit;
            allocate_block *out = &blocks[l * per_layer + j];
            out->sigma = summary->sigma[j];
            out->count = summary->count[j] < limit ? summary->count[j] : limit;
            if (j == 0 && !shared)
                out->count = 0;
            out->weight = j == 0 ? weight_sum : summary->weight[j - 1];
            out->cost = tensor->rows + tensor->columns;
            out->tail = summary->tail[j];
            for (size_t i = out->count; i < summary->count[j]; i++)
                out->tail += summary->sigma[j][i] * summary->sigma[j][i];
            if (j > 0 && out->count == tensor->rank_limit)
                out->dense_cost = tensor->elements;
        }
    }
    *ret_blocks = blocks;
    *ret_count = self->layer_count * per_layer;
    return DIDI_OK;
}

static void adopt_ranks(didi_merge *self, const allocate_block *blocks)
{
    size_t per_layer = self->options.task_count + 1;
    self->factor_parameters = 0;
    for (size_t l = 0; l < self->layer_count; l++)
        for (size_t j = 0; j < per_layer; j++) {
            const allocate_block *from = &blocks[l * per_layer + j];
            self->summaries[l].rank[j] = from->rank;
            self->summaries[l].dense[j] = from->dense;
            self->factor_parameters += from->dense ? from->dense_cost : from->rank * from->cost;
        }
}

static double total_energy(const didi_merge *self)
{
    double sum = 0;
    for (size_t l = 0; l < self->layer_count; l++)
        for (size_t t = 0; t < self->options.task_count; t++)
            sum += self->summaries[l].weight[t] * self->summaries[l].energy[t];
    return sum;
}

static double matrix_parameters(const didi_merge *self)
{
    double sum = 0;
    for (size_t l = 0; l < self->layer_count; l++)
        sum += (double)self->layers[l]->elements;
    return sum;
}

static double ratio_with_dense(const didi_merge *self, double factors)
{
    return (factors + (double)self->dense_stored) / (double)self->plan.parameters;
}

static int make_frontier(didi_merge *self, const allocate_block *blocks, size_t count,
                         didi_error *error)
{
    free(self->frontier);
    self->frontier = memory_zeroed(FRONTIER_POINTS, sizeof *self->frontier);
    if (self->frontier == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "frontier");
    double energy = total_energy(self);
    self->frontier_scale = energy > 0 ? 1 / energy : 0;
    return allocate_frontier(blocks, count, FRONTIER_POINTS, self->frontier,
                             &self->frontier_count, error);
}

/* ---- learned ranks ---- */

typedef struct learner {
    didi_merge *merge;
    differentiable_layer *layers;
    state **states;
    double **ranks;
    double *scratch;
    size_t *whole; /* layers x (T + 1) */
} learner;

static void learner_clear(learner *self)
{
    size_t count = self->merge->layer_count;
    for (size_t l = 0; self->states != NULL && l < count; l++)
        state_close(self->states[l]);
    for (size_t l = 0; self->ranks != NULL && l < count; l++)
        free(self->ranks[l]);
    for (size_t l = 0; self->layers != NULL && l < count; l++)
        free((void *)self->layers[l].sigma);
    free(self->layers);
    free(self->states);
    free(self->ranks);
    free(self->scratch);
    free(self->whole);
}

/* Cuts the spectra to q values per block; what is beyond is summed into tails. */
static int cut_spectra(learner *self, size_t l, size_t q, didi_error *error)
{
    const layer_summary *summary = &self->merge->summaries[l];
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
    didi_merge *merge = self->merge;
    const solve_limits *limits = &merge->limits[l];
    differentiable_layer *out = &self->layers[l];
    size_t q = limits->expert > limits->shared ? limits->expert : limits->shared;
    char name[64];
    merge_state_name(PHASE_DECOMPOSE, l, name);
    out->tasks = merge->options.task_count;
    out->q = q;
    out->cost = merge->layers[l]->rows + merge->layers[l]->columns;
    out->rank_limit = q < merge->layers[l]->rank_limit ? q : merge->layers[l]->rank_limit;
    out->weight = merge->summaries[l].weight;
    int status = state_open(merge->options.work_fd, name, &self->states[l], error);
    const void *data = NULL;
    if (status == DIDI_OK)
        status = state_find(self->states[l], "cross.0", DIDI_DTYPE_F32, q, NULL, &data, error);
    out->cross = data;
    if (status == DIDI_OK)
        status = state_find(self->states[l], "expert_tail.0", DIDI_DTYPE_F64, q, NULL, &data, error);
    out->expert_tail = data;
    if (status == DIDI_OK)
        status = state_find(self->states[l], "shared_tail.0", DIDI_DTYPE_F64, q, NULL, &data, error);
    out->shared_tail = data;
    if (status == DIDI_OK)
        status = state_find(self->states[l], "corner.0", DIDI_DTYPE_F64, out->tasks, NULL, &data,
                            error);
    out->corner = data;
    return status == DIDI_OK ? cut_spectra(self, l, q, error) : status;
}

static int learner_create(learner *self, didi_error *error)
{
    size_t count = self->merge->layer_count;
    size_t blocks = self->merge->options.task_count + 1;
    size_t widest = 1;
    self->layers = memory_zeroed(count, sizeof *self->layers);
    self->states = memory_zeroed(count, sizeof *self->states);
    self->ranks = memory_zeroed(count, sizeof *self->ranks);
    self->whole = memory_zeroed(count * blocks, sizeof *self->whole);
    if (self->layers == NULL || self->states == NULL || self->ranks == NULL || self->whole == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "rank optimiser of %zu layers", count);
    for (size_t l = 0; l < count; l++) {
        int status = open_layer(self, l, error);
        if (status != DIDI_OK)
            return status;
        self->ranks[l] = memory_zeroed(blocks, sizeof(double));
        if (self->ranks[l] == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "ranks");
        widest = self->layers[l].q > widest ? self->layers[l].q : widest;
    }
    self->scratch = memory_zeroed(6 * blocks * widest, sizeof *self->scratch);
    return self->scratch != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "scratch");
}

static void report_step(void *context, size_t step, double loss, double ratio)
{
    didi_merge *merge = context;
    merge_point(merge, DIDI_STAGE_ALLOCATE, step, loss, NAN,
                ratio_with_dense(merge, ratio * matrix_parameters(merge)));
}

/* Truncated loss of whole ranks, relative to the weighted energy. */
static double truncated_loss(learner *self, const allocate_block *blocks)
{
    size_t per_layer = self->merge->options.task_count + 1;
    double loss = 0;
    for (size_t l = 0; l < self->merge->layer_count; l++) {
        for (size_t j = 0; j < per_layer; j++)
            self->whole[j] = blocks[l * per_layer + j].rank;
        loss += differentiable_truncated(&self->layers[l], self->whole, self->scratch);
    }
    return loss / total_energy(self->merge);
}

static int round_ranks(learner *self, allocate_block *blocks, size_t count, didi_error *error)
{
    size_t per_layer = self->merge->options.task_count + 1;
    double *real = memory_zeroed(count, sizeof *real);
    size_t *limit = memory_zeroed(count, sizeof *limit);
    uint64_t *cost = memory_zeroed(count, sizeof *cost);
    size_t *rank = memory_zeroed(count, sizeof *rank);
    int status = DIDI_OK;
    if (real == NULL || limit == NULL || cost == NULL || rank == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "ranks of %zu blocks", count);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        real[i] = self->ranks[i / per_layer][i % per_layer];
        limit[i] = blocks[i].count;
        cost[i] = blocks[i].cost;
    }
    status = allocate_round(real, limit, cost, count, self->merge->factor_budget, rank, error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++) {
        blocks[i].rank = rank[i];
        blocks[i].dense = false;
    }
out:
    free(real);
    free(limit);
    free(cost);
    free(rank);
    return status;
}

static int uniform_ranks(didi_merge *self, allocate_block *blocks, size_t count, didi_error *error);

/* Keeps `blocks` as they are when their truncated loss is at most the best so far. */
static void keep_better(learner *self, const allocate_block *blocks, size_t count,
                        allocate_block *best, double *best_loss, const char *what)
{
    double loss = truncated_loss(self, blocks);
    merge_note(self->merge, DIDI_STAGE_ALLOCATE, "truncated loss %.6f with %s ranks", loss, what);
    if (loss < *best_loss) {
        *best_loss = loss;
        memcpy(best, blocks, count * sizeof *best);
    }
}

/* Starts from the greedy ranks, learns, and keeps the best of uniform, greedy and learned. */
static int learn_ranks(didi_merge *self, allocate_block *blocks, size_t count, didi_error *error)
{
    learner work = { .merge = self };
    allocate_result result = { 0 };
    double best_loss = INFINITY;
    allocate_block *best = memory_zeroed(count, sizeof *best);
    int status = best != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "ranks");
    if (status == DIDI_OK)
        status = learner_create(&work, error);
    if (status == DIDI_OK)
        status = uniform_ranks(self, blocks, count, error);
    if (status == DIDI_OK) {
        keep_better(&work, blocks, count, best, &best_loss, "uniform");
        for (size_t i = 0; i < count; i++)
            blocks[i].dense_cost = 0;
        status = allocate_exact(blocks, count, self->factor_budget, &result, error);
    }
    if (status != DIDI_OK)
        goto out;
    keep_better(&work, blocks, count, best, &best_loss, "greedy");
    size_t per_layer = self->options.task_count + 1;
    for (size_t i = 0; i < count; i++)
        work.ranks[i / per_layer][i % per_layer] = (double)blocks[i].rank;
    differentiable_options options = {
        .beta = self->options.beta,
        .lambda = self->options.lambda,
        .learning_rate = self->options.rank_learning_rate,
        .steps = self->options.rank_steps,
        .target = (double)self->factor_budget / matrix_parameters(self),
        .matrix_parameters = (uint64_t)matrix_parameters(self),
        .energy = total_energy(self),
        .team = self->team,
        .cancelled = &self->cancelled,
        .context = self,
        .report = report_step,
    };
    status = differentiable_optimise(work.layers, self->layer_count, &options, work.ranks, error);
    if (status == DIDI_OK)
        status = round_ranks(&work, blocks, count, error);
    if (status != DIDI_OK)
        goto out;
    keep_better(&work, blocks, count, best, &best_loss, "learned");
    memcpy(blocks, best, count * sizeof *best);
out:
    learner_clear(&work);
    free(best);
    return status;
}

/* ---- the items ---- */

static int uniform_ranks(didi_merge *self, allocate_block *blocks, size_t count, didi_error *error)
{
    size_t per_layer = self->options.task_count + 1;
    double *real = memory_zeroed(count, sizeof *real);
    size_t *limit = memory_zeroed(count, sizeof *limit);
    uint64_t *cost = memory_zeroed(count, sizeof *cost);
    size_t *rank = memory_zeroed(count, sizeof *rank);
    int status = DIDI_OK;
    if (real == NULL || limit == NULL || cost == NULL || rank == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "ranks of %zu blocks", count);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        const family_tensor *tensor = self->layers[i / per_layer];
        uint64_t full = tensor->rows < tensor->columns ? tensor->rows : tensor->columns;
        limit[i] = blocks[i].count;
        real[i] = limit[i] > 0 ? (double)full : 0;
        cost[i] = blocks[i].cost;
    }
    status = allocate_round(real, limit, cost, count, self->factor_budget, rank, error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++) {
        blocks[i].rank = rank[i];
        blocks[i].dense = false;
    }
out:
    free(real);
    free(limit);
    free(cost);
    free(rank);
    return status;
}

static int save_ranks(didi_merge *self, const char *name, didi_error *error)
{
    size_t per_layer = self->options.task_count + 1;
    double *table = memory_zeroed(self->layer_count, 2 * per_layer * sizeof(double));
    if (table == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "table of ranks");
    for (size_t l = 0; l < self->layer_count; l++)
        for (size_t j = 0; j < per_layer; j++) {
            table[(l * 2) * per_layer + j] = (double)self->summaries[l].rank[j];
            table[(l * 2 + 1) * per_layer + j] = self->summaries[l].dense[j] ? 1 : 0;
        }
    state_entry entry = { "ranks", DIDI_DTYPE_F64, self->layer_count, 2 * per_layer, table };
    int status = state_save(self->options.work_fd, name, &entry, 1, !self->options.volatile_work,
                            error);
    free(table);
    return status;
}

/* Learned ranks are worth keeping; the greedy ones are computed again in no time. */
static int recall_ranks(didi_merge *self, const char *name)
{
    size_t per_layer = self->options.task_count + 1;
    didi_error ignored = { 0 };
    state *from = NULL;
    const void *data = NULL;
    uint64_t rows = 0;
    int status = state_open(self->options.work_fd, name, &from, &ignored);
    if (status == DIDI_OK)
        status = state_find(from, "ranks", DIDI_DTYPE_F64, 2 * per_layer, &rows, &data, &ignored);
    if (status == DIDI_OK && rows != self->layer_count)
        status = DIDI_FORMAT;
    const double *table = data;
    self->factor_parameters = 0;
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++)
        for (size_t j = 0; j < per_layer; j++) {
            self->summaries[l].rank[j] = (size_t)table[(l * 2) * per_layer + j];
            self->factor_parameters += self->summaries[l].rank[j]
                                       * (self->layers[l]->rows + self->layers[l]->columns);
        }
    state_close(from);
    return status;
}

static int schedule_pursuit(didi_merge *self, const allocate_block *blocks, size_t count,
                            didi_error *error)
{
    self->rounds = PURSUIT_ROUNDS + PURSUIT_POLISH;
    int status = allocate_schedule(blocks, count, self->factor_budget, PURSUIT_ROUNDS,
                                   self->thresholds, error);
    for (size_t i = PURSUIT_ROUNDS; i < self->rounds && status == DIDI_OK; i++)
        self->thresholds[i] = self->thresholds[PURSUIT_ROUNDS - 1];
    return status;
}

int merge_schedule(didi_merge *self, didi_error *error)
{
    allocate_block *blocks = NULL;
    allocate_result result = { 0 };
    size_t count = 0;
    count_dense(self);
    int status = check_tasks_differ(self, error);
    if (status == DIDI_OK)
        status = list_blocks(self, self->shared, &blocks, &count, error);
    if (status == DIDI_OK)
        status = make_frontier(self, blocks, count, error);
    if (status != DIDI_OK)
        goto out;
    switch (self->options.allocator) {
    case DIDI_ALLOCATOR_PURSUIT:
        status = schedule_pursuit(self, blocks, count, error);
        goto out;
    case DIDI_ALLOCATOR_UNIFORM:
        status = uniform_ranks(self, blocks, count, error);
        break;
    case DIDI_ALLOCATOR_DIFFERENTIABLE:
        if (self->shared && recall_ranks(self, "learned.state") == DIDI_OK)
            goto out;
        if (self->shared) {
            status = learn_ranks(self, blocks, count, error);
            break;
        }
        /* fall through: without a shared part there is no cross term, and greedy is exact */
        __attribute__((fallthrough));
    default:
        status = allocate_exact(blocks, count, self->factor_budget, &result, error);
        self->rounds = self->options.allocator == DIDI_ALLOCATOR_JOINT ? JOINT_ROUNDS : 0;
        for (size_t i = 0; i < self->rounds; i++)
            self->thresholds[i] = result.threshold;
    }
    if (status == DIDI_OK)
        adopt_ranks(self, blocks);
    if (status == DIDI_OK && self->options.allocator == DIDI_ALLOCATOR_DIFFERENTIABLE
        && self->shared)
        status = save_ranks(self, "learned.state", error);
out:
    free(blocks);
    return status;
}

int merge_final_ranks(didi_merge *self, didi_error *error)
{
    allocate_block *blocks = NULL;
    allocate_result result = { 0 };
    size_t count = 0;
    int status = list_blocks(self, self->shared, &blocks, &count, error);
    if (status == DIDI_OK)
        status = allocate_exact(blocks, count, self->factor_budget, &result, error);
    if (status == DIDI_OK) {
        adopt_ranks(self, blocks);
        merge_point(self, DIDI_STAGE_PURSUE, self->rounds, NAN, NAN,
                    ratio_with_dense(self, (double)self->factor_parameters));
    }
    free(blocks);
    return status;
}
