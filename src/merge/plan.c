/* SPDX-License-Identifier: Apache-2.0 */
/* What the headers alone tell: tensors, parameters, memory, disk and work. */
#include "src/merge/merge.h"

#include "src/base/base.h"

int merge_plan_lists(didi_merge *self, didi_error *error)
{
    work *of = &self->work;
    const family *all = of->family;
    bool matrices_only = (self->method->flags & METHOD_MATRICES_ONLY) != 0;
    of->layers = memory_zeroed(all->tensor_count, sizeof *of->layers);
    of->dense = memory_zeroed(all->tensor_count, sizeof *of->dense);
    if (of->layers == NULL || of->dense == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu tensors", all->tensor_count);
    for (size_t i = 0; of->options.task_count > 0 && i < all->tensor_count; i++) {
        const family_tensor *tensor = &all->tensors[i];
        if (tensor->kind == FAMILY_MATRIX || (tensor->kind == FAMILY_DENSE && !matrices_only))
            of->layers[of->layer_count++] = tensor;
        else if (tensor->kind == FAMILY_DENSE)
            of->dense[of->dense_count++] = tensor;
        else if (tensor->kind == FAMILY_PASSTHROUGH)
            of->plan.passthrough_count++;
        else
            of->plan.excluded_count++;
    }
    of->plan.tasks = of->options.task_count;
    of->plan.parameters = all->parameters;
    for (size_t t = 0; t < all->task_count; t++)
        of->plan.own_parameters = memory_add(of->plan.own_parameters, work_own_parameters(of, t));
    of->plan.own_bytes = work_own_bytes(of);
    of->plan.dense_parameters = of->plan.own_parameters;
    of->plan.layer_count = matrices_only ? of->layer_count : 0; /* those that may get factors */
    of->plan.dense_count = matrices_only ? of->dense_count : of->layer_count;
    of->plan.budget = of->options.budget;
    of->plan.budget_unit = of->options.budget_unit;
    didi_plan_layer *layers = memory_zeroed(of->layer_count, sizeof *layers);
    of->plan.layers = layers;
    if (layers == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "plan of %zu layers", of->layer_count);
    for (size_t i = 0; i < of->layer_count; i++)
        layers[i] = (didi_plan_layer){of->layers[i]->name, of->layers[i]->rows,
                                      of->layers[i]->columns, of->layers[i]->rank_limit};
    return DIDI_OK;
}

uint64_t merge_item_memory(const didi_merge *self, size_t row, size_t index)
{
    const engine_row *at = &self->rows[row];
    if (at->kind != ROW_EACH || index >= self->work.layer_count)
        return STORED_LEAST_BYTES;
    uint64_t bytes = at->stage->memory != NULL ? at->stage->memory(self->self, index)
                                               : stored_panels_memory(&self->work, index);
    /* An item that was promised to fit is never held back for good. */
    uint64_t limit = self->work.options.memory_limit;
    return limit > 0 && bytes > limit ? limit : bytes;
}

int merge_plan_make(didi_merge *self, didi_error *error)
{
    static const stored_cost panels = {.passes = 1};
    return self->method->plan != NULL ? self->method->plan(self->self, error)
                                      : stored_plan(&self->work, &panels, NULL, error);
}
