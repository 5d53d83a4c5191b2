/* SPDX-License-Identifier: Apache-2.0 */
/* Adam on the factors, and what a layer publishes: balanced, rounded and measured. */
#include "src/base/fault.h"
#include "src/files/dtype.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sample_recipe recipe = {24, 17, 3, 4, 17, 5};
enum { M = 24, N = 17, TASKS = 3 };

/* A layer started from the mean at these ranks of the shared block and of every expert. */
static layer *started(layer_summary *summary, size_t shared, size_t expert)
{
    layer *target = sample_layer(&recipe);
    didi_error error = {0};
    *summary = sample_summary(target, DIDI_WEIGHTING_BALANCED);
    for (size_t j = 0; j <= TASKS; j++)
        summary->rank[j] = j == 0 ? shared : expert;
    sample_must(solve_start_from_mean(target, true, summary, &error), &error);
    return target;
}

static void count_report(void *context, size_t step, double loss)
{
    double *last = context;
    (void)step;
    assert_true(isfinite(loss));
    *last = loss;
}

static void adam_lowers_the_loss(void **state)
{
    (void)state;
    layer_summary summary;
    layer *target = started(&summary, 3, 2);
    double last = NAN;
    didi_error error = {0};
    refine_options options = {.optimizer = DIDI_OPTIMIZER_ADAM,
                              .steps = 150,
                              .learning_rate = 0.02,
                              .context = &last,
                              .report = count_report};
    double before = sample_loss(target, NULL);
    sample_must(solve_refine(target, &options, &summary, &error), &error);
    double after = sample_loss(target, NULL);
    assert_true(after < 0.95 * before);
    sample_assert_near(summary.loss, after, 2e-6 * layer_weighted_energy(target));
    assert_true(summary.loss <= last);
    summary_clear(&summary);
    layer_free(target);
}

static void adam_comes_near_to_als(void **state)
{
    (void)state;
    double losses[2];
    for (int adam = 0; adam < 2; adam++) {
        layer_summary summary;
        layer *target = started(&summary, 3, 2);
        didi_error error = {0};
        refine_options options = {.optimizer = adam == 1 ? DIDI_OPTIMIZER_ADAM : DIDI_OPTIMIZER_ALS,
                                  .steps = 500,
                                  .learning_rate = 0.02};
        sample_must(solve_refine(target, &options, &summary, &error), &error);
        losses[adam] = summary.loss;
        summary_clear(&summary);
        layer_free(target);
    }
    assert_true(losses[1] <= 1.1 * losses[0]);
}

static void adam_keeps_the_best_step(void **state)
{
    (void)state;
    layer_summary summary;
    layer *target = started(&summary, 3, 2);
    didi_error error = {0};
    refine_options options = {.optimizer = DIDI_OPTIMIZER_ADAM,
                              .steps = 20,
                              .learning_rate = 50}; /* far too bold: every step is worse */
    double before = sample_loss(target, NULL);
    double bound = 1e-5 * layer_weighted_energy(target);
    sample_must(solve_refine(target, &options, &summary, &error), &error);
    assert_true(sample_loss(target, NULL) <= before + bound);
    atomic_bool cancelled = true;
    target->cancelled = &cancelled;
    assert_int_equal(solve_refine(target, &options, &summary, &error), DIDI_CANCELLED);
    summary_clear(&summary);
    layer_free(target);
}

/* |B_s A_s + B_t A_t + delta - tau_t|^2 of a package, in double. */
static double package_error(const layer *target, const solve_package *package, size_t task)
{
    double sum = 0;
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            double value = -(double)target->tau[(task * M + i) * N + j];
            for (size_t b = 0; b < 2; b++) {
                const solve_factors *f = &package->factors[b == 0 ? 0 : task + 1];
                for (size_t k = 0; k < f->rank; k++)
                    value += (double)f->b[i * f->rank + k] * (double)f->a[k * N + j];
            }
            if (package->delta[task] != NULL)
                value += (double)package->delta[task][i * N + j];
            sum += value * value;
        }
    return sum;
}

static void assert_rounded(int dtype, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char raw[8];
        float back = 0;
        didi_dtype_from_f32((didi_dtype)dtype, &values[i], raw, 1);
        didi_dtype_to_f32((didi_dtype)dtype, raw, &back, 1);
        assert_true(back == values[i]);
    }
}

static void assert_balanced(const solve_factors *f, double bound)
{
    for (size_t k = 0; k < f->rank; k++) {
        double column = 0;
        double row = 0;
        for (size_t i = 0; i < M; i++)
            column += (double)f->b[i * f->rank + k] * (double)f->b[i * f->rank + k];
        for (size_t j = 0; j < N; j++)
            row += (double)f->a[k * N + j] * (double)f->a[k * N + j];
        sample_assert_near(column, row, bound * (row + 1e-9));
    }
}

static void packages_are_rounded_balanced_and_measured(void **state)
{
    (void)state;
    static const int dtypes[] = {DIDI_DTYPE_F32, DIDI_DTYPE_BF16, DIDI_DTYPE_F16};
    static const didi_precision stored[] = {DIDI_PRECISION_F32, DIDI_PRECISION_BF16,
                                            DIDI_PRECISION_F16};
    for (size_t d = 0; d < 3; d++) {
        layer_summary summary;
        layer *target = started(&summary, 5, 3);
        double before[TASKS];
        solve_package package = {0};
        didi_error error = {0};
        (void)sample_loss(target, before);
        sample_must(solve_finish(target, stored[d], &summary, &package, &error), &error);
        for (size_t t = 0; t < TASKS; t++) {
            double wanted = package_error(target, &package, t);
            sample_assert_near(summary.error[t], wanted, 1e-5 * target->energy[t]);
            sample_assert_near(wanted, before[t], (d == 1 ? 5e-3 : 5e-4) * target->energy[t]);
            assert_null(package.delta[t]);
        }
        for (size_t j = 0; j <= TASKS; j++) {
            const solve_factors *f = &package.factors[j];
            assert_int_equal(f->rank, j == 0 ? 5 : 3);
            assert_rounded(dtypes[d], f->b, f->rank * M);
            assert_rounded(dtypes[d], f->a, f->rank * N);
            assert_balanced(f, d == 1 ? 2e-2 : 2e-3);
        }
        solve_package_clear(&package);
        summary_clear(&summary);
        layer_free(target);
    }
}

static void dense_experts_rebuild_their_task(void **state)
{
    (void)state;
    layer_summary summary;
    layer *target = started(&summary, 3, 2);
    solve_package package = {0};
    refine_options options = {.optimizer = DIDI_OPTIMIZER_ALS, .steps = 3};
    didi_error error = {0};
    summary.dense[2] = true;
    summary.rank[2] = 0;
    sample_must(solve_refine(target, &options, &summary, &error), &error);
    assert_true(target->weight[1] == 0); /* it no longer pulls at the shared part */
    sample_must(solve_finish(target, DIDI_PRECISION_F32, &summary, &package, &error), &error);
    assert_non_null(package.delta[1]);
    assert_true(package.delta[0] == NULL && package.delta[2] == NULL);
    assert_int_equal(package.factors[2].rank, 0);
    assert_true(package_error(target, &package, 1) <= 1e-10 * target->energy[1]);
    assert_true(summary.error[1] <= 1e-10 * target->energy[1]);
    assert_true(summary.error[0] > 1e-3 * target->energy[0]);
    solve_package_clear(&package);
    summary_clear(&summary);
    layer_free(target);
}

static void rank_zero_publishes_nothing(void **state)
{
    (void)state;
    layer_summary summary;
    layer *target = started(&summary, 0, 0);
    solve_package package = {0};
    didi_error error = {0};
    sample_must(solve_finish(target, DIDI_PRECISION_BF16, &summary, &package, &error), &error);
    for (size_t j = 0; j <= TASKS; j++)
        assert_int_equal(package.factors[j].rank, 0);
    for (size_t t = 0; t < TASKS; t++)
        sample_assert_near(summary.error[t], target->energy[t], 1e-9);
    solve_package_clear(&package);
    solve_package_clear(&package); /* empty is fine */
    summary_clear(&summary);
    layer_free(target);
}

static void values_out_of_range_are_told(void **state)
{
    (void)state;
    layer_summary summary;
    layer *target = sample_layer(&recipe);
    solve_package package = {0};
    didi_error error = {0};
    for (size_t i = 0; i < (size_t)TASKS * M * N; i++)
        target->tau[i] *= 1e12F;
    sample_must(layer_measure(target, &error), &error);
    summary = sample_summary(target, DIDI_WEIGHTING_NONE);
    summary.rank[1] = 2;
    sample_must(solve_start_from_mean(target, false, &summary, &error), &error);
    assert_int_equal(solve_finish(target, DIDI_PRECISION_F16, &summary, &package, &error),
                     DIDI_NUMERIC);
    support_assert_contains(error.message, "F16");
    assert_null(package.factors);
    sample_must(solve_finish(target, DIDI_PRECISION_BF16, &summary, &package, &error), &error);
    solve_package_clear(&package);
    summary_clear(&summary);
    layer_free(target);
}

static void no_memory_is_told(void **state)
{
    (void)state;
    bool fired = true;
    for (size_t nth = 1; fired; nth++) {
        layer_summary summary;
        layer *target = started(&summary, 2, 2);
        solve_package package = {0};
        refine_options options = {
            .optimizer = DIDI_OPTIMIZER_ADAM, .steps = 1, .learning_rate = 0.01};
        char fault[32];
        didi_error error = {0};
        summary.dense[1] = true;
        summary.rank[1] = 0;
        (void)snprintf(fault, sizeof fault, "alloc:%zu", nth);
        assert_int_equal(fault_arm(fault), 0);
        int status = solve_refine(target, &options, &summary, &error);
        if (status == DIDI_OK)
            status = solve_finish(target, DIDI_PRECISION_BF16, &summary, &package, &error);
        fired = fault_all_fired();
        assert_int_equal(fault_arm(NULL), 0);
        assert_int_equal(status, fired ? DIDI_NO_MEMORY : DIDI_OK);
        solve_package_clear(&package);
        summary_clear(&summary);
        layer_free(target);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adam_lowers_the_loss),
        cmocka_unit_test(adam_comes_near_to_als),
        cmocka_unit_test(adam_keeps_the_best_step),
        cmocka_unit_test(packages_are_rounded_balanced_and_measured),
        cmocka_unit_test(dense_experts_rebuild_their_task),
        cmocka_unit_test(rank_zero_publishes_nothing),
        cmocka_unit_test(values_out_of_range_are_told),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
