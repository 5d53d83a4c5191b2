/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors compete with components for room: which of them are kept for each task. */
#include "src/methods/didi/didi_method.h"

#include "src/budget/budget.h"

#include <math.h>
#include <stdlib.h>

/* Deltas a vector would have if it were kept for each task. */
static size_t count_changed(const didi *self, const dense_summary *found)
{
    size_t changed = 0;
    for (size_t t = 0; t < self->work->options.task_count; t++)
        changed += found->energy[t] > 0;
    return changed;
}

/* What a vector weighs beside a matrix of the same energy, by the accuracy lost (docs/method.md,
 * "What is kept dense"): the same at every input. */
#define VECTOR_WEIGHT 0.3

/* What a delta for each task gains over the mean, in the unit of the matrices' losses. */
static double promotion_gain(const didi *self, size_t index, double unit)
{
    const family_tensor *tensor = self->work->dense[index];
    const dense_summary *found = &self->work->dense_summaries[index];
    double energy = 0;
    for (size_t t = 0; t < self->work->options.task_count; t++)
        energy += found->energy[t];
    if (!(energy > 0))
        return 0;
    double balance = sqrt(energy / (double)self->work->options.task_count);
    double role = solve_vector_role(tensor->name, tensor->base->tensor->dimensions);
    return VECTOR_WEIGHT * unit * role / balance * (found->error - found->own_error);
}

int didi_promote_dense(didi *self, allocate_block *blocks, size_t count, didi_error *error)
{
    allocate_result greedy = {0};
    if (self->work->options.dense != DIDI_DENSE_AUTO)
        return DIDI_OK;
    int status = allocate_exact(blocks, count, self->factor_budget, &greedy, error);
    if (status != DIDI_OK)
        return status;
    double unit = didi_weight_unit(self);
    uint64_t room = self->factor_budget;
    uint64_t unused = room - greedy.parameters;
    for (size_t i = 0; i < self->work->dense_count; i++) {
        dense_summary *found = &self->work->dense_summaries[i];
        size_t copies = count_changed(self, found);
        uint64_t cost = copies > 1 ? self->work->dense[i]->elements * (copies - 1) : 0;
        double gain = promotion_gain(self, i, unit);
        bool free = cost <= unused;
        if (found->form != DIDI_DENSE_MEAN || copies == 0 || !(gain > 0) || cost > room ||
            (!free && gain <= greedy.threshold * (double)cost))
            continue;
        found->form = DIDI_DENSE_PER_TASK;
        room -= cost;
        unused -= free ? cost : 0;
    }
    return DIDI_OK;
}
