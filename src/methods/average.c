/* SPDX-License-Identifier: Apache-2.0 */
/* Weight averaging ("model soups", Wortsman et al. 2022): W_0 plus the mean of the task vectors,
 * weighted by the tasks' weights. One model for all tasks. */
#include "src/methods/methods.h"

typedef struct average {
    method_head head;
} average;

static void fill(void *context, const method_panel *panel)
{
    const average *self = context;
    const double *weight = self->head.work->task_weight;
    double sum = 0;
    for (size_t t = 0; t < panel->tasks; t++)
        sum += weight[t];
    for (uint64_t i = 0; i < panel->count; i++) {
        double value = 0;
        for (size_t t = 0; t < panel->tasks; t++)
            value += weight[t] * (double)panel->tau[t][i];
        panel->shared[i] = (float)(value / sum);
    }
}

static int merge_tensor(void *self, size_t tensor, stored *out, didi_error *error)
{
    (void)tensor;
    return stored_shared_panels(out, fill, self, error);
}

static const method_stage stages[] = {
    {.name = "average", .told_as = DIDI_STAGE_REFINE, .share = 90, .each = merge_tensor},
};

const didi_method average_method = {
    .name = "average",
    .summary = "the mean of the fine-tunes: one model for all tasks",
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(average),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
};
