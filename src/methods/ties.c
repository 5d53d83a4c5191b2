/* SPDX-License-Identifier: Apache-2.0 */
/* TIES (Yadav et al. 2023): of each task vector the largest magnitudes, the sign that their sum has
 * element by element, and the mean of those that agree. One model for all tasks. Four passes: two
 * for the thresholds, which are of whole models, one for the sign that most elements have, one that
 * merges. It is the vector that TALL-masks are of, and no masks. */
#include "src/methods/tall.h"

static const method_option options[] = {
    ELECTION_OPTIONS(tall, election, 1), /* the authors' where there is nothing to validate with */
    {.name = NULL},
};

static int open_ties(void *context, didi_error *error)
{
    tall *self = context;
    return tall_open(self, self->election.combine, self->election.scale, error);
}

static void fill(void *context, const method_panel *panel)
{
    tall_fill_vector(context, panel);
}

static int merge_tensor(void *self, size_t tensor, stored *out, didi_error *error)
{
    (void)tensor;
    return stored_shared_panels(out, fill, self, error);
}

static double flops(const void *context, size_t tensor)
{
    const tall *self = context;
    const work *of = self->head.work;
    return 8.0 * (double)of->layers[tensor]->elements * (double)of->options.task_count;
}

static int plan(void *context, didi_error *error)
{
    const tall *self = context;
    const stored_cost cost = {
        .memory = tall_count_memory, .flops = flops, .passes = tall_passes(self)};
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    TALL_ROWS,
    {.name = "ties", .told_as = DIDI_STAGE_REFINE, .share = 30, .each = merge_tensor},
};

const didi_method ties_method = {
    .name = "ties",
    .summary = "the largest numbers of each task vector, where their signs agree: one model for "
               "all tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(tall),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_ties,
    .plan = plan,
    .begin = tall_begin,
    .close = tall_close,
};
