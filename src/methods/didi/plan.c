/* SPDX-License-Identifier: Apache-2.0 */
/* What the headers alone tell of this method: what a budget leaves for factors and whether it can
 * work, memory, disk and work. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Sketches for an error asked for are as wide as for this budget; pursuit widens them. */
#define SKETCH_RATIO_UNKNOWN 1.4

static bool counts_parameters(const didi *self)
{
    return self->work->options.budget_unit == DIDI_BUDGET_PARAMETERS &&
           self->work->options.precision != DIDI_PRECISION_AUTO;
}

/* Every block at its full rank. */
static uint64_t all_factors(const didi *self)
{
    uint64_t parameters = 0;
    for (size_t i = 0; i < self->work->layer_count; i++)
        parameters = memory_add(parameters, self->work->layers[i]->elements);
    return memory_multiply(parameters, self->work->options.task_count + 1);
}

static void plan_budget(didi *self)
{
    didi_plan *plan = &self->work->plan;
    for (size_t i = 0; i < self->work->dense_count; i++)
        plan->dense_parameters =
            memory_add(plan->dense_parameters,
                       memory_multiply(self->work->dense[i]->elements,
                                       work_dense_copies(self->work, self->work->dense[i])));
    uint64_t most = all_factors(self);
    if (counts_parameters(self)) {
        double ceiling = floor(plan->budget * (double)plan->parameters);
        double left = ceiling - (double)plan->dense_parameters;
        plan->factor_parameters = left > 0 ? (uint64_t)left : 0;
        return;
    }
    plan->factor_parameters = most;
    if (plan->budget_unit != DIDI_BUDGET_MAX_ERROR)
        plan->factor_parameters = didi_parameters_within(self, didi_byte_budget(self));
    if (plan->factor_parameters > most)
        plan->factor_parameters = most;
}

double didi_sketch_ratio(const didi *self)
{
    double ratio = (double)self->work->plan.factor_parameters / (double)self->work->plan.parameters;
    bool unknown = self->work->options.budget_unit == DIDI_BUDGET_MAX_ERROR;
    return unknown && ratio > SKETCH_RATIO_UNKNOWN ? SKETCH_RATIO_UNKNOWN : ratio;
}

/* What each task of an extension may at least cost, for messages: budgets of extensions are given
 * for one task. */
static const char *of_each(const didi *self, double needed, double step, char text[80])
{
    size_t tasks = self->work->options.task_count;
    text[0] = '\0';
    if (self->work->extension != NULL && tasks > 1)
        (void)snprintf(text, 80, "; for each of the %zu tasks added: %.15g", tasks,
                       ceil(needed / (double)tasks / step) * step);
    return text;
}

static const char *budget_field(const didi *self)
{
    if (self->work->extension != NULL)
        return "/extend/budget";
    switch (self->work->options.budget_unit) {
    case DIDI_BUDGET_BYTES:
        return "/budget/bytes";
    case DIDI_BUDGET_BYTES_RATIO:
        return "/budget/bytes_ratio";
    default:
        return "/budget";
    }
}

static int check_parameters(didi *self, uint64_t smallest, didi_error *error)
{
    didi_plan *plan = &self->work->plan;
    char each[80];
    double needed = (double)plan->dense_parameters + (double)smallest;
    double half = self->work->layer_count == 0 ? 0.5 : 0;
    plan->budget_minimum = needed / (double)plan->parameters;
    if (needed <= floor(plan->budget * (double)plan->parameters + half))
        return DIDI_OK;
    return didi_fail(
        error, DIDI_BUDGET, budget_field(self),
        "budget %g is below the %g that the tensors kept dense (%llu parameters for %zu "
        "task%s) and one rank need%s",
        plan->budget, ceil(plan->budget_minimum * 1e4) / 1e4,
        (unsigned long long)plan->dense_parameters, plan->tasks, plan->tasks == 1 ? "" : "s",
        of_each(self, plan->budget_minimum, 1e-4, each));
}

static int check_bytes(didi *self, didi_error *error)
{
    didi_plan *plan = &self->work->plan;
    uint64_t needed = didi_bytes_minimum(self);
    uint64_t budget = didi_byte_budget(self);
    double unit = 1;
    char ratio[48] = "";
    char each[80];
    if (plan->budget_unit == DIDI_BUDGET_BYTES_RATIO)
        unit = (double)work_base_bytes(self->work);
    else if (plan->budget_unit == DIDI_BUDGET_PARAMETERS)
        unit = 2 * (double)plan->parameters;
    plan->budget_minimum = (double)needed / unit;
    if (needed <= budget)
        return DIDI_OK;
    if (plan->budget_unit != DIDI_BUDGET_BYTES)
        (void)snprintf(ratio, sizeof ratio, " (%s %.6g)",
                       plan->budget_unit == DIDI_BUDGET_BYTES_RATIO ? "bytes_ratio" : "budget",
                       ceil(plan->budget_minimum * 1e4) / 1e4);
    return didi_fail(error, DIDI_BUDGET, budget_field(self),
                     "a budget of %llu bytes is below the %llu%s that the tensors kept dense for "
                     "%zu task%s and one component need with output dtype %s%s",
                     (unsigned long long)budget, (unsigned long long)needed, ratio, plan->tasks,
                     plan->tasks == 1 ? "" : "s",
                     didi_precision_name(self->work->options.precision),
                     of_each(self, (double)needed, 1, each));
}

static int check_plan(didi *self, uint64_t smallest, didi_error *error)
{
    if (self->work->plan.budget_unit == DIDI_BUDGET_MAX_ERROR) {
        self->work->plan.budget_minimum = precision_floor(self->work->options.precision);
        return DIDI_OK;
    }
    return counts_parameters(self) ? check_parameters(self, smallest, error)
                                   : check_bytes(self, error);
}

/* ---- disk and work ---- */

enum { EXPECTED_SWEEPS = 6 };

/* Sweeps or steps that refinement is expected to take: the tolerance ends most layers early. */
static size_t expected_steps(const didi *self)
{
    const didi_merge_options *o = &self->work->options;
    if (o->survey)
        return 0;
    bool ends = o->optimizer == DIDI_OPTIMIZER_ALS && o->tolerance > 0;
    return ends && o->refine_steps > EXPECTED_SWEEPS ? EXPECTED_SWEEPS : o->refine_steps;
}

/* How often a streamed matrix is read of some model or other: the base and one task for a product
 * with an expert, all for one with the shared block. */
static uint64_t streamed_reads(const didi *self)
{
    uint64_t experts = 2 * (uint64_t)self->work->options.task_count;
    uint64_t shared = self->work->options.task_count + 1;
    uint64_t decompose = experts + 2 * 2 * experts; /* energies, two updates */
    uint64_t rounds = PURSUIT_ROUNDS + PURSUIT_POLISH;
    uint64_t pursue = (rounds + 2) * (experts + 2 * shared) + experts;
    uint64_t sweep = 2 * (experts + shared) + shared; /* two half-steps and a loss */
    return decompose + pursue + memory_multiply(expected_steps(self), sweep) + experts;
}

/* Flops: what decomposition, pursuit and refinement multiply, at the uniform rank. */
static void plan_work(didi *self)
{
    didi_plan *plan = &self->work->plan;
    double tasks = (double)plan->tasks;
    double ratio = (double)plan->factor_parameters / (double)plan->parameters;
    double sweeps = (double)expected_steps(self) + 2;
    sweeps += didi_pursues(self) ? PURSUIT_ROUNDS + PURSUIT_POLISH : 0;
    uint64_t reads = didi_pursues(self) ? 3 : 2;
    for (size_t i = 0; i < self->work->layer_count; i++) {
        double m = (double)self->work->layers[i]->rows;
        double n = (double)self->work->layers[i]->columns;
        double shorter = m < n ? m : n;
        double rank = ratio * m * n / ((m + n) * tasks);
        size_t held = didi_most_rows(self, i, false);
        if (held == SIZE_MAX)
            plan->flops += sweeps * 4 * m * n * rank * 1.3 * (tasks + 1);
        else /* one product with each task's factors, one with all of them */
            plan->flops += sweeps * 4 * 2 * (double)held * (m + n) * rank * 1.3;
        if (didi_needs_spectra(self))
            plan->flops += (tasks + 1) * (2 * m * n * shorter + 12 * shorter * shorter * shorter);
    }
    /* And once for the digests. */
    plan->bytes_to_read = memory_multiply(work_input_bytes(self->work), reads + 1);
    plan->bytes_to_read = memory_add(plan->bytes_to_read,
                                     memory_multiply(plan->streamed_bytes, streamed_reads(self)));
}

static void plan_disk(didi *self)
{
    didi_plan *plan = &self->work->plan;
    didi_precision precision = self->work->options.precision;
    uint64_t width = precision == DIDI_PRECISION_F32       ? 4
                     : precision_is_plain(precision, NULL) ? 2
                                                           : 1;
    uint64_t headers =
        512 * (self->work->layer_count + self->work->dense_count) * (plan->tasks + 1);
    uint64_t kept = memory_add(plan->factor_parameters, plan->dense_parameters);
    plan->artifact_bytes = memory_add(memory_multiply(kept, width), headers + (1 << 16));
    plan->artifact_bytes = memory_add(plan->artifact_bytes, plan->own_bytes);
    if (plan->artifact_bytes > didi_byte_budget(self))
        plan->artifact_bytes = didi_byte_budget(self);
    if (self->work->options.survey)
        plan->artifact_bytes = headers + (1 << 16); /* the manifest's */
    /* Pursuit keeps float32 factors with spare rows, refinement the published ones. */
    uint64_t states =
        memory_multiply(plan->factor_parameters, didi_pursues(self) ? 6 + width : width);
    uint64_t sketch = 0;
    for (size_t i = 0; i < self->work->layer_count; i++) {
        const family_tensor *tensor = self->work->layers[i];
        uint64_t rows = self->limits[i].expert;
        uint64_t each = didi_pursues(self) ? memory_multiply(rows, tensor->columns) : 0;
        if (self->work->options.allocator == DIDI_ALLOCATOR_DIFFERENTIABLE)
            each = memory_multiply(rows, rows);
        sketch = memory_add(sketch, memory_multiply(each, 4 * plan->tasks));
    }
    plan->disk_bytes = memory_add(plan->artifact_bytes, memory_add(states, sketch));
    plan->disk_bytes = memory_add(plan->disk_bytes, plan->spilled_bytes);
}

static int plan_limits(didi *self, uint64_t *ret_smallest, didi_error *error)
{
    const didi_plan *plan = &self->work->plan;
    self->limits = memory_zeroed(plan->layer_count, sizeof *self->limits);
    if (self->limits == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "plan of %zu layers", plan->layer_count);
    uint64_t smallest = plan->layer_count > 0 ? UINT64_MAX : 0;
    uint64_t matrices = 0;
    for (size_t i = 0; i < plan->layer_count; i++) {
        uint64_t cost = plan->layers[i].rows + plan->layers[i].columns;
        smallest = cost < smallest ? cost : smallest;
        matrices += self->work->layers[i]->elements;
    }
    double ratio = matrices > 0 ? (double)plan->factor_parameters / (double)matrices : 0;
    for (size_t i = 0; i < plan->layer_count; i++) {
        solve_limits found =
            solve_limits_for(plan->layers[i].rows, plan->layers[i].columns, plan->tasks, ratio);
        size_t most = didi_most_rows(self, i, false);
        self->limits[i] = (solve_limits){.expert = smaller(found.expert, most),
                                         .shared = smaller(found.shared, most)};
    }
    *ret_smallest = smallest;
    return DIDI_OK;
}

static int plan_ranks(didi *self, didi_error *error)
{
    uint64_t smallest = 0;
    plan_budget(self);
    int status = plan_limits(self, &smallest, error);
    return status == DIDI_OK ? check_plan(self, smallest, error) : status;
}

#define SURVEY_ROOM 1.5 /* of the least budget, where a survey's own is below it */

/* A survey that was given no budget finds one with room for factors. */
static int plan_survey(didi *self, didi_error *error)
{
    didi_merge_options *o = &self->work->options;
    const didi_plan before = self->work->plan;
    didi_error why = {0};
    int status = plan_ranks(self, &why);
    if (status == DIDI_BUDGET && o->budget_unit == DIDI_BUDGET_PARAMETERS &&
        o->budget == DIDI_SURVEY_BUDGET) {
        double room = SURVEY_ROOM * self->work->plan.budget_minimum;
        free(self->limits);
        self->limits = NULL;
        self->work->plan = before;
        o->budget = self->work->plan.budget = room;
        return plan_ranks(self, error);
    }
    return status == DIDI_OK ? status : didi_fail(error, status, why.subject, "%s", why.message);
}

int didi_plan_merge(void *method, didi_error *error)
{
    didi *self = method;
    int status = self->work->options.survey ? plan_survey(self, error) : plan_ranks(self, error);
    if (status == DIDI_OK)
        status = didi_plan_memory(self, error);
    if (status != DIDI_OK)
        return status;
    plan_work(self);
    plan_disk(self);
    self->work->ratio_target = didi_ratio_target(self);
    return DIDI_OK;
}
