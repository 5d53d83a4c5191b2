/* SPDX-License-Identifier: Apache-2.0 */
/* Task arithmetic (Ilharco et al. 2023): W_0 plus `scale` times the sum of the task vectors, each
 * times its task's weight. One model for all tasks. */
#include "src/methods/methods.h"

typedef struct task_arithmetic {
    method_head head;
    double scale;
} task_arithmetic;

static const method_option options[] = {
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(task_arithmetic, scale),
     .standard = 0.3, /* the paper's for eight tasks */
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the sum of the task vectors"},
    {.name = NULL},
};

static void fill(void *context, const method_panel *panel)
{
    const task_arithmetic *self = context;
    const double *weight = self->head.work->task_weight;
    for (uint64_t i = 0; i < panel->count; i++) {
        double sum = 0;
        for (size_t t = 0; t < panel->tasks; t++)
            sum += weight[t] * (double)panel->tau[t][i];
        panel->shared[i] = (float)(self->scale * sum);
    }
}

static int merge_tensor(void *self, size_t tensor, stored *out, didi_error *error)
{
    (void)tensor;
    return stored_shared_panels(out, fill, self, error);
}

static const method_stage stages[] = {
    {.name = "arithmetic", .told_as = DIDI_STAGE_REFINE, .share = 90, .each = merge_tensor},
};

const didi_method task_arithmetic_method = {
    .name = "task_arithmetic",
    .summary = "a scaled sum of the task vectors: one model for all tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(task_arithmetic),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
};
