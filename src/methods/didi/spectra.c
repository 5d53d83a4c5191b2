/* SPDX-License-Identifier: Apache-2.0 */
/* The paper's decomposition: S = mean, E_t = tau_t - S, their spectra, and the products of singular
 * vectors that make the spectral loss exact. */
#include "src/methods/didi/pursuit.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <stdlib.h>

int spectra_create(spectra *self, size_t tasks, size_t q, didi_error *error)
{
    *self = (spectra){
        .tasks = tasks,
        .q = q,
        .cross = memory_aligned(tasks, q * q * sizeof(float)),
        .expert_tail = memory_zeroed(tasks * q, sizeof(double)),
        .shared_tail = memory_zeroed(tasks * q, sizeof(double)),
        .corner = memory_zeroed(tasks, sizeof(double)),
    };
    if (self->cross == NULL || self->expert_tail == NULL || self->shared_tail == NULL ||
        self->corner == NULL) {
        spectra_clear(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "spectra of %zu tasks", tasks);
    }
    return DIDI_OK;
}

void spectra_clear(spectra *self)
{
    free(self->cross);
    free(self->expert_tail);
    free(self->shared_tail);
    free(self->corner);
    *self = (spectra){0};
}

/* All min(m, n) triplets of one matrix. */
static void vectors_clear(triplets *self)
{
    free(self->left);
    free(self->right);
    free(self->sigma);
}

static int vectors_create(const layer *target, triplets *self, didi_error *error)
{
    size_t r = layer_full_rank(target);
    *self = (triplets){r, memory_zeroed(r, sizeof(double)),
                       memory_aligned(r, target->rows * sizeof(float)),
                       memory_aligned(r, target->columns * sizeof(float)), false};
    if (self->left == NULL || self->right == NULL || self->sigma == NULL) {
        vectors_clear(self);
        *self = (triplets){0};
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "singular vectors of %zu x %zu", target->rows,
                         target->columns);
    }
    return DIDI_OK;
}

/* C[i][j] = (u_s,i . u_t,j)(v_s,i . v_t,j), cut to q with what lies beyond summed up. */
static int cross_products(const layer *target, const triplets *shared, const triplets *expert,
                          size_t task, spectra *out, didi_error *error)
{
    size_t r = layer_full_rank(target);
    size_t q = out->q;
    float *lefts = memory_aligned(2 * r, r * sizeof(float));
    if (lefts == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "products of %zu singular vectors", r);
    float *rights = lefts + r * r;
    linalg_gemm(false, true, r, r, target->rows, 1.0F, shared->left, target->rows, expert->left,
                target->rows, 0.0F, lefts, r);
    linalg_gemm(false, true, r, r, target->columns, 1.0F, shared->right, target->columns,
                expert->right, target->columns, 0.0F, rights, r);
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < r; j++) {
            float product = lefts[i * r + j] * rights[i * r + j];
            double value = (double)product;
            if (i < q && j < q)
                out->cross[(task * q + i) * q + j] = product;
            else if (i < q)
                out->expert_tail[task * q + i] += value * expert->sigma[j];
            else if (j < q)
                out->shared_tail[task * q + j] += value * shared->sigma[i];
            else
                out->corner[task] += shared->sigma[i] * value * expert->sigma[j];
        }
    free(lefts);
    return DIDI_OK;
}

/* matrix (m x n) = tau_t - S, S being the mean or nothing. */
static void expert_matrix(const layer *target, bool shared, size_t task, float *matrix)
{
    size_t count = target->rows * target->columns;
    const float *tau = target->tau + task * count;
    for (size_t i = 0; i < count; i++)
        matrix[i] = shared ? tau[i] - target->mean[i] : tau[i];
}

int solve_spectra(layer *target, bool shared, layer_summary *summary, spectra *ret_spectra,
                  didi_error *error)
{
    size_t r = layer_full_rank(target);
    triplets own = {0};
    triplets other = {0};
    float *matrix = memory_aligned(target->rows * target->columns, sizeof *matrix);
    int status = DIDI_OK;
    if (matrix == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "expert of %zu x %zu", target->rows,
                           target->columns);
    if (status == DIDI_OK)
        status = vectors_create(target, &own, error);
    if (status == DIDI_OK)
        status = vectors_create(target, &other, error);
    if (status == DIDI_OK && shared)
        status = spectrum_leading(target->rows, target->columns, target->mean, &own, error);
    if (status == DIDI_OK)
        status = summary_set_sigma(summary, 0, own.sigma, shared ? r : 0, 0, error);
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++) {
        if (layer_is_cancelled(target)) {
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
            break;
        }
        expert_matrix(target, shared, t, matrix);
        status = spectrum_leading(target->rows, target->columns, matrix, &other, error);
        if (status == DIDI_OK)
            status = summary_set_sigma(summary, t + 1, other.sigma, r, 0, error);
        if (status == DIDI_OK && ret_spectra != NULL)
            status = cross_products(target, &own, &other, t, ret_spectra, error);
    }
    free(matrix);
    vectors_clear(&own);
    vectors_clear(&other);
    return status;
}

int solve_start_from_mean(layer *target, bool shared, const layer_summary *summary,
                          didi_error *error)
{
    float *matrix = memory_aligned(target->rows * target->columns, sizeof *matrix);
    if (matrix == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "expert of %zu x %zu", target->rows,
                         target->columns);
    int status = DIDI_OK;
    if (shared)
        status = layer_set_block(target, 0, target->mean, summary->rank[0], error);
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++) {
        if (layer_is_cancelled(target)) {
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
            break;
        }
        expert_matrix(target, shared, t, matrix);
        status = layer_set_block(target, t + 1, matrix, summary->rank[t + 1], error);
    }
    free(matrix);
    return status;
}
