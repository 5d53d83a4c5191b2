/* SPDX-License-Identifier: Apache-2.0 */
/* What a budget leaves for factors, and whether it can work, from headers alone. */
#include "src/methods/didi/sizes.h"

#include "src/base/base.h"

#include <math.h>
#include <stdio.h>

/* Sketches for an error asked for are as wide as for this budget; pursuit widens them. */
#define SKETCH_RATIO_UNKNOWN 1.4

static bool counts_parameters(const didi_merge *self)
{
    return self->options.budget_unit == DIDI_BUDGET_PARAMETERS &&
           self->options.precision != DIDI_PRECISION_AUTO;
}

/* Every block at its full rank. */
static uint64_t all_factors(const didi_merge *self)
{
    uint64_t parameters = 0;
    for (size_t i = 0; i < self->layer_count; i++)
        parameters = memory_add(parameters, self->layers[i]->elements);
    return memory_multiply(parameters, self->options.task_count + 1);
}

void merge_plan_budget(didi_merge *self)
{
    didi_plan *plan = &self->plan;
    plan->budget = self->options.budget;
    plan->budget_unit = self->options.budget_unit;
    for (size_t i = 0; i < self->dense_count; i++)
        plan->dense_parameters = memory_add(
            plan->dense_parameters,
            memory_multiply(self->dense[i]->elements, merge_dense_copies(self, self->dense[i])));
    uint64_t most = all_factors(self);
    if (counts_parameters(self)) {
        double ceiling = floor(plan->budget * (double)plan->parameters);
        double left = ceiling - (double)plan->dense_parameters;
        plan->factor_parameters = left > 0 ? (uint64_t)left : 0;
        return;
    }
    plan->factor_parameters = most;
    if (plan->budget_unit != DIDI_BUDGET_MAX_ERROR)
        plan->factor_parameters = merge_parameters_within(self, merge_byte_budget(self));
    if (plan->factor_parameters > most)
        plan->factor_parameters = most;
}

double merge_sketch_ratio(const didi_merge *self)
{
    double ratio = (double)self->plan.factor_parameters / (double)self->plan.parameters;
    bool unknown = self->options.budget_unit == DIDI_BUDGET_MAX_ERROR;
    return unknown && ratio > SKETCH_RATIO_UNKNOWN ? SKETCH_RATIO_UNKNOWN : ratio;
}

/* What each task of an extension may at least cost, for messages: budgets of extensions are given
 * for one task. */
static const char *of_each(const didi_merge *self, double needed, double step, char text[80])
{
    size_t tasks = self->options.task_count;
    text[0] = '\0';
    if (self->extension != NULL && tasks > 1)
        (void)snprintf(text, 80, "; for each of the %zu tasks added: %.15g", tasks,
                       ceil(needed / (double)tasks / step) * step);
    return text;
}

static const char *budget_field(const didi_merge *self)
{
    if (self->extension != NULL)
        return "/extend/budget";
    switch (self->options.budget_unit) {
    case DIDI_BUDGET_BYTES:
        return "/budget/bytes";
    case DIDI_BUDGET_BYTES_RATIO:
        return "/budget/bytes_ratio";
    default:
        return "/budget";
    }
}

static int check_parameters(didi_merge *self, uint64_t smallest, didi_error *error)
{
    didi_plan *plan = &self->plan;
    char each[80];
    double needed = (double)plan->dense_parameters + (double)smallest;
    double half = self->layer_count == 0 ? 0.5 : 0;
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

static int check_bytes(didi_merge *self, didi_error *error)
{
    didi_plan *plan = &self->plan;
    uint64_t needed = merge_bytes_minimum(self);
    uint64_t budget = merge_byte_budget(self);
    double unit = 1;
    char ratio[48] = "";
    char each[80];
    if (plan->budget_unit == DIDI_BUDGET_BYTES_RATIO)
        unit = (double)merge_base_bytes(self);
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
                     plan->tasks == 1 ? "" : "s", didi_precision_name(self->options.precision),
                     of_each(self, (double)needed, 1, each));
}

int merge_plan_check_budget(didi_merge *self, uint64_t smallest, didi_error *error)
{
    if (self->plan.budget_unit == DIDI_BUDGET_MAX_ERROR) {
        self->plan.budget_minimum = precision_floor(self->options.precision);
        return DIDI_OK;
    }
    return counts_parameters(self) ? check_parameters(self, smallest, error)
                                   : check_bytes(self, error);
}
