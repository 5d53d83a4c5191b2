/* SPDX-License-Identifier: Apache-2.0 */
/* Weight-ensembling mixture of experts (Tang et al. 2024) with a one-hot gate: each task has the
 * MLPs of its own fine-tune, and all else is task arithmetic. The published gate is learned on test
 * inputs; here the task is known, which is the ideal of it. */
#include "src/methods/experts.h"

typedef struct wemoe {
    experts experts;
    double scale;
} wemoe;

static const method_option options[] = {
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(wemoe, scale),
     .standard = 0.3, /* the authors' */
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the sum of the task vectors outside the MLPs"},
    {.name = NULL},
};

static bool is_expert(const family_tensor *of)
{
    return expert_is_mlp(of->name);
}

static expert_part part_of(const void *method, const family_tensor *of)
{
    const wemoe *self = method;
    return is_expert(of) ? expert_delta() : expert_sum(self->scale);
}

static int open_parts(void *self, didi_error *error)
{
    return experts_open_named(self, is_expert, part_of, "an MLP", error);
}

const didi_method wemoe_method = {
    .name = "wemoe",
    .summary = "each task its own MLPs (a one-hot gate), the rest a sum for all",
    .options = options,
    .self_bytes = sizeof(wemoe),
    .stages = experts_stages,
    .stage_count = EXPERTS_STAGES,
    .open = open_parts,
    .plan = experts_plan,
    .close = experts_close,
};
