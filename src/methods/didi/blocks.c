/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks of all layers in one list, as the allocation sees them. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"
#include "src/budget/budget.h"

#include <stdlib.h>

/* Lists every block of every layer: shared first, then the experts. */
int didi_list_blocks(const didi *self, allocate_block **ret_blocks, size_t *ret_count,
                     didi_error *error)
{
    size_t per_layer = self->work->options.task_count + 1;
    allocate_block *blocks = memory_zeroed(self->work->layer_count * per_layer, sizeof *blocks);
    if (blocks == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of blocks");
    for (size_t l = 0; l < self->work->layer_count; l++) {
        const layer_summary *summary = &self->work->summaries[l];
        const family_tensor *tensor = self->work->layers[l];
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
            out->limit = limit;
            if (j == 0 && !self->work->shared)
                out->count = out->limit = 0;
            out->weight = j == 0 ? weight_sum : summary->weight[j - 1];
            out->cost = tensor->rows + tensor->columns;
            out->tail = summary->tail[j];
            for (size_t i = out->count; i < summary->count[j]; i++)
                out->tail += summary->sigma[j][i] * summary->sigma[j][i];
            if (j > 0 && limit == tensor->rank_limit)
                out->dense_cost = tensor->elements;
        }
    }
    *ret_blocks = blocks;
    *ret_count = self->work->layer_count * per_layer;
    return DIDI_OK;
}

int didi_uniform_ranks(const didi *self, allocate_block *blocks, size_t count, didi_error *error)
{
    size_t per_layer = self->work->options.task_count + 1;
    double *real = memory_zeroed(count, sizeof *real);
    if (real == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "ranks of %zu blocks", count);
    for (size_t i = 0; i < count; i++) {
        const family_tensor *tensor = self->work->layers[i / per_layer];
        uint64_t full = tensor->rows < tensor->columns ? tensor->rows : tensor->columns;
        real[i] = blocks[i].count > 0 ? (double)full : 0;
    }
    int status = allocate_round(blocks, count, real, self->factor_budget, error);
    free(real);
    return status;
}
