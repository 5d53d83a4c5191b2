/* SPDX-License-Identifier: Apache-2.0 */
/* Layers made up for tests. */
#include "tests/unit/sample_layer.h"

#include "src/didi.h"
#include "src/math/random.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int sample_use_one_thread(void **state)
{
    didi_error error = {0};
    (void)state;
    return didi_blas_use_one_thread(&error);
}

void sample_add_matrix(float *x, size_t rows, size_t columns, size_t rank, uint64_t seed)
{
    float *left = support_allocate(rows * sizeof *left);
    float *right = support_allocate(columns * sizeof *right);
    float size = 1;
    for (size_t k = 0; k < rank; k++) {
        random_normal(random_mix(seed, 2 * k), left, rows, (float)sqrt(1.0 / (double)rows));
        random_normal(random_mix(seed, 2 * k + 1), right, columns,
                      (float)sqrt(1.0 / (double)columns));
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++)
                x[i * columns + j] += size * left[i] * right[j];
        size *= 0.9F;
    }
    free(left);
    free(right);
}

layer *sample_layer(const sample_recipe *recipe)
{
    layer *made = NULL;
    didi_error error = {0};
    size_t count = recipe->rows * recipe->columns;
    if (layer_create(recipe->rows, recipe->columns, recipe->tasks, &made, &error) != DIDI_OK)
        abort();
    memset(made->tau, 0, recipe->tasks * count * sizeof(float));
    for (size_t t = 0; t < recipe->tasks; t++) {
        float *tau = made->tau + t * count;
        sample_add_matrix(tau, recipe->rows, recipe->columns, recipe->shared_rank, recipe->seed);
        sample_add_matrix(tau, recipe->rows, recipe->columns, recipe->own_rank,
                          random_mix(recipe->seed, 1000 + t));
    }
    made->seed = recipe->seed;
    if (layer_measure(made, &error) != DIDI_OK)
        abort();
    double *weight = support_allocate(recipe->tasks * sizeof *weight);
    for (size_t t = 0; t < recipe->tasks; t++)
        weight[t] = 1;
    layer_set_weights(made, weight);
    free(weight);
    return made;
}

static int read_base(void *context, uint64_t first, size_t count, float *out, didi_error *error)
{
    (void)context;
    (void)error;
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(first + i);
    return DIDI_OK;
}

static int read_delta(void *context, size_t task, uint64_t first, size_t count, const float *base,
                      float *out, didi_error *error)
{
    const layer *from = context;
    (void)error;
    assert_true(count > 0 && base[0] == (float)first &&
                base[count - 1] == (float)(first + count - 1));
    assert_true(first + count <= from->rows * from->columns);
    memcpy(out, from->tau + task * from->rows * from->columns + first, count * sizeof *out);
    return DIDI_OK;
}

layer *sample_streamed_layer(layer *from)
{
    layer *made = NULL;
    didi_error error = {0};
    layer_source source = {.context = from, .read_base = read_base, .read_delta = read_delta};
    if (layer_create_streamed(from->rows, from->columns, from->tasks, &source, &made, &error) !=
            DIDI_OK ||
        layer_measure(made, &error) != DIDI_OK)
        abort();
    made->seed = from->seed;
    layer_set_weights(made, from->weight);
    return made;
}

void sample_product(const layer *self, size_t index, size_t rank, double *out)
{
    const block *from = &self->blocks[index];
    memset(out, 0, self->rows * self->columns * sizeof *out);
    for (size_t k = 0; k < rank; k++)
        for (size_t i = 0; i < self->rows; i++)
            for (size_t j = 0; j < self->columns; j++)
                out[i * self->columns + j] += (double)from->left[k * self->rows + i] *
                                              (double)from->right[k * self->columns + j];
}

double sample_loss(const layer *self, double *errors)
{
    size_t count = self->rows * self->columns;
    double *shared = support_allocate(count * sizeof *shared);
    double *expert = support_allocate(count * sizeof *expert);
    double loss = 0;
    sample_product(self, 0, self->blocks[0].rank, shared);
    for (size_t t = 0; t < self->tasks; t++) {
        double sum = 0;
        sample_product(self, t + 1, self->blocks[t + 1].rank, expert);
        for (size_t i = 0; i < count; i++) {
            double off = (double)self->tau[t * count + i] - shared[i] - expert[i];
            sum += off * off;
        }
        if (errors != NULL)
            errors[t] = sum;
        loss += self->weight[t] * sum;
    }
    free(shared);
    free(expert);
    return loss;
}

void sample_assert_near_at(double a, double b, double bound, const char *file, int line)
{
    if (fabs(a - b) <= bound)
        return;
    print_error("%.17g and %.17g are %g apart, allowed are %g\n", a, b, fabs(a - b), bound);
    _fail(file, line);
}
