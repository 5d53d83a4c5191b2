/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that go on from blocks of an earlier merge: where pursuit stops at this merge's budget. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>

/* Up to here the rows there are do, with random ones for what is missing: refinement finds the
 * directions. Beyond, ranks are better decided on rows that have met the task vectors. */
#define PURSUE_GROWTH 1.75
int didi_warm_schedule(didi *self, didi_error *error)
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
        didi_error ignored = {0};
        self->warm.layers[l] = didi_recall_warm(self, l, &ignored) == DIDI_OK;
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
