/* SPDX-License-Identifier: Apache-2.0 */
/* The objective of the allocation: the worst task's error instead of the mean. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"
#include "src/budget/budget.h"

#include <math.h>
#include <stdlib.h>

/* Shares stay within these, so that no task is given up for another. */
#define SHARE_MIN 0.125
#define SHARE_MAX 8.0
/* Each step takes half of the way that the errors' ratio asks for: ranks follow shares steeply. */
#define STEP_EXPONENT 0.5

enum { STEPS_MAX = 40 };

static double residual(const allocate_block *from)
{
    double left = from->dense ? 0 : from->tail;
    for (size_t i = from->rank; i < from->count && !from->dense; i++)
        left += from->sigma[i] * from->sigma[i];
    return left;
}

/* errors[t]: predicted |tau_hat_t - tau_t|^2 over |tau_t|^2, all layers. */
static void predict_errors(const didi *self, const allocate_block *blocks, double *errors)
{
    size_t tasks = self->work->options.task_count;
    for (size_t t = 0; t < tasks; t++) {
        double energy = work_task_energy(self->work, t);
        double left = 0;
        for (size_t l = 0; l < self->work->layer_count; l++)
            left += residual(&blocks[l * (tasks + 1) + t + 1]);
        errors[t] = energy > 0 ? left / energy : 0;
    }
}

static void set_shares(didi *self, const double *errors)
{
    size_t tasks = self->work->options.task_count;
    double mean = 0;
    double sum = 0;
    for (size_t t = 0; t < tasks; t++)
        mean += errors[t] / (double)tasks;
    for (size_t t = 0; t < tasks; t++) {
        double ratio = mean > 0 && errors[t] > 0 ? errors[t] / mean : 1;
        double share = self->task_share[t] * pow(ratio, STEP_EXPONENT);
        self->task_share[t] = fmin(fmax(share, SHARE_MIN), SHARE_MAX);
        sum += self->task_share[t];
    }
    for (size_t t = 0; t < tasks; t++)
        self->task_share[t] *= (double)tasks / sum;
    for (size_t l = 0; l < self->work->layer_count; l++)
        didi_set_weights(self, l);
}

static int balance_step(didi *self, double *errors, didi_error *error)
{
    allocate_block *blocks = NULL;
    allocate_result result = {0};
    size_t count = 0;
    if (didi_counts_bytes(self))
        return didi_bytes_errors(self, errors, error);
    int status = didi_list_blocks(self, &blocks, &count, error);
    if (status == DIDI_OK)
        status = allocate_exact(blocks, count, self->factor_budget, &result, error);
    if (status == DIDI_OK)
        predict_errors(self, blocks, errors);
    free(blocks);
    return status;
}

static bool are_alike(const double *errors, size_t tasks)
{
    double least = INFINITY;
    double most = 0;
    for (size_t t = 0; t < tasks; t++) {
        least = fmin(least, errors[t]);
        most = fmax(most, errors[t]);
    }
    return most <= 1.005 * least;
}

int didi_balance_tasks(didi *self, bool from_scratch, didi_error *error)
{
    size_t tasks = self->work->options.task_count;
    if (self->work->options.objective != DIDI_OBJECTIVE_WORST_TASK || tasks == 0)
        return DIDI_OK;
    double *errors = memory_zeroed(tasks, sizeof *errors);
    if (errors == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "errors of %zu tasks", tasks);
    for (size_t t = 0; t < tasks && from_scratch; t++)
        self->task_share[t] = 1;
    for (size_t l = 0; l < self->work->layer_count; l++)
        didi_set_weights(self, l);
    int status = DIDI_OK;
    for (size_t step = 0; step < STEPS_MAX && status == DIDI_OK; step++) {
        status = balance_step(self, errors, error);
        if (status != DIDI_OK || are_alike(errors, tasks))
            break;
        set_shares(self, errors);
    }
    free(errors);
    return status;
}
