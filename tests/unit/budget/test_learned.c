/* SPDX-License-Identifier: Apache-2.0 */
/* The spectral loss against dense rebuilds in double, its gradient against finite differences, and
 * learned ranks. Singular vectors are axes and rows of a Hadamard matrix: their products are exact.
 */
#include "src/base/fault.h"
#include "src/budget/learned.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 16, TASKS = 2, BLOCKS = TASKS + 1 };

/* Everything the loss needs, for q leading values of N. */
typedef struct problem {
    size_t q;
    double full[BLOCKS][N]; /* all singular values */
    double sigma[BLOCKS * N];
    float cross[TASKS * N * N];
    double expert_tail[TASKS * N], shared_tail[TASKS * N];
    double corner[TASKS], tail[BLOCKS], weight[TASKS];
    differentiable_layer layer;
} problem;

/* Sylvester's Hadamard matrix over 4: orthonormal, exact in float. */
static double hadamard(size_t i, size_t j)
{
    return __builtin_parityl(i & j) ? -0.25 : 0.25;
}

/* Entry e of the i-th left (or right) singular vector of a block. */
static double vector(size_t index, bool right, size_t i, size_t e)
{
    if (index == 0)
        return i == e;
    return hadamard(right ? (i * 5 + index) % N : (i + index) % N, e);
}

static double product(size_t task, size_t i, size_t j)
{
    double left = 0;
    double right = 0;
    for (size_t e = 0; e < N; e++) {
        left += vector(0, false, i, e) * vector(task + 1, false, j, e);
        right += vector(0, true, i, e) * vector(task + 1, true, j, e);
    }
    return left * right;
}

static void fill_cross(problem *self, size_t task)
{
    size_t q = self->q;
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            double value = product(task, i, j);
            if (i < q && j < q)
                self->cross[(task * q + i) * q + j] = (float)value;
            else if (i < q)
                self->expert_tail[task * q + i] += value * self->full[task + 1][j];
            else if (j < q)
                self->shared_tail[task * q + j] += value * self->full[0][i];
            else
                self->corner[task] += value * self->full[0][i] * self->full[task + 1][j];
        }
}

static void make_problem(problem *self, size_t q, uint64_t seed)
{
    memset(self, 0, sizeof *self);
    self->q = q;
    for (size_t j = 0; j < BLOCKS; j++) {
        double value = 1 + (double)(support_random(&seed) % 100) / 100;
        for (size_t i = 0; i < N; i++) {
            self->full[j][i] = value;
            if (i < q)
                self->sigma[j * q + i] = value;
            else
                self->tail[j] += value * value;
            value *= 0.7 + (double)(support_random(&seed) % 30) / 100;
        }
    }
    for (size_t t = 0; t < TASKS; t++) {
        self->weight[t] = 0.5 + (double)t;
        fill_cross(self, t);
    }
    self->layer = (differentiable_layer){.tasks = TASKS,
                                         .q = q,
                                         .cost = N + N,
                                         .rank_limit = q,
                                         .sigma = self->sigma,
                                         .cross = self->cross,
                                         .expert_tail = self->expert_tail,
                                         .shared_tail = self->shared_tail,
                                         .corner = self->corner,
                                         .tail = self->tail,
                                         .weight = self->weight};
}

/* The loss by rebuilding S_hat + E_hat - (S + E): what is cut away, entry by entry. */
static double dense_loss(const problem *self, double gates[BLOCKS][N])
{
    double loss = 0;
    for (size_t t = 0; t < TASKS; t++)
        for (size_t a = 0; a < N; a++)
            for (size_t b = 0; b < N; b++) {
                double off = 0;
                for (size_t i = 0; i < N; i++) {
                    off += self->full[0][i] * (1 - gates[0][i]) * vector(0, false, i, a) *
                           vector(0, true, i, b);
                    off += self->full[t + 1][i] * (1 - gates[t + 1][i]) *
                           vector(t + 1, false, i, a) * vector(t + 1, true, i, b);
                }
                loss += self->weight[t] * off * off;
            }
    return loss;
}

static void gates_are_centred_between_components(void **state)
{
    (void)state;
    assert_true(differentiable_gate(2.5, 2, 3) == 0.5);
    for (size_t k = 0; k < 5; k++)
        for (size_t i = 0; i < 5; i++) {
            sample_assert_near(differentiable_gate((double)k, i, 100), i < k, 1e-12);
            sample_assert_near(differentiable_gate((double)k, i, 1) +
                                   differentiable_gate((double)i, k, 1),
                               1 - (k == i ? tanh(0.5) : 0), k == i ? 1e-12 : 1);
        }
    sample_assert_near(differentiable_gate(3, 2, 1), 0.5 * tanh(0.5) + 0.5, 1e-15);
}

static void spectral_losses_equal_dense_losses(void **state)
{
    (void)state;
    static const size_t qs[] = {N, 6, 1};
    static const double betas[] = {0.5, 1, 4};
    for (size_t c = 0; c < 9; c++) {
        problem self;
        double scratch[6 * BLOCKS * N];
        double gates[BLOCKS][N] = {{0}};
        make_problem(&self, qs[c % 3], c);
        double ranks[BLOCKS] = {0.4 * (double)self.q, 0.7 * (double)self.q, 0.1};
        for (size_t j = 0; j < BLOCKS; j++)
            for (size_t i = 0; i < self.q; i++)
                gates[j][i] = differentiable_gate(ranks[j], i, betas[c / 3]);
        double wanted = dense_loss(&self, gates);
        double loss = differentiable_loss(&self.layer, ranks, betas[c / 3], NULL, scratch);
        sample_assert_near(loss, wanted, 1e-12 * wanted);
    }
}

static void truncated_losses_equal_dense_losses(void **state)
{
    (void)state;
    static const size_t qs[] = {N, 6};
    for (size_t c = 0; c < 2; c++) {
        problem self;
        double scratch[6 * BLOCKS * N];
        make_problem(&self, qs[c], 20 + c);
        for (size_t k = 0; k <= self.q; k += 2) {
            size_t ranks[BLOCKS] = {k, self.q - k, k / 2};
            double gates[BLOCKS][N] = {{0}};
            for (size_t j = 0; j < BLOCKS; j++)
                for (size_t i = 0; i < ranks[j]; i++)
                    gates[j][i] = 1;
            double wanted = dense_loss(&self, gates);
            sample_assert_near(differentiable_truncated(&self.layer, ranks, scratch), wanted,
                               1e-12 * (1 + wanted));
        }
    }
}

static void full_ranks_lose_nothing(void **state)
{
    (void)state;
    problem self;
    double scratch[6 * BLOCKS * N];
    static const size_t ranks[BLOCKS] = {N, N, N};
    make_problem(&self, N, 3);
    assert_true(differentiable_truncated(&self.layer, ranks, scratch) == 0);
}

static void gradients_equal_finite_differences(void **state)
{
    (void)state;
    static const size_t qs[] = {N, 6, 1};
    for (size_t c = 0; c < 12; c++) {
        problem self;
        double scratch[6 * BLOCKS * N];
        double gradient[BLOCKS];
        make_problem(&self, qs[c % 3], 40 + c);
        double beta = c < 6 ? 1 : 2.5;
        double ranks[BLOCKS];
        uint64_t seed = c;
        for (size_t j = 0; j < BLOCKS; j++)
            ranks[j] = (double)(support_random(&seed) % 1000) / 1000 * (double)self.q;
        (void)differentiable_loss(&self.layer, ranks, beta, gradient, scratch);
        for (size_t j = 0; j < BLOCKS; j++) {
            double step = 1e-5;
            double old = ranks[j];
            ranks[j] = old + step;
            double above = differentiable_loss(&self.layer, ranks, beta, NULL, scratch);
            ranks[j] = old - step;
            double below = differentiable_loss(&self.layer, ranks, beta, NULL, scratch);
            ranks[j] = old;
            sample_assert_near(gradient[j], (above - below) / (2 * step), 1e-7);
        }
    }
}

typedef struct report {
    size_t steps;
    double first_loss, last_loss, last_ratio;
} report;

static void note_step(void *context, size_t step, double loss, double ratio)
{
    report *self = context;
    assert_int_equal(step, self->steps);
    if (self->steps++ == 0)
        self->first_loss = loss;
    self->last_loss = loss;
    self->last_ratio = ratio;
}

static double energy_of(const problem *self)
{
    double none[BLOCKS][N] = {{0}};
    return dense_loss(self, none);
}

static void learning_lowers_the_loss_and_lands_on_the_target(void **state)
{
    (void)state;
    problem self[2];
    double ranks[2][BLOCKS] = {{1, 4, 1}, {4, 1, 1}};
    double *starts[2] = {ranks[0], ranks[1]};
    report seen = {0};
    didi_error error = {0};
    make_problem(&self[0], N, 60);
    make_problem(&self[1], 8, 61);
    differentiable_layer layers[2] = {self[0].layer, self[1].layer};
    differentiable_options options = {.beta = 1,
                                      .lambda = 1,
                                      .learning_rate = 0.3,
                                      .steps = 400,
                                      .target = 12.0 * 2 * N / (2 * N * N),
                                      .matrix_parameters = 2 * N * N,
                                      .energy = energy_of(&self[0]) + energy_of(&self[1]),
                                      .context = &seen,
                                      .report = note_step};
    assert_int_equal(differentiable_optimise(layers, 2, &options, starts, &error), DIDI_OK);
    assert_int_equal(seen.steps, 400);
    assert_true(seen.last_loss < seen.first_loss);
    sample_assert_near(seen.last_ratio, options.target, 0.02 * options.target);
    for (size_t l = 0; l < 2; l++)
        for (size_t j = 0; j < BLOCKS; j++)
            assert_true(ranks[l][j] >= 0 && ranks[l][j] <= (double)layers[l].rank_limit);
}

static void learning_stops_when_told_or_out_of_memory(void **state)
{
    (void)state;
    problem self;
    double ranks[BLOCKS] = {2, 2, 2};
    double *starts[1] = {ranks};
    atomic_bool cancelled = true;
    didi_error error = {0};
    make_problem(&self, 6, 70);
    differentiable_options options = {.beta = 1,
                                      .learning_rate = 1,
                                      .steps = 5,
                                      .target = 1,
                                      .matrix_parameters = N * N,
                                      .energy = 1,
                                      .cancelled = &cancelled};
    assert_int_equal(differentiable_optimise(&self.layer, 1, &options, starts, &error),
                     DIDI_CANCELLED);
    assert_true(ranks[0] == 2 && ranks[1] == 2 && ranks[2] == 2);
    atomic_store(&cancelled, false);
    static const char *const faults[] = {"alloc:1", "alloc:2", "alloc:3"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fault_arm(faults[i]), 0);
        assert_int_equal(differentiable_optimise(&self.layer, 1, &options, starts, &error),
                         DIDI_NO_MEMORY);
    }
    assert_int_equal(fault_arm(NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gates_are_centred_between_components),
        cmocka_unit_test(spectral_losses_equal_dense_losses),
        cmocka_unit_test(truncated_losses_equal_dense_losses),
        cmocka_unit_test(full_ranks_lose_nothing),
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(learning_lowers_the_loss_and_lands_on_the_target),
        cmocka_unit_test(learning_stops_when_told_or_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
