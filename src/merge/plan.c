/* SPDX-License-Identifier: Apache-2.0 */
/* What the headers alone tell: parameters, memory, disk and work; and what cannot be done. */
#include "src/methods/didi/sizes.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>

static int sort_lists(didi_merge *self, didi_error *error)
{
    const family *all = self->family;
    self->layers = memory_zeroed(all->tensor_count, sizeof *self->layers);
    self->dense = memory_zeroed(all->tensor_count, sizeof *self->dense);
    if (self->layers == NULL || self->dense == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu tensors", all->tensor_count);
    for (size_t i = 0; self->options.task_count > 0 && i < all->tensor_count; i++) {
        const family_tensor *tensor = &all->tensors[i];
        if (tensor->kind == FAMILY_MATRIX)
            self->layers[self->layer_count++] = tensor;
        else if (tensor->kind == FAMILY_DENSE)
            self->dense[self->dense_count++] = tensor;
        else if (tensor->kind == FAMILY_PASSTHROUGH)
            self->passthrough_count++;
        else
            self->plan.excluded_count++;
    }
    return DIDI_OK;
}

enum { EXPECTED_SWEEPS = 6 };

/* Sweeps or steps that refinement is expected to take: the tolerance ends most layers early. */
static size_t expected_steps(const didi_merge *self)
{
    const didi_merge_options *o = &self->options;
    bool ends = o->optimizer == DIDI_OPTIMIZER_ALS && o->tolerance > 0;
    return ends && o->refine_steps > EXPECTED_SWEEPS ? EXPECTED_SWEEPS : o->refine_steps;
}

/* How often a streamed matrix is read of some model or other: the base and one task for a product
 * with an expert, all for one with the shared block. */
static uint64_t streamed_reads(const didi_merge *self)
{
    uint64_t experts = 2 * (uint64_t)self->options.task_count;
    uint64_t shared = self->options.task_count + 1;
    uint64_t decompose = experts + 2 * 2 * experts; /* energies, two updates */
    uint64_t rounds = PURSUIT_ROUNDS + PURSUIT_POLISH;
    uint64_t pursue = (rounds + 2) * (experts + 2 * shared) + experts;
    uint64_t sweep = 2 * (experts + shared) + shared; /* two half-steps and a loss */
    return decompose + pursue + memory_multiply(expected_steps(self), sweep) + experts;
}

/* Flops: what decomposition, pursuit and refinement multiply, at the uniform rank. */
static void plan_work(didi_merge *self)
{
    didi_plan *plan = &self->plan;
    double tasks = (double)plan->tasks;
    double ratio = (double)plan->factor_parameters / (double)plan->parameters;
    double sweeps = (double)expected_steps(self) + 2;
    sweeps += merge_pursues(self) ? PURSUIT_ROUNDS + PURSUIT_POLISH : 0;
    uint64_t visits = merge_pursues(self) ? 3 : 2;
    for (size_t i = 0; i < self->layer_count; i++) {
        double m = (double)self->layers[i]->rows;
        double n = (double)self->layers[i]->columns;
        double shorter = m < n ? m : n;
        double rank = ratio * m * n / ((m + n) * tasks);
        plan->flops += sweeps * 4 * m * n * rank * 1.3 * (tasks + 1);
        if (merge_needs_spectra(self))
            plan->flops += (tasks + 1) * (2 * m * n * shorter + 12 * shorter * shorter * shorter);
    }
    uint64_t size = 0;
    const family *all = self->family;
    for (size_t f = 0; f < checkpoint_file_count(all->base); f++)
        size = memory_add(size, checkpoint_file_at(all->base, f)->bytes);
    for (size_t t = 0; t < all->task_count; t++)
        for (size_t f = 0; f < checkpoint_file_count(all->tasks[t]); f++)
            size = memory_add(size, checkpoint_file_at(all->tasks[t], f)->bytes);
    plan->bytes_to_read = memory_multiply(size, visits + 1); /* and once for the digests */
    plan->bytes_to_read = memory_add(plan->bytes_to_read,
                                     memory_multiply(plan->streamed_bytes, streamed_reads(self)));
}

static void plan_disk(didi_merge *self)
{
    didi_plan *plan = &self->plan;
    didi_precision precision = self->options.precision;
    uint64_t width = precision == DIDI_PRECISION_F32       ? 4
                     : precision_is_plain(precision, NULL) ? 2
                                                           : 1;
    uint64_t headers = 512 * (self->layer_count + self->dense_count) * (plan->tasks + 1);
    uint64_t stored = memory_add(plan->factor_parameters, plan->dense_parameters);
    plan->artifact_bytes = memory_add(memory_multiply(stored, width), headers + (1 << 16));
    if (plan->artifact_bytes > merge_byte_budget(self))
        plan->artifact_bytes = merge_byte_budget(self);
    /* Pursuit keeps float32 factors with spare rows, refinement the published ones. */
    uint64_t work =
        memory_multiply(plan->factor_parameters, merge_pursues(self) ? 6 + width : width);
    uint64_t sketch = 0;
    for (size_t i = 0; i < self->layer_count; i++) {
        const family_tensor *tensor = self->layers[i];
        uint64_t rows = self->limits[i].expert;
        uint64_t each = merge_pursues(self) ? memory_multiply(rows, tensor->columns) : 0;
        if (self->options.allocator == DIDI_ALLOCATOR_DIFFERENTIABLE)
            each = memory_multiply(rows, rows);
        sketch = memory_add(sketch, memory_multiply(each, 4 * plan->tasks));
    }
    plan->disk_bytes = memory_add(plan->artifact_bytes, memory_add(work, sketch));
    plan->disk_bytes = memory_add(plan->disk_bytes, plan->spilled_bytes);
}

static int plan_layers(didi_merge *self, uint64_t *ret_smallest, didi_error *error)
{
    didi_plan_layer *layers = memory_zeroed(self->layer_count, sizeof *layers);
    self->plan.layers = layers;
    self->limits = memory_zeroed(self->layer_count, sizeof *self->limits);
    if (layers == NULL || self->limits == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "plan of %zu layers", self->layer_count);
    uint64_t smallest = self->layer_count > 0 ? UINT64_MAX : 0;
    uint64_t matrices = 0;
    for (size_t i = 0; i < self->layer_count; i++) {
        const family_tensor *tensor = self->layers[i];
        uint64_t cost = tensor->rows + tensor->columns;
        smallest = cost < smallest ? cost : smallest;
        matrices += tensor->elements;
        layers[i] =
            (didi_plan_layer){tensor->name, tensor->rows, tensor->columns, tensor->rank_limit};
    }
    double ratio = matrices > 0 ? (double)self->plan.factor_parameters / (double)matrices : 0;
    for (size_t i = 0; i < self->layer_count; i++)
        self->limits[i] =
            solve_limits_for(layers[i].rows, layers[i].columns, self->options.task_count, ratio);
    *ret_smallest = smallest;
    return DIDI_OK;
}

int merge_plan_make(didi_merge *self, didi_error *error)
{
    didi_plan *plan = &self->plan;
    uint64_t smallest = 0;
    int status = sort_lists(self, error);
    if (status != DIDI_OK)
        return status;
    plan->tasks = self->options.task_count;
    plan->parameters = self->family->parameters;
    plan->layer_count = self->layer_count;
    plan->dense_count = self->dense_count;
    plan->passthrough_count = self->passthrough_count;
    merge_plan_budget(self);
    status = plan_layers(self, &smallest, error);
    if (status != DIDI_OK)
        return status;
    status = merge_plan_check_budget(self, smallest, error);
    if (status == DIDI_OK)
        status = merge_plan_memory(self, error);
    if (status == DIDI_OK) {
        plan_work(self);
        plan_disk(self);
    }
    return status;
}
