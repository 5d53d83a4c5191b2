/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors compete with components for room: which of them are kept for each task. */
#include "src/merge_internal.h"

#include "src/allocate.h"

#include <stdlib.h>

/* Deltas a vector would have if it were kept for each task. */
static size_t count_changed(const didi_merge *self, const dense_summary *found)
{
    size_t changed = 0;
    for (size_t t = 0; t < self->options.task_count; t++)
        changed += found->energy[t] > 0;
    return changed;
}

/* How much more a squared error in a vector costs than one in a matrix, by the accuracy lost
 * (docs/method.md, "What is kept dense"): it is the same at every input. */
#define VECTOR_WEIGHT 3.0

/* What one unit of squared error weighs, on the average over the matrices' energy: vectors have no
 * weight of their own. */
static double mean_weight(const didi_merge *self)
{
    double energy = merge_plain_energy(self);
    return energy > 0 ? merge_total_energy(self) / energy : 1;
}

int merge_promote_dense(didi_merge *self, allocate_block *blocks, size_t count, didi_error *error)
{
    allocate_result greedy = {0};
    if (self->options.dense != DIDI_DENSE_AUTO)
        return DIDI_OK;
    int status = allocate_exact(blocks, count, self->factor_budget, &greedy, error);
    if (status != DIDI_OK)
        return status;
    double weight = VECTOR_WEIGHT * mean_weight(self);
    uint64_t room = self->factor_budget;
    uint64_t unused = room - greedy.parameters;
    for (size_t i = 0; i < self->dense_count; i++) {
        dense_summary *found = &self->dense_summaries[i];
        size_t copies = count_changed(self, found);
        uint64_t cost = copies > 1 ? self->dense[i]->elements * (copies - 1) : 0;
        double gain = weight * solve_role(self->dense[i]->name) * (found->error - found->own_error);
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
