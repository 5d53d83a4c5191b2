/* SPDX-License-Identifier: Apache-2.0 */
/* Consensus merging (Wang et al. 2024): of the vector of all tasks the numbers that the TALL-masks
 * of at least `least` tasks take, times `scale`. One model for all tasks. */
#include "src/methods/tall.h"

#include "src/base/base.h"

static const method_option options[] = {
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(tall, scale),
     .standard = 0.3, /* as for task arithmetic */
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of what is merged"},
    {.name = "least",
     .kind = METHOD_COUNT,
     .offset = offsetof(tall, least),
     .standard = 2,
     .lowest = 1,
     .highest = 1024,
     .help = "tasks whose masks must take a number for it to be kept"},
    TALL_OPTION_LAMBDA(0.4),
    TALL_OPTION_VECTOR(TALL_SUM),
    TALL_OPTION_DENSITY,
    {.name = NULL},
};

static int open_consensus(void *context, didi_error *error)
{
    tall *self = context;
    size_t tasks = self->head.work->options.task_count;
    if (self->least > tasks)
        return didi_fail(error, DIDI_INVALID, "/method_options/least",
                         "least is %zu, and there are %zu tasks", self->least, tasks);
    return tall_open(self, ELECTION_SUM, 1, error);
}

static void fill(void *context, const method_panel *panel)
{
    const tall *self = context;
    tall_fill_vector(self, panel);
    for (uint64_t i = 0; i < panel->count; i++) {
        size_t takers = 0;
        for (size_t t = 0; t < panel->tasks; t++)
            takers += tall_takes(self, panel->tau[t][i], panel->shared[i]);
        panel->shared[i] =
            takers >= self->least ? (float)(self->scale * (double)panel->shared[i]) : 0;
    }
}

static int merge_tensor(void *self, size_t tensor, stored *out, didi_error *error)
{
    (void)tensor;
    return stored_shared_panels(out, fill, self, error);
}

static uint64_t most_memory(const void *context, size_t tensor)
{
    const tall *self = context;
    return tall_is_sum(self) ? stored_panels_memory(self->head.work, tensor)
                             : tall_count_memory(self, tensor);
}

static int plan(void *context, didi_error *error)
{
    const tall *self = context;
    const stored_cost cost = {.memory = most_memory, .passes = tall_passes(self)};
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    TALL_ROWS,
    {.name = "consensus", .told_as = DIDI_STAGE_REFINE, .share = 30, .each = merge_tensor},
};

const didi_method consensus_method = {
    .name = "consensus",
    .summary = "what the masks of several tasks take of their sum: one model for all tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(tall),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_consensus,
    .plan = plan,
    .begin = tall_begin,
    .close = tall_close,
};
