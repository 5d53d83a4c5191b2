/* SPDX-License-Identifier: Apache-2.0 */
/* The items that look at all layers at once: the ranks, or pursuit's schedule of thresholds. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"
#include "src/budget/budget.h"
#include "src/files/files.h"

#include <math.h>
#include <stdlib.h>

/* Parameters that fit, headers and all, whichever blocks take them. */
static uint64_t parameters_within_bytes(const didi *self)
{
    unsigned bits = precision_bits(precision_of_factors(self->work->options.precision));
    uint64_t taken = 0;
    double dearest = 0;
    for (size_t l = 0; l < self->work->layer_count; l++) {
        const family_tensor *tensor = self->work->layers[l];
        double bytes = (double)precision_component_bytes(tensor->rows, tensor->columns, bits);
        double each = bytes / (double)(tensor->rows + tensor->columns);
        dearest = each > dearest ? each : dearest;
        taken = memory_add(taken, memory_multiply(didi_entry_bytes(self, tensor, true),
                                                  self->work->options.task_count + 1));
    }
    for (size_t i = 0; i < self->work->dense_count; i++)
        for (size_t file = 0; file <= self->work->options.task_count; file++) {
            const family_tensor *tensor = self->work->dense[i];
            unsigned dense = precision_bits(precision_of_dense(self->work->options.precision));
            if (work_holds_delta(self->work, i, file))
                taken = memory_add(
                    taken, memory_add(didi_entry_bytes(self, tensor, false),
                                      precision_dense_bytes(tensor->rows, tensor->columns, dense)));
        }
    taken = memory_add(taken, didi_fixed_bytes(self));
    uint64_t budget = didi_byte_budget(self);
    return budget > taken && dearest > 0 ? (uint64_t)((double)(budget - taken) / dearest) : 0;
}

static void set_factor_budget(didi *self)
{
    if (self->work->options.budget_unit != DIDI_BUDGET_PARAMETERS) {
        self->factor_budget = parameters_within_bytes(self);
        return;
    }
    uint64_t ceiling =
        (uint64_t)floor(self->work->options.budget * (double)self->work->plan.parameters);
    self->factor_budget = ceiling > self->dense_stored ? ceiling - self->dense_stored : 0;
}

static void adopt_ranks(didi *self, const allocate_block *blocks)
{
    size_t per_layer = self->work->options.task_count + 1;
    self->factor_parameters = 0;
    for (size_t l = 0; l < self->work->layer_count; l++)
        for (size_t j = 0; j < per_layer; j++) {
            const allocate_block *from = &blocks[l * per_layer + j];
            self->work->summaries[l].rank[j] = from->rank;
            self->work->summaries[l].dense[j] = from->dense;
            self->factor_parameters += from->dense ? from->dense_cost : from->rank * from->cost;
        }
}

static int save_ranks(const didi *self, const char *file, didi_error *error)
{
    size_t per_layer = self->work->options.task_count + 1;
    size_t layers = self->work->layer_count;
    double *table = memory_zeroed(layers * per_layer, sizeof *table);
    if (table == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "table of ranks");
    for (size_t l = 0; l < layers; l++)
        for (size_t j = 0; j < per_layer; j++)
            table[l * per_layer + j] = (double)self->work->summaries[l].rank[j];
    int status = work_save_table(self->work, file, "ranks", layers, per_layer, table, error);
    free(table);
    return status;
}

/* Learned ranks are worth keeping; the greedy ones are computed again in no time. */
static bool recall_ranks(didi *self, const char *file)
{
    size_t per_layer = self->work->options.task_count + 1;
    size_t layers = self->work->layer_count;
    double *table = memory_zeroed(layers * per_layer, sizeof *table);
    bool found = table != NULL && work_read_table(self->work, file, "ranks", layers, per_layer,
                                                  table, NULL) == DIDI_OK;
    self->factor_parameters = 0;
    for (size_t i = 0; i < layers * per_layer && found; i++) {
        const family_tensor *tensor = self->work->layers[i / per_layer];
        self->work->summaries[i / per_layer].rank[i % per_layer] = (size_t)table[i];
        self->factor_parameters += (size_t)table[i] * (tensor->rows + tensor->columns);
    }
    free(table);
    return found;
}

static int schedule_pursuit(didi *self, const allocate_block *blocks, size_t count,
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
static bool learns_ranks(const didi *self)
{
    return self->work->options.allocator == DIDI_ALLOCATOR_DIFFERENTIABLE && self->work->shared &&
           work_weighted_energy(self->work) > 0;
}

static int schedule_learned(didi *self, allocate_block *blocks, size_t count, didi_error *error)
{
    if (recall_ranks(self, "learned.state"))
        return DIDI_OK;
    int status = didi_learn_ranks(self, blocks, count, error);
    if (status != DIDI_OK)
        return status;
    adopt_ranks(self, blocks);
    return save_ranks(self, "learned.state", error);
}

static int schedule_exact(didi *self, allocate_block *blocks, size_t count, didi_error *error)
{
    allocate_result result = {0};
    int status = allocate_exact(blocks, count, self->factor_budget, &result, error);
    if (status != DIDI_OK)
        return status;
    self->rounds = self->work->options.allocator == DIDI_ALLOCATOR_JOINT ? JOINT_ROUNDS : 0;
    for (size_t i = 0; i < self->rounds; i++)
        self->thresholds[i] = result.threshold;
    adopt_ranks(self, blocks);
    return DIDI_OK;
}

static int schedule_uniform(didi *self, allocate_block *blocks, size_t count, didi_error *error)
{
    int status = didi_uniform_ranks(self, blocks, count, error);
    if (status == DIDI_OK)
        adopt_ranks(self, blocks);
    return status;
}

static int schedule_by_parameters(didi *self, allocate_block *blocks, size_t count,
                                  didi_error *error)
{
    int status = didi_promote_dense(self, blocks, count, error);
    if (status != DIDI_OK)
        return status;
    self->dense_stored = work_dense_parameters(self->work);
    set_factor_budget(self);
    switch (self->work->options.allocator) {
    case DIDI_ALLOCATOR_PURSUIT:
        return schedule_pursuit(self, blocks, count, error);
    case DIDI_ALLOCATOR_UNIFORM:
        return schedule_uniform(self, blocks, count, error);
    default:
        return learns_ranks(self) ? schedule_learned(self, blocks, count, error)
                                  : schedule_exact(self, blocks, count, error);
    }
}

/* Up to here the rows there are do, with random ones for what is missing: refinement finds the
 * directions. Beyond, ranks are better decided on rows that have met the task vectors. */
#define PURSUE_GROWTH 1.75

/* Finds the layers that start from an earlier merge's blocks, adopts their spectra and sets the
 * threshold they are pursued at. */
static int schedule_warm(didi *self, didi_error *error)
{
    allocate_block *blocks = NULL;
    allocate_result result = {0};
    size_t count = 0;
    size_t found = 0;
    double held = 0;
    if (!self->warm.blocks)
        return DIDI_OK;
    if (self->warm.layers == NULL)
        self->warm.layers = memory_zeroed(self->work->layer_count, sizeof(bool));
    if (self->warm.layers == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu layers", self->work->layer_count);
    for (size_t l = 0; l < self->work->layer_count; l++) {
        self->warm.layers[l] = didi_recall_warm(self, l, NULL) == DIDI_OK;
        found += self->warm.layers[l];
        held += self->warm.layers[l] ? self->pursued[l].parameters : 0;
    }
    if (found == 0)
        return DIDI_OK;
    int status = didi_counts_bytes(self)
                     ? didi_bytes_threshold(self, &result.threshold, &result.parameters, error)
                     : didi_list_blocks(self, &blocks, &count, error);
    if (status == DIDI_OK && !didi_counts_bytes(self)) {
        status = allocate_exact(blocks, count, self->factor_budget, &result, error);
        result.parameters = self->factor_budget;
    }
    free(blocks);
    self->warm.growth = held > 0 ? (double)result.parameters / held : INFINITY;
    self->warm.rounds = self->warm.growth > PURSUE_GROWTH ? WARM_ROUNDS : 0;
    for (size_t i = 0; i < WARM_ROUNDS; i++)
        self->warm.thresholds[i] = result.threshold;
    return status;
}

int didi_schedule(void *method, didi_error *error)
{
    didi *self = method;
    allocate_block *blocks = NULL;
    size_t count = 0;
    bool bytes = didi_counts_bytes(self);
    didi_set_fixed_widths(self);
    self->dense_stored = work_dense_parameters(self->work);
    if (!bytes)
        set_factor_budget(self);
    int status = work_check_tasks_differ(self->work, error);
    if (status == DIDI_OK)
        status = didi_balance_tasks(self, true, error);
    if (status == DIDI_OK)
        status = didi_list_blocks(self, &blocks, &count, error);
    if (status == DIDI_OK)
        status = didi_frontier_from_spectra(self, blocks, count, error);
    if (status == DIDI_OK)
        status = bytes ? didi_schedule_bytes(self, error)
                       : schedule_by_parameters(self, blocks, count, error);
    if (status == DIDI_OK)
        status = schedule_warm(self, error);
    if (status == DIDI_OK && !bytes) {
        didi_set_fixed_widths(self);
        status = work_package_bytes(self->work, &self->chosen_bytes, error);
    }
    if (status == DIDI_OK && !didi_pursues(self) && !bytes)
        status = didi_curves(self, error);
    free(blocks);
    return status;
}

static int final_by_parameters(didi *self, allocate_block *blocks, size_t count, didi_error *error)
{
    allocate_result result = {0};
    int status = allocate_exact(blocks, count, self->factor_budget, &result, error);
    if (status != DIDI_OK)
        return status;
    adopt_ranks(self, blocks);
    didi_set_fixed_widths(self);
    return work_package_bytes(self->work, &self->chosen_bytes, error);
}

int didi_final_ranks(void *method, didi_error *error)
{
    didi *self = method;
    allocate_block *blocks = NULL;
    size_t count = 0;
    int status = didi_balance_tasks(self, false, error);
    if (status == DIDI_OK)
        status = didi_list_blocks(self, &blocks, &count, error);
    if (status == DIDI_OK)
        status = didi_counts_bytes(self) ? didi_final_bytes(self, error)
                                         : final_by_parameters(self, blocks, count, error);
    if (status == DIDI_OK && self->pass == 0 && didi_pursues(self))
        status = didi_frontier_from_blocks(self, blocks, count, error);
    if (status == DIDI_OK && self->pass == 0)
        status = didi_curves(self, error);
    if (status == DIDI_OK && self->pass_count == 0)
        work_point(self->work, DIDI_STAGE_PURSUE, self->work->layer_count + 1, NAN, NAN,
                   didi_ratio(self, (double)self->factor_parameters));
    free(blocks);
    return status;
}
