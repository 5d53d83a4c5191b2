/* SPDX-License-Identifier: Apache-2.0 */
/* Weight averaging ("model soups", Wortsman et al. 2022): W_0 plus the mean of the task vectors,
 * weighted by the tasks' weights. One model for all tasks. */
#include "src/methods/methods.h"

typedef struct average {
    method_head head;
} average;

static int merge_tensor(void *self, size_t tensor, stored *out, didi_error *error)
{
    (void)self;
    (void)tensor;
    return stored_mean_panels(out, error);
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
