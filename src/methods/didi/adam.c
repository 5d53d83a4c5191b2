/* SPDX-License-Identifier: Apache-2.0 */
/* The paper's refinement (section 4.3): Adam on all factors of a layer. The gradient needs no
 * residual: dL/dB_t = 2 w_t (B_s (A_s A_t') + B_t (A_t A_t') - tau_t A_t'), and so on. Factors are
 * rows here: the matrix is left' right, so B' = left and A = right. */
#include "src/methods/didi/pursuit.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One factor pair under optimisation: values, gradients, moments, each rank x (m + n): left then
 * right. */
typedef struct pair {
    size_t rank;
    float *value, *gradient, *first, *second, *best;
    double rate_left, rate_right;
} pair;

typedef struct adam {
    layer *layer;
    const refine_options *options;
    pair *pairs; /* T + 1 */
    float *core; /* rank x rank products */
} adam;

static float *right_of(const adam *self, const pair *p, float *x)
{
    return x + p->rank * self->layer->rows;
}

static void pair_clear(pair *p)
{
    free(p->value);
    free(p->gradient);
    free(p->first);
    free(p->second);
    free(p->best);
}

static double root_mean_square(const float *x, size_t count)
{
    return count > 0 ? sqrt(linalg_energy(x, count) / (double)count) : 0;
}

/* Balanced start: B = U diag(sqrt(sigma)), A = diag(sqrt(sigma)) V' (method.md 5). */
static int pair_create(adam *self, size_t index, didi_error *error)
{
    const block *source = &self->layer->blocks[index];
    pair *p = &self->pairs[index];
    size_t m = self->layer->rows;
    size_t n = self->layer->columns;
    p->rank = source->rank;
    size_t count = p->rank * (m + n);
    p->value = memory_aligned(count, sizeof(float));
    p->gradient = memory_aligned(count, sizeof(float));
    p->first = memory_zeroed(count, sizeof(float));
    p->second = memory_zeroed(count, sizeof(float));
    p->best = memory_aligned(count, sizeof(float));
    if (p->value == NULL || p->gradient == NULL || p->first == NULL || p->second == NULL ||
        p->best == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "Adam moments of rank %zu", p->rank);
    for (size_t i = 0; i < p->rank; i++) {
        double left = sqrt(linalg_energy(source->left + i * m, m));
        double right = sqrt(linalg_energy(source->right + i * n, n));
        float root = left > 0 ? (float)sqrt(right / left) : 0.0F;
        float inverse = root > 0 ? 1.0F / root : 0.0F;
        for (size_t j = 0; j < m; j++)
            p->value[i * m + j] = source->left[i * m + j] * root;
        for (size_t j = 0; j < n; j++)
            right_of(self, p, p->value)[i * n + j] = source->right[i * n + j] * inverse;
    }
    memcpy(p->best, p->value, count * sizeof(float));
    p->rate_left = self->options->learning_rate * root_mean_square(p->value, p->rank * m);
    p->rate_right =
        self->options->learning_rate * root_mean_square(right_of(self, p, p->value), p->rank * n);
    return DIDI_OK;
}

/* gradient(a) += scale * d/d(a) of <left_a' right_a, left_b' right_b>. */
static void add_pair_gradient(adam *self, pair *a, const pair *b, double scale)
{
    size_t m = self->layer->rows;
    size_t n = self->layer->columns;
    if (a->rank == 0 || b->rank == 0)
        return;
    linalg_gemm(false, true, a->rank, b->rank, n, (float)scale, right_of(self, a, a->value), n,
                right_of(self, b, b->value), n, 0.0F, self->core, b->rank);
    linalg_gemm(false, false, a->rank, m, b->rank, 1.0F, self->core, b->rank, b->value, m, 1.0F,
                a->gradient, m);
    linalg_gemm(false, true, a->rank, b->rank, m, (float)scale, a->value, m, b->value, m, 0.0F,
                self->core, b->rank);
    linalg_gemm(false, false, a->rank, n, b->rank, 1.0F, self->core, b->rank,
                right_of(self, b, b->value), n, 1.0F, right_of(self, a, a->gradient), n);
}

/* gradient(a) = scale * d/d(a) of <left_a' right_a, D_index> (layer_apply). */
static int set_dense_gradient(adam *self, size_t index, double scale, didi_error *error)
{
    const layer *target = self->layer;
    pair *a = &self->pairs[index];
    size_t count = a->rank * (target->rows + target->columns);
    if (a->rank == 0)
        return DIDI_OK;
    if (scale == 0) {
        memset(a->gradient, 0, count * sizeof(float));
        return DIDI_OK;
    }
    int status =
        layer_apply(target, index, true, a->rank, right_of(self, a, a->value), a->gradient, error);
    if (status == DIDI_OK)
        status = layer_apply(target, index, false, a->rank, a->value,
                             right_of(self, a, a->gradient), error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        a->gradient[i] *= (float)scale;
    return status;
}

static int gradients(adam *self, didi_error *error)
{
    const layer *target = self->layer;
    pair *shared = &self->pairs[0];
    int status = set_dense_gradient(self, 0, -2 * target->weight_sum, error);
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++)
        status = set_dense_gradient(self, t + 1, -2 * target->weight[t], error);
    if (status != DIDI_OK)
        return status;
    add_pair_gradient(self, shared, shared, 2 * target->weight_sum);
    for (size_t t = 0; t < target->tasks; t++) {
        double w = target->weight[t];
        pair *expert = &self->pairs[t + 1];
        if (w == 0)
            continue;
        add_pair_gradient(self, expert, expert, 2 * w);
        add_pair_gradient(self, expert, shared, 2 * w);
        add_pair_gradient(self, shared, expert, 2 * w);
    }
    return DIDI_OK;
}

static void move_values(float *value, const float *gradient, float *first, float *second,
                        size_t count, float rate, float correct_second)
{
    for (size_t i = 0; i < count; i++) {
        first[i] = 0.9F * first[i] + 0.1F * gradient[i];
        second[i] = 0.999F * second[i] + 0.001F * gradient[i] * gradient[i];
        value[i] -= rate * first[i] / (sqrtf(second[i] * correct_second) + 1e-30F);
    }
}

static void move_pair(const adam *self, pair *p, size_t step)
{
    size_t lefts = p->rank * self->layer->rows;
    size_t rights = p->rank * self->layer->columns;
    double progress = (double)step / (double)self->options->steps;
    double fall = 0.01 + 0.99 * 0.5 * (1 + cos(3.14159265358979 * progress));
    double correct_first = 1 / (1 - pow(0.9, (double)step + 1));
    float correct_second = (float)(1 / (1 - pow(0.999, (double)step + 1)));
    move_values(p->value, p->gradient, p->first, p->second, lefts,
                (float)(p->rate_left * fall * correct_first), correct_second);
    move_values(p->value + lefts, p->gradient + lefts, p->first + lefts, p->second + lefts, rights,
                (float)(p->rate_right * fall * correct_first), correct_second);
}

/* The values become the layer's blocks (left no longer orthonormal). */
static void publish_values(adam *self, bool best)
{
    for (size_t j = 0; j <= self->layer->tasks; j++) {
        pair *p = &self->pairs[j];
        block *target = &self->layer->blocks[j];
        float *source = best ? p->best : p->value;
        if (p->rank == 0)
            continue;
        memcpy(target->left, source, p->rank * self->layer->rows * sizeof(float));
        memcpy(target->right, right_of(self, p, source),
               p->rank * self->layer->columns * sizeof(float));
    }
}

static void remember_best(adam *self)
{
    for (size_t j = 0; j <= self->layer->tasks; j++) {
        pair *p = &self->pairs[j];
        memcpy(p->best, p->value,
               p->rank * (self->layer->rows + self->layer->columns) * sizeof(float));
    }
}

enum { LOSS_EVERY = 10 }; /* a loss costs a third of a step */

static int run_adam(adam *self, double *errors, double *ret_loss, didi_error *error)
{
    const refine_options *options = self->options;
    double best = 0;
    int status = layer_loss(self->layer, errors, &best, error);
    for (size_t step = 0; step < options->steps && status == DIDI_OK; step++) {
        if (layer_is_cancelled(self->layer))
            return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        status = gradients(self, error);
        if (status != DIDI_OK)
            break;
        for (size_t j = 0; j <= self->layer->tasks; j++)
            move_pair(self, &self->pairs[j], step);
        if ((step + 1) % LOSS_EVERY != 0 && step + 1 != options->steps)
            continue;
        double loss = 0;
        publish_values(self, false);
        status = layer_loss(self->layer, errors, &loss, error);
        if (status == DIDI_OK && options->report != NULL)
            options->report(options->context, step, loss);
        if (status == DIDI_OK && loss < best) {
            best = loss;
            remember_best(self);
        }
    }
    publish_values(self, true);
    *ret_loss = best;
    return status;
}

int solve_refine_adam(layer *target, const refine_options *options, double *ret_loss,
                      didi_error *error)
{
    adam self = {.layer = target, .options = options};
    double *errors = memory_zeroed(target->tasks, sizeof *errors);
    size_t widest = 1;
    for (size_t j = 0; j <= target->tasks; j++)
        if (target->blocks[j].rank > widest)
            widest = target->blocks[j].rank;
    self.pairs = memory_zeroed(target->tasks + 1, sizeof *self.pairs);
    self.core = memory_aligned(widest * widest, sizeof *self.core);
    int status = DIDI_OK;
    if (errors == NULL || self.pairs == NULL || self.core == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "Adam on %zu tasks", target->tasks);
    for (size_t j = 0; j <= target->tasks && status == DIDI_OK; j++)
        status = pair_create(&self, j, error);
    if (status == DIDI_OK)
        status = run_adam(&self, errors, ret_loss, error);
    for (size_t j = 0; self.pairs != NULL && j <= target->tasks; j++)
        pair_clear(&self.pairs[j]);
    free(self.pairs);
    free(self.core);
    free(errors);
    return status;
}
