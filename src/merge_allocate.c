/* SPDX-License-Identifier: Apache-2.0 */
/* The items that look at all layers at once: the ranks, or pursuit's schedule of thresholds. */
#include "src/merge_internal.h"

#include "src/allocate.h"
#include "src/base/memory.h"
#include "src/state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the scan found zero need not be stored, and leaves its room to the factors. */
static void count_dense(didi_merge *self)
{
    size_t tasks = self->options.task_count;
    self->dense_stored = 0;
    for (size_t i = 0; i < self->dense_count; i++)
        for (size_t file = 0; file <= tasks; file++)
            if (merge_holds_delta(self, i, file))
                self->dense_stored += self->dense[i]->elements;
    uint64_t ceiling = (uint64_t)floor(self->options.budget * (double)self->plan.parameters);
    self->factor_budget = ceiling > self->dense_stored ? ceiling - self->dense_stored : 0;
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
    state_entry entry = {"ranks", DIDI_DTYPE_F64, self->layer_count, 2 * per_layer, table};
    int status =
        state_save(self->options.work_fd, name, &entry, 1, !self->options.volatile_work, error);
    free(table);
    return status;
}

/* Learned ranks are worth keeping; the greedy ones are computed again in no time. */
static int recall_ranks(didi_merge *self, const char *name)
{
    size_t per_layer = self->options.task_count + 1;
    didi_error ignored = {0};
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
            self->factor_parameters +=
                self->summaries[l].rank[j] * (self->layers[l]->rows + self->layers[l]->columns);
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

/* Without a shared part there is no cross term, and without any change nothing to weigh: the greedy
 * ranks are then the best. */
static bool learns_ranks(const didi_merge *self)
{
    return self->options.allocator == DIDI_ALLOCATOR_DIFFERENTIABLE && self->shared &&
           merge_total_energy(self) > 0;
}

static int schedule_learned(didi_merge *self, allocate_block *blocks, size_t count,
                            didi_error *error)
{
    if (recall_ranks(self, "learned.state") == DIDI_OK)
        return DIDI_OK;
    int status = merge_learn_ranks(self, blocks, count, error);
    if (status != DIDI_OK)
        return status;
    adopt_ranks(self, blocks);
    return save_ranks(self, "learned.state", error);
}

static int schedule_exact(didi_merge *self, allocate_block *blocks, size_t count, didi_error *error)
{
    allocate_result result = {0};
    int status = allocate_exact(blocks, count, self->factor_budget, &result, error);
    if (status != DIDI_OK)
        return status;
    self->rounds = self->options.allocator == DIDI_ALLOCATOR_JOINT ? JOINT_ROUNDS : 0;
    for (size_t i = 0; i < self->rounds; i++)
        self->thresholds[i] = result.threshold;
    adopt_ranks(self, blocks);
    return DIDI_OK;
}

static int schedule_uniform(didi_merge *self, allocate_block *blocks, size_t count,
                            didi_error *error)
{
    int status = merge_uniform_ranks(self, blocks, count, error);
    if (status == DIDI_OK)
        adopt_ranks(self, blocks);
    return status;
}

int merge_schedule(didi_merge *self, didi_error *error)
{
    allocate_block *blocks = NULL;
    size_t count = 0;
    count_dense(self);
    int status = check_tasks_differ(self, error);
    if (status == DIDI_OK)
        status = merge_balance_tasks(self, true, error);
    if (status == DIDI_OK)
        status = merge_list_blocks(self, &blocks, &count, error);
    if (status == DIDI_OK)
        status = merge_promote_dense(self, blocks, count, error);
    count_dense(self);
    if (status == DIDI_OK)
        status = merge_frontier_from_spectra(self, blocks, count, error);
    if (status != DIDI_OK)
        goto out;
    if (self->options.allocator == DIDI_ALLOCATOR_PURSUIT)
        status = schedule_pursuit(self, blocks, count, error);
    else if (self->options.allocator == DIDI_ALLOCATOR_UNIFORM)
        status = schedule_uniform(self, blocks, count, error);
    else if (learns_ranks(self))
        status = schedule_learned(self, blocks, count, error);
    else
        status = schedule_exact(self, blocks, count, error);
    if (status == DIDI_OK)
        status = merge_warm_schedule(self, error);
out:
    free(blocks);
    return status;
}

int merge_final_ranks(didi_merge *self, didi_error *error)
{
    allocate_block *blocks = NULL;
    allocate_result result = {0};
    size_t count = 0;
    int status = merge_balance_tasks(self, false, error);
    if (status == DIDI_OK)
        status = merge_list_blocks(self, &blocks, &count, error);
    if (status == DIDI_OK)
        status = allocate_exact(blocks, count, self->factor_budget, &result, error);
    if (status == DIDI_OK)
        status = merge_frontier_from_blocks(self, blocks, count, error);
    if (status == DIDI_OK) {
        adopt_ranks(self, blocks);
        merge_point(self, DIDI_STAGE_PURSUE, self->layer_count + 1, NAN, NAN,
                    merge_ratio_with_dense(self, (double)self->factor_parameters));
    }
    free(blocks);
    return status;
}
