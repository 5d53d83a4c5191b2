/* SPDX-License-Identifier: Apache-2.0 */
/* DiDi-Merging as a method: its rows, and what it asks of its options. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"
#include "src/methods/methods.h"

#include <math.h>
#include <stdlib.h>

bool didi_needs_spectra(const didi *self)
{
    return self->work->options.allocator != DIDI_ALLOCATOR_PURSUIT;
}

bool didi_pursues(const didi *self)
{
    return self->work->options.allocator == DIDI_ALLOCATOR_PURSUIT ||
           self->work->options.allocator == DIDI_ALLOCATOR_JOINT;
}

bool didi_counts_bytes(const didi *self)
{
    const didi_merge_options *o = &self->work->options;
    bool greedy = o->allocator == DIDI_ALLOCATOR_PURSUIT || o->allocator == DIDI_ALLOCATOR_EXACT ||
                  o->allocator == DIDI_ALLOCATOR_JOINT;
    return greedy &&
           (o->budget_unit != DIDI_BUDGET_PARAMETERS || o->precision == DIDI_PRECISION_AUTO);
}

static bool skips_pursuit(const void *self)
{
    return !didi_pursues(self);
}

bool didi_ranks_are_final(const didi *self)
{
    return !didi_pursues(self) && !didi_counts_bytes(self);
}

static bool skips_ranks(const void *self)
{
    return didi_ranks_are_final(self);
}

static bool skips_refinement(const void *method)
{
    const didi *self = method;
    return self->work->options.survey;
}

static uint64_t decompose_memory(const void *self, size_t index)
{
    return didi_mode_of(self, DIDI_ROW_DECOMPOSE, index).bytes;
}

static uint64_t pursue_memory(const void *self, size_t index)
{
    return didi_mode_of(self, DIDI_ROW_PURSUE, index).bytes;
}

static uint64_t refine_memory(const void *self, size_t index)
{
    return didi_mode_of(self, DIDI_ROW_REFINE, index).bytes;
}

static const method_stage rows[] = {
    [DIDI_ROW_DECOMPOSE] = {.name = "decompose",
                            .told_as = DIDI_STAGE_DECOMPOSE,
                            .share = 15,
                            .each = didi_decompose_layer,
                            .recall = didi_recall_decomposed,
                            .memory = decompose_memory},
    [DIDI_ROW_SCHEDULE] = {.name = "schedule",
                           .told_as = DIDI_STAGE_ALLOCATE,
                           .share = 5,
                           .once = didi_schedule},
    [DIDI_ROW_PURSUE] = {.name = "pursue",
                         .told_as = DIDI_STAGE_PURSUE,
                         .share = 45,
                         .each = didi_pursue_layer,
                         .skipped = skips_pursuit,
                         .recall = didi_recall_pursued,
                         .report = didi_report_pursued,
                         .memory = pursue_memory},
    [DIDI_ROW_RANKS] = {.name = "ranks",
                        .told_as = DIDI_STAGE_PURSUE,
                        .share = 1,
                        .once = didi_final_ranks,
                        .skipped = skips_ranks},
    [DIDI_ROW_REFINE] = {.name = "refine",
                         .told_as = DIDI_STAGE_REFINE,
                         .share = 25,
                         .each = didi_refine_layer,
                         .skipped = skips_refinement,
                         .recall = didi_recall_refined,
                         .report = didi_report_refined,
                         .memory = refine_memory},
};

/* Ranks are part of refinement once there was one. */
static didi_stage told_as(const void *method, size_t stage)
{
    const didi *self = method;
    bool again = stage == DIDI_ROW_RANKS && self->pass_count > 0;
    return rows[again ? DIDI_ROW_REFINE : stage].told_as;
}

/* Nobody knows how many passes an error asked for takes: each gets half of what is left. */
static double progress(const void *method, size_t stage, size_t now, double within)
{
    const didi *self = method;
    double ranks = rows[DIDI_ROW_RANKS].share;
    double refine = rows[DIDI_ROW_REFINE].share;
    bool passing = self->work->options.budget_unit == DIDI_BUDGET_MAX_ERROR &&
                   stage >= DIDI_ROW_RANKS && now >= DIDI_ROW_RANKS;
    if (!passing)
        return stage < now ? 1 : stage == now ? within : 0;
    double done = now == DIDI_ROW_RANKS ? ranks * within : ranks + refine * within;
    double left = ldexp(1, -(int)self->pass_count);
    return 1 - left + left / 2 * done / (ranks + refine);
}

static int open_method(void *method, didi_error *error)
{
    didi *self = method;
    const didi_merge_options *o = &self->work->options;
    self->work->shared = o->shared_merge != DIDI_SHARED_NONE && o->task_count > 1 &&
                         self->work->extension == NULL; /* what is shared is there already */
    self->task_share = memory_zeroed(o->task_count, sizeof(double));
    if (self->task_share == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu tasks", o->task_count);
    for (size_t t = 0; t < o->task_count; t++)
        self->task_share[t] = 1;
    return DIDI_OK;
}

static int begin(void *method, didi_error *error)
{
    didi *self = method;
    self->pursued = memory_zeroed(self->work->layer_count, sizeof *self->pursued);
    return self->pursued != NULL ? DIDI_OK
                                 : didi_fail(error, DIDI_NO_MEMORY, NULL, "summaries of %zu layers",
                                             self->work->layer_count);
}

/* The means of exact spectra depend on the weights. */
static bool same_weights(const didi *self, const json_t *left)
{
    const json_t *weights = json_object_get(left, "weights");
    bool same = json_integer_value(json_object_get(left, "weighting")) ==
                (json_int_t)self->work->options.weighting;
    for (size_t t = 0; t < self->work->options.task_count; t++)
        same = same && json_number_value(json_array_get(weights, t)) == self->work->task_weight[t];
    return same;
}

static void choose(void *method, const json_t *left)
{
    didi *self = method;
    bool exact = json_is_true(json_object_get(left, "exact"));
    bool grown = json_is_true(json_object_get(left, "pursued"));
    bool shared = json_is_true(json_object_get(left, "shared")) == self->work->shared;
    bool learned = self->work->options.allocator == DIDI_ALLOCATOR_DIFFERENTIABLE;
    self->warm.spectra = exact == didi_needs_spectra(self) &&
                         (!exact || (shared && !learned && same_weights(self, left)));
    self->warm.blocks = grown && didi_pursues(self) && shared;
    if (didi_pursues(self) && !self->warm.blocks)
        self->warm.spectra = false;
}

static json_t *leave(const void *method)
{
    const didi *self = method;
    return json_pack("{s:b,s:b,s:b,s:i}", "exact", didi_needs_spectra(self), "pursued",
                     didi_pursues(self), "shared", self->work->shared, "weighting",
                     (int)self->work->options.weighting);
}

static void close_method(void *method)
{
    didi *self = method;
    free(self->task_share);
    free(self->limits);
    free(self->pursued);
    free(self->warm.layers);
}

const didi_method didi_pursuit_method = {
    .name = "didi",
    .summary = "a shared part and an expert for each task, both of low rank, under one budget",
    .flags = METHOD_TAKES_BUDGET | METHOD_MATRICES_ONLY | METHOD_EXTENDS | METHOD_REUSES |
             METHOD_SURVEYS,
    .fields = didi_fields,
    .self_bytes = sizeof(didi),
    .stages = rows,
    .stage_count = sizeof rows / sizeof *rows,
    .check = didi_check_options,
    .open = open_method,
    .plan = didi_plan_merge,
    .begin = begin,
    .choose = choose,
    .leave = leave,
    .again = didi_again,
    .progress = progress,
    .told_as = told_as,
    .foresees = didi_foresees,
    .foresee = didi_foresee,
    .describe = didi_describe,
    .close = close_method,
};
