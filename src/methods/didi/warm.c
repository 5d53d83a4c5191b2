/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that go on from blocks of an earlier merge: where pursuit stops at this merge's budget. */
#include "src/merge/merge_internal.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>

/* Up to here the rows there are do, with random ones for what is missing: refinement finds the
 * directions. Beyond, ranks are better decided on rows that have met the task vectors. */
#define PURSUE_GROWTH 1.75
int merge_warm_schedule(didi_merge *self, didi_error *error)
{
    allocate_block *blocks = NULL;
    allocate_result result = {0};
    size_t count = 0;
    size_t found = 0;
    double held = 0;
    if (!self->reuse.blocks)
        return DIDI_OK;
    if (self->reuse.warm == NULL)
        self->reuse.warm = memory_zeroed(self->layer_count, sizeof(bool));
    if (self->reuse.warm == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu layers", self->layer_count);
    for (size_t l = 0; l < self->layer_count; l++) {
        didi_error ignored = {0};
        self->reuse.warm[l] = merge_recall_pursued(self, l, &ignored) == DIDI_OK;
        found += self->reuse.warm[l];
        held += self->reuse.warm[l] ? self->pursued[l].parameters : 0;
    }
    if (found == 0)
        return DIDI_OK;
    int status = merge_counts_bytes(self)
                     ? merge_bytes_threshold(self, &result.threshold, &result.parameters, error)
                     : merge_list_blocks(self, &blocks, &count, error);
    if (status == DIDI_OK && !merge_counts_bytes(self)) {
        status = allocate_exact(blocks, count, self->factor_budget, &result, error);
        result.parameters = self->factor_budget;
    }
    free(blocks);
    self->reuse.growth = held > 0 ? (double)result.parameters / held : INFINITY;
    self->reuse.rounds = self->reuse.growth > PURSUE_GROWTH ? WARM_ROUNDS : 0;
    for (size_t i = 0; i < WARM_ROUNDS; i++)
        self->reuse.thresholds[i] = result.threshold;
    return status;
}
