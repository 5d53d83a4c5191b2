/* SPDX-License-Identifier: Apache-2.0 */
/* Losses of a layer from inner products of factors, without a dense rebuild. */
#include "src/layer/layer.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <stdlib.h>

double layer_weighted_energy(const layer *self)
{
    double sum = 0;
    for (size_t t = 0; t < self->tasks; t++)
        sum += self->weight[t] * self->energy[t];
    return sum;
}

/* <A, B> of two blocks: sum_ij (left_a,i . left_b,j)(right_a,i . right_b,j). */
static int block_dot(const layer *self, const block *a, const block *b, double *ret_dot,
                     didi_error *error)
{
    assert(a->rank <= a->basis && b->rank <= b->basis);
    double sum = 0;
    if (a->rank > 0 && b->rank > 0) {
        size_t count = a->rank * b->rank;
        float *lefts = memory_aligned(2 * count, sizeof *lefts);
        if (lefts == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "inner product of factors");
        float *rights = lefts + count;
        layer_count_product(self, a->rank, b->rank, self->rows + self->columns);
        linalg_gemm_shared(self->parallel, false, true, a->rank, b->rank, self->rows, 1.0F, a->left,
                           self->rows, b->left, self->rows, 0.0F, lefts, b->rank);
        linalg_gemm_shared(self->parallel, false, true, a->rank, b->rank, self->columns, 1.0F,
                           a->right, self->columns, b->right, self->columns, 0.0F, rights, b->rank);
        sum = linalg_dot(lefts, rights, count);
        free(lefts);
    }
    *ret_dot = sum;
    return DIDI_OK;
}

/* <D, left' right> = <left D, right>, D as in layer_apply. */
static int dense_dot(const layer *self, size_t index, const block *a, double *ret_dot,
                     didi_error *error)
{
    double sum = 0;
    if (a->rank > 0) {
        float *projected = layer_allocate(self, a->rank, self->columns * sizeof *projected);
        if (projected == NULL)
            return layer_fail_allocation(self, error);
        int status = layer_apply(self, index, false, a->rank, a->left, projected, error);
        if (status == DIDI_OK)
            sum = linalg_dot(projected, a->right, a->rank * self->columns);
        spill_free(projected);
        if (status != DIDI_OK)
            return status;
    }
    *ret_dot = sum;
    return DIDI_OK;
}

static int task_error(const layer *self, size_t task, double shared_energy, double *ret_error,
                      didi_error *error)
{
    assert(task < self->tasks);
    const block *shared = &self->blocks[0];
    const block *expert = &self->blocks[task + 1];
    double tau_shared = 0;
    double tau_expert = 0;
    double shared_expert = 0;
    double expert_energy = 0;
    int status = dense_dot(self, task + 1, shared, &tau_shared, error);
    if (status == DIDI_OK)
        status = dense_dot(self, task + 1, expert, &tau_expert, error);
    if (status == DIDI_OK)
        status = block_dot(self, shared, expert, &shared_expert, error);
    if (status == DIDI_OK)
        status = block_dot(self, expert, expert, &expert_energy, error);
    if (status != DIDI_OK)
        return status;
    double value = self->energy[task] - 2 * (tau_shared + tau_expert) + shared_energy +
                   expert_energy + 2 * shared_expert;
    *ret_error = value > 0 ? value : 0;
    return DIDI_OK;
}

int layer_errors_fitted(const layer *self, double *errors, double *ret_loss, didi_error *error)
{
    const block *shared = &self->blocks[0];
    double shared_energy = 0;
    double loss = 0;
    int status = block_dot(self, shared, shared, &shared_energy, error);
    for (size_t t = 0; t < self->tasks && status == DIDI_OK; t++) {
        const block *expert = &self->blocks[t + 1];
        double tau_shared = 0;
        status = dense_dot(self, t + 1, shared, &tau_shared, error);
        double own = self->energy[t] + shared_energy - 2 * tau_shared;
        for (size_t i = 0; i < expert->rank; i++)
            own -= expert->sigma[i] * expert->sigma[i];
        errors[t] = own > 0 ? own : 0;
        loss += self->weight[t] * errors[t];
    }
    if (status == DIDI_OK)
        *ret_loss = loss;
    return status;
}

int layer_loss(const layer *self, double *errors, double *ret_loss, didi_error *error)
{
    double shared_energy = 0;
    double loss = 0;
    int status = block_dot(self, &self->blocks[0], &self->blocks[0], &shared_energy, error);
    for (size_t t = 0; t < self->tasks && status == DIDI_OK; t++) {
        status = task_error(self, t, shared_energy, &errors[t], error);
        loss += self->weight[t] * errors[t];
    }
    if (status == DIDI_OK && ret_loss != NULL)
        *ret_loss = loss;
    return status;
}
