/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of this method's options. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"

#include <math.h>

static int check_budget(const didi_merge_options *options, didi_error *error)
{
    didi_allocator allocator = options->allocator;
    bool greedy = allocator != DIDI_ALLOCATOR_UNIFORM && allocator != DIDI_ALLOCATOR_DIFFERENTIABLE;
    double floor = precision_floor(options->precision);
    if (!greedy && options->precision == DIDI_PRECISION_AUTO)
        return didi_fail(error, DIDI_INVALID, "/output/dtype",
                         "output dtype auto needs allocator pursuit, joint or exact");
    switch (options->budget_unit) {
    case DIDI_BUDGET_PARAMETERS:
        return method_check_number("/budget", options->budget, 0, true, 1000, error);
    case DIDI_BUDGET_BYTES:
        return method_check_number("/budget/bytes", options->budget, 1, false, 1e18, error);
    case DIDI_BUDGET_BYTES_RATIO:
        return method_check_number("/budget/bytes_ratio", options->budget, 0, true, 1000, error);
    default:
        break;
    }
    if (!greedy)
        return didi_fail(error, DIDI_INVALID, "/budget/max_error",
                         "max_error needs allocator pursuit, joint or exact");
    int status = method_check_number("/budget/max_error", options->budget, 0, true, 1, error);
    if (status == DIDI_OK && options->budget < floor * (1 - 1e-9))
        status = didi_fail(error, DIDI_BUDGET, "/budget/max_error",
                           "max_error %.4g is out of reach: output dtype %s rounds everything by "
                           "about %.4g, which would work",
                           options->budget, didi_precision_name(options->precision), floor);
    return status;
}

int didi_check_options(const didi_merge_options *options, didi_error *error)
{
    const struct {
        const char *field;
        double value;
        bool positive; /* else 0 will do */
        double most;
    } rows[] = {
        {"/ranks/beta", options->beta, true, 1e6},
        {"/ranks/lambda", options->lambda, false, 1e9},
        {"/ranks/learning_rate", options->rank_learning_rate, true, 1e6},
        {"/ranks/steps", (double)options->rank_steps, false, 1e5},
        {"/refine/steps", (double)options->refine_steps, false, 1e5},
        {"/refine/learning_rate", options->refine_learning_rate, true, 1e3},
        {"/refine/tolerance", options->tolerance, false, 1},
    };
    int status = check_budget(options, error);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && status == DIDI_OK; i++)
        status = method_check_number(rows[i].field, rows[i].value, 0, rows[i].positive,
                                     rows[i].most, error);
    return status;
}
