/* SPDX-License-Identifier: Apache-2.0 */
/* Read and written in pieces. */
#include "src/methods/whole.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 16 };

bool whole_is_matrix(const family_tensor *tensor)
{
    return tensor->base->tensor->dimensions == 2 && strstr(tensor->name, "text_projection") == NULL;
}

uint64_t whole_bytes(const work *of, size_t tensor)
{
    return memory_multiply(of->layers[tensor]->elements, sizeof(float));
}

int whole_read(work *of, size_t tensor, size_t task, float *ret_tau, didi_error *error)
{
    const family_tensor *from = of->layers[tensor];
    float *spare = memory_aligned(PIECE, sizeof *spare);
    int status = spare != NULL ? family_verify_unchanged(of->family, error)
                               : didi_fail(error, DIDI_NO_MEMORY, from->name, "a piece");
    for (uint64_t first = 0; first < from->elements && status == DIDI_OK; first += PIECE) {
        family_piece piece = {from, first, smaller(from->elements - first, PIECE)};
        status = atomic_load(&of->cancelled)
                     ? didi_fail(error, DIDI_CANCELLED, NULL, "cancelled")
                     : family_read_delta(of->family, task, piece, ret_tau + first, spare,
                                         &of->bytes_read, error);
    }
    free(spare);
    return status;
}

typedef struct summing {
    const double *weight;
    float *sum;
} summing;

static void add_panel(void *context, const method_panel *panel)
{
    const summing *self = context;
    for (uint64_t i = 0; i < panel->count; i++) {
        double sum = 0;
        for (size_t t = 0; t < panel->tasks; t++)
            sum += self->weight[t] * (double)panel->tau[t][i];
        self->sum[panel->first + i] = (float)sum;
    }
}

int whole_sum(stored *out, const work *of, float *ret_sum, didi_error *error)
{
    return stored_look_at_panels(out, add_panel, &(summing){of->task_weight, ret_sum}, error);
}

/* ---- storing ---- */

typedef struct copying {
    const whole_result *from;
    uint64_t rows, columns;
} copying;

static void copy(void *context, const method_panel *panel)
{
    const copying *self = context;
    const float *values = self->from->values;
    double scale = self->from->scale;
    for (uint64_t i = 0; i < panel->count; i++) {
        uint64_t at = panel->first + i;
        if (self->from->turned)
            at = at % self->columns * self->rows + at / self->columns;
        panel->shared[i] = (float)(scale * (double)values[at]);
    }
}

int whole_store(stored *out, work *of, size_t tensor, const whole_result *result, didi_error *error)
{
    copying self = {result, of->layers[tensor]->rows, of->layers[tensor]->columns};
    return stored_shared_panels(out, copy, &self, error);
}

/* ---- singular vectors ---- */

int whole_vectors_create(whole_vectors *self, const work *of, size_t tensor, size_t room,
                         didi_error *error)
{
    const family_tensor *from = of->layers[tensor];
    *self = (whole_vectors){.m = from->rows,
                            .n = from->columns,
                            .matrix = memory_aligned(from->elements, sizeof(float)),
                            .left = memory_aligned(room * from->rows, sizeof(float)),
                            .right = memory_aligned(room * from->columns, sizeof(float)),
                            .sigma = memory_zeroed(room, sizeof(double))};
    return self->matrix != NULL && self->left != NULL && self->right != NULL && self->sigma != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "singular vectors of a %zu x %zu matrix",
                           self->m, self->n);
}

void whole_vectors_clear(whole_vectors *self)
{
    free(self->matrix);
    free(self->left);
    free(self->right);
    free(self->sigma);
}

int whole_vectors_add(whole_vectors *self, size_t count, double noise, double *ret_sum,
                      didi_error *error)
{
    enum { FEW = 3 }; /* a third of all: up to there fewer are cheaper */
    size_t shorter = (size_t)smaller(self->m, self->n);
    triplets found = {.count = count,
                      .sigma = self->sigma + self->count,
                      .left = self->left + self->count * self->m,
                      .right = self->right + self->count * self->n,
                      .few = count * FEW <= shorter};
    double sum = 0;
    int status =
        count > 0 ? spectrum_leading(self->m, self->n, self->matrix, &found, error) : DIDI_OK;
    if (status != DIDI_OK)
        return status;
    for (size_t i = 0; i < count; i++) {
        double sigma = found.sigma[i];
        sum += sigma;
        self->count += sigma > noise && sigma > spectrum_noise(shorter) * found.sigma[0];
    }
    if (ret_sum != NULL)
        *ret_sum = sum;
    return DIDI_OK;
}

int whole_vectors_join(whole_vectors *self, didi_error *error)
{
    if (self->count == 0) {
        memset(self->matrix, 0, self->m * self->n * sizeof *self->matrix);
        return DIDI_OK;
    }
    int status = polar_rows(self->count, self->m, self->left, NULL, error);
    if (status == DIDI_OK)
        status = polar_rows(self->count, self->n, self->right, NULL, error);
    for (size_t i = 0; i < self->count && status == DIDI_OK; i++)
        for (size_t j = 0; j < self->m; j++)
            self->left[i * self->m + j] *= (float)self->sigma[i];
    if (status == DIDI_OK)
        linalg_gemm(true, false, self->m, self->n, self->count, 1.0F, self->left, self->m,
                    self->right, self->n, 0.0F, self->matrix, self->n);
    return status;
}

uint64_t whole_vectors_bytes(const work *of, size_t tensor, size_t room)
{
    const family_tensor *from = of->layers[tensor];
    uint64_t sides = memory_add(from->rows, from->columns);
    uint64_t held =
        memory_add(whole_bytes(of, tensor), memory_multiply(room * sizeof(float), sides));
    uint64_t most = larger(spectrum_memory(from->rows, from->columns),
                           polar_bytes(room, larger(from->rows, from->columns)));
    return memory_add(held, larger(most, stored_panels_memory(of, tensor)));
}
