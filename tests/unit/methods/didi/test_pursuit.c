/* SPDX-License-Identifier: Apache-2.0 */
/* Stages of one layer: weights, sketches, exact spectra, pursuit and refinement. */
#include "src/base/fault.h"
#include "src/budget/learned.h"
#include "src/budget/ranks.h"
#include "src/math/linalg.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOSS_BOUND 2e-6 /* of the weighted energy */

static const sample_recipe recipes[] = {
    {12, 9, 3, 2, 12, 1}, {9, 12, 3, 0, 3, 2},  {20, 20, 1, 0, 20, 3},
    {2, 30, 2, 1, 1, 4},  {40, 15, 4, 3, 2, 6}, {25, 31, 5, 4, 25, 9},
};
enum { RECIPES = sizeof recipes / sizeof *recipes };

static void weights_are_balanced_by_layer(void **state)
{
    (void)state;
    static const double task[] = {1, 2, 3};
    static const double energy[] = {3, 0, 9}; /* a mean of 4 */
    double weight[3];
    solve_weights(DIDI_WEIGHTING_NONE, 0.5, task, energy, 3, weight);
    assert_true(weight[0] == 1 && weight[1] == 0 && weight[2] == 3);
    solve_weights(DIDI_WEIGHTING_BALANCED, 0.5, task, energy, 3, weight);
    assert_true(weight[0] == 0.5 && weight[1] == 0 && weight[2] == 1.5);
    solve_weights(DIDI_WEIGHTING_ACCURACY, 0.5, task, energy, 3, weight);
    assert_true(fabs(weight[0] - 0.25 * pow(0.75, 0.4)) < 1e-12 && weight[1] == 0);
    assert_true(fabs(weight[2] - 0.75 * pow(2.25, 0.4)) < 1e-12);
}

static void vectors_count_by_what_they_act_through(void **state)
{
    (void)state;
    assert_true(solve_vector_role("layers.0.self_attn.k_proj.bias", 1) == 1 / 32.0);
    assert_true(solve_vector_role("layers.0.mlp.fc1.bias", 1) == 0.1);
    assert_true(solve_vector_role("layers.0.layer_norm1.weight", 1) == 0.1);
    assert_true(solve_vector_role("layers.0.layer_norm1.bias", 1) == 1);
    assert_true(solve_vector_role("layers.0.self_attn.out_proj.bias", 1) == 1);
    assert_true(solve_vector_role("score.weight", 2) == 1);
}

static void queries_and_keys_count_half(void **state)
{
    (void)state;
    static const char *const half[] = {"vision_model.encoder.layers.0.self_attn.q_proj.weight",
                                       "bert.encoder.layer.3.attention.self.key.weight",
                                       "layers.1.attention.wq.weight"};
    static const char *const whole[] = {"vision_model.encoder.layers.0.self_attn.v_proj.weight",
                                        "model.layers.0.mlp.up_proj.weight", "transformer.wte"};
    for (size_t i = 0; i < 3; i++) {
        assert_true(solve_role(half[i]) == 0.5);
        assert_true(solve_role(whole[i]) == 1);
    }
}

/* `needed` to pursue with two experts at once. */
static void check_memory(const solve_shape *shape, uint64_t needed)
{
    work_mode held = {.lanes = 2};
    work_mode alone = {.lanes = 1};
    work_mode streamed = {.streamed = true, .lanes = 1};
    solve_rows few = {10, 2, 2, 0};
    solve_rows many = {20, 4, 4, 1};
    solve_shape exact = *shape;
    exact.exact = true;
    assert_true(solve_memory_pursue(shape, &alone) <= needed);
    assert_true(solve_memory_decompose(shape, &held) < needed);
    assert_true(solve_memory_decompose(&exact, &held) > solve_memory_decompose(shape, &held));
    assert_true(solve_memory_refine(shape, &held, &few) < solve_memory_refine(shape, &held, &many));
    solve_shape large = *shape;
    large.rows = 100000;
    large.columns = 4096;
    uint64_t dense = 5 * large.rows * large.columns * sizeof(float);
    assert_true(solve_memory_pursue(&large, &streamed) + dense * 9 / 10 <
                solve_memory_pursue(&large, &alone));
}

static void limits_and_memory_grow_with_the_ratio(void **state)
{
    (void)state;
    solve_limits before = {0, 0};
    uint64_t memory = 0;
    for (int quarters = 0; quarters < 12; quarters++) {
        double ratio = quarters * 0.25;
        solve_limits limits = solve_limits_for(300, 200, 4, ratio);
        assert_true(limits.expert >= before.expert && limits.shared >= before.shared);
        assert_true(limits.expert <= 200 && limits.shared <= 200 && limits.expert > 0);
        assert_true(solve_sketch_rows(300, 200, 4, ratio) <= 200);
        solve_shape shape = {.rows = 300,
                             .columns = 200,
                             .tasks = 4,
                             .workers = 2,
                             .limits = limits,
                             .sketch_rows = solve_sketch_rows(300, 200, 4, ratio)};
        work_mode held = {.lanes = 2};
        uint64_t needed = solve_memory_pursue(&shape, &held);
        assert_true(needed >= memory && needed > 5 * 300 * 200 * sizeof(float));
        check_memory(&shape, needed);
        memory = needed;
        before = limits;
    }
    solve_shape huge = {
        .rows = UINT64_MAX / 2, .columns = 8, .tasks = 4, .workers = 2, .limits = before};
    work_mode held = {.lanes = 1};
    assert_true(solve_memory_pursue(&huge, &held) == UINT64_MAX);
}

/* Singular values of tau_t (minus the mean) by LAPACK. */
static void lapack_values(const layer *target, bool shared, size_t task, double *sigma)
{
    size_t count = target->rows * target->columns;
    size_t r = layer_full_rank(target);
    float *copy = support_allocate(count * sizeof *copy);
    float *u = support_allocate(r * target->rows * sizeof *u);
    float *v = support_allocate(r * target->columns * sizeof *v);
    didi_error error = {0};
    for (size_t i = 0; i < count; i++)
        copy[i] = target->tau[task * count + i] - (shared ? target->mean[i] : 0);
    sample_must(linalg_svd(target->rows, target->columns, copy, u, sigma, v, &error), &error);
    free(copy);
    free(u);
    free(v);
}

static void a_sketch_wide_enough_finds_the_spectrum(void **state)
{
    (void)state;
    static const sample_recipe thin = {40, 30, 3, 2, 3, 21};
    layer *target = sample_layer(&thin);
    layer_summary summary = sample_summary(target, DIDI_WEIGHTING_NONE);
    double sigma[30];
    didi_error error = {0};
    sample_must(solve_sketch(target, 9, &summary, &error), &error);
    for (size_t t = 0; t < 3; t++) {
        lapack_values(target, false, t, sigma);
        assert_in_range(summary.count[t + 1], 5, 9);
        for (size_t i = 0; i < 5; i++)
            sample_assert_near(summary.sigma[t + 1][i], sigma[i], 1e-3 * sigma[0]);
        sample_assert_near(summary.tail[t + 1], 0, 1e-4 * target->energy[t]);
        assert_int_equal(target->blocks[t + 1].rank, 0);
    }
    summary_clear(&summary);
    layer_free(target);
}

static void exact_spectra_equal_lapack(void **state)
{
    (void)state;
    for (size_t r = 0; r < RECIPES; r++)
        for (int shared = 0; shared < 2; shared++) {
            layer *target = sample_layer(&recipes[r]);
            layer_summary summary = sample_summary(target, DIDI_WEIGHTING_NONE);
            double sigma[32];
            didi_error error = {0};
            sample_must(solve_spectra(target, shared == 1, &summary, NULL, &error), &error);
            size_t full = layer_full_rank(target);
            assert_int_equal(summary.count[0], shared == 1 ? full : 0);
            for (size_t t = 0; t < target->tasks; t++) {
                lapack_values(target, shared == 1, t, sigma);
                assert_int_equal(summary.count[t + 1], full);
                for (size_t i = 0; i < full; i++)
                    sample_assert_near(summary.sigma[t + 1][i], sigma[i], 1e-5 * sigma[0] + 1e-6);
            }
            summary_clear(&summary);
            layer_free(target);
        }
}

/* Spectra of S = mean and E_t, cut to q, against factors truncated for real. */
static void check_truncated(const sample_recipe *recipe, size_t q)
{
    layer *target = sample_layer(recipe);
    layer_summary summary = sample_summary(target, DIDI_WEIGHTING_BALANCED);
    size_t blocks = target->tasks + 1;
    spectra found;
    didi_error error = {0};
    sample_must(spectra_create(&found, target->tasks, q, &error), &error);
    sample_must(solve_spectra(target, true, &summary, &found, &error), &error);
    double *sigma = support_allocate(blocks * q * sizeof *sigma);
    double *tail = support_allocate(blocks * sizeof *tail);
    double *scratch = support_allocate(6 * blocks * q * sizeof *scratch);
    for (size_t j = 0; j < blocks; j++)
        for (size_t i = 0; i < summary.count[j]; i++)
            if (i < q)
                sigma[j * q + i] = summary.sigma[j][i];
            else
                tail[j] += summary.sigma[j][i] * summary.sigma[j][i];
    differentiable_layer cut = {target->tasks,
                                q,
                                target->rows + target->columns,
                                q,
                                sigma,
                                found.cross,
                                found.expert_tail,
                                found.shared_tail,
                                found.corner,
                                tail,
                                target->weight};
    for (size_t k = 0; k <= q; k++) {
        for (size_t j = 0; j < blocks; j++)
            summary.rank[j] = (k + j) % (q + 1);
        sample_must(solve_start_from_mean(target, true, &summary, &error), &error);
        sample_assert_near(differentiable_truncated(&cut, summary.rank, scratch),
                           sample_loss(target, NULL), 1e-5 * layer_weighted_energy(target));
    }
    free(sigma);
    free(tail);
    free(scratch);
    spectra_clear(&found);
    summary_clear(&summary);
    layer_free(target);
}

static void spectral_losses_equal_losses_of_factors(void **state)
{
    (void)state;
    check_truncated(&recipes[0], 9);
    check_truncated(&recipes[0], 4);
    check_truncated(&recipes[4], 6);
    check_truncated(&recipes[5], 25);
}

static void full_rank_rebuilds_every_task_and_rank_zero_the_base(void **state)
{
    (void)state;
    for (size_t r = 0; r < RECIPES; r++)
        for (int shared = 0; shared < 2; shared++) {
            layer *target = sample_layer(&recipes[r]);
            layer_summary summary = sample_summary(target, DIDI_WEIGHTING_NONE);
            double errors[5];
            didi_error error = {0};
            sample_must(solve_start_from_mean(target, shared == 1, &summary, &error), &error);
            (void)sample_loss(target, errors);
            for (size_t t = 0; t < target->tasks; t++)
                assert_true(fabs(errors[t] - target->energy[t]) <= 1e-12 * target->energy[t]);
            for (size_t j = 0; j <= target->tasks; j++)
                summary.rank[j] = j == 0 && shared == 0 ? 0 : layer_full_rank(target);
            sample_must(solve_start_from_mean(target, shared == 1, &summary, &error), &error);
            (void)sample_loss(target, errors);
            for (size_t t = 0; t < target->tasks; t++)
                assert_true(errors[t] <= 1e-9 * target->energy[t]);
            summary_clear(&summary);
            layer_free(target);
        }
}

typedef struct watch {
    layer *target;
    double before, bound;
    size_t reports;
} watch;

static void watch_step(void *context, size_t step, double loss)
{
    watch *self = context;
    (void)step;
    double dense = sample_loss(self->target, NULL);
    assert_true(loss <= dense + self->bound); /* at the optimum that the blocks go beyond */
    assert_true(dense <= self->before + self->bound);
    self->before = dense;
    self->reports++;
}

static void check_als(const sample_recipe *recipe, size_t rank, didi_weighting weighting,
                      bool one_task_is_zero)
{
    layer *target = sample_layer(recipe);
    if (one_task_is_zero) {
        memset(target->tau, 0, target->rows * target->columns * sizeof(float));
        didi_error error = {0};
        sample_must(layer_measure(target, &error), &error);
    }
    layer_summary summary = sample_summary(target, weighting);
    watch seen = {.target = target,
                  .bound = 5 * LOSS_BOUND * layer_weighted_energy(target) + 1e-12};
    refine_options options = {
        .optimizer = DIDI_OPTIMIZER_ALS, .steps = 6, .context = &seen, .report = watch_step};
    didi_error error = {0};
    for (size_t j = 0; j <= target->tasks; j++)
        summary.rank[j] = (rank + j) % (layer_full_rank(target) + 1);
    sample_must(solve_start_from_mean(target, true, &summary, &error), &error);
    seen.before = sample_loss(target, NULL);
    sample_must(solve_refine(target, &options, &summary, &error), &error);
    assert_in_range(seen.reports, 1, 6);
    sample_assert_near(summary.loss, sample_loss(target, NULL), seen.bound);
    for (size_t j = 0; j <= target->tasks; j++)
        assert_true(target->blocks[j].rank == summary.rank[j]);
    summary_clear(&summary);
    layer_free(target);
}

static void als_never_rises(void **state)
{
    (void)state;
    for (size_t r = 0; r < RECIPES; r++)
        for (size_t rank = 1; rank < 12; rank += 2) {
            check_als(&recipes[r], rank, DIDI_WEIGHTING_NONE, false);
            check_als(&recipes[r], rank, DIDI_WEIGHTING_BALANCED, rank % 4 == 1);
        }
}

static void no_steps_leave_the_truncated_factors(void **state)
{
    (void)state;
    layer *target = sample_layer(&recipes[0]);
    layer_summary summary = sample_summary(target, DIDI_WEIGHTING_NONE);
    refine_options options = {.optimizer = DIDI_OPTIMIZER_ALS};
    didi_error error = {0};
    for (size_t j = 0; j <= target->tasks; j++)
        summary.rank[j] = 2;
    sample_must(solve_start_from_mean(target, true, &summary, &error), &error);
    double before = sample_loss(target, NULL);
    sample_must(solve_refine(target, &options, &summary, &error), &error);
    assert_true(sample_loss(target, NULL) == before);
    sample_assert_near(summary.loss, before, LOSS_BOUND * layer_weighted_energy(target));
    summary_clear(&summary);
    layer_free(target);
}

/* The blocks of a refined layer grow, and so does the target of what is fitted after. */
static void lengths_are_restored(void **state)
{
    (void)state;
    layer *target = sample_layer(&recipes[0]);
    layer_summary summary = sample_summary(target, DIDI_WEIGHTING_ACCURACY);
    refine_options options = {.optimizer = DIDI_OPTIMIZER_ALS, .steps = 3};
    didi_error error = {0};
    for (size_t j = 0; j <= target->tasks; j++)
        summary.rank[j] = 2;
    sample_must(solve_start_from_mean(target, true, &summary, &error), &error);
    sample_must(solve_refine(target, &options, &summary, &error), &error);
    double kept = 1 - summary.loss / layer_weighted_energy(target);
    double before = target->blocks[1].right[0];
    solve_restore(target, 1.08, &summary);
    sample_assert_near(target->gain, fmin(pow(kept, -0.25), 1.08), 1e-12);
    sample_assert_near(target->blocks[1].right[0], before * target->gain, 1e-6 * fabs(before));
    summary_clear(&summary);
    layer_free(target);
}

/* Loss of each task's own best ranks at the budget. */
static double loss_of_separate_svds(const sample_recipe *recipe, uint64_t budget)
{
    layer *target = sample_layer(recipe);
    layer_summary summary = sample_summary(target, DIDI_WEIGHTING_NONE);
    didi_error error = {0};
    sample_must(solve_spectra(target, false, &summary, NULL, &error), &error);
    sample_allocate(target, &summary, budget);
    sample_must(solve_start_from_mean(target, false, &summary, &error), &error);
    double loss = sample_loss(target, NULL);
    summary_clear(&summary);
    layer_free(target);
    return loss;
}

static double loss_of_pursuit(const sample_recipe *recipe, uint64_t budget, size_t sweeps)
{
    enum { ROUNDS = 8, GROWING = 4 };
    layer *target = sample_layer(recipe);
    layer_summary summary = sample_summary(target, DIDI_WEIGHTING_NONE);
    double ratio = (double)budget / (double)(recipe->rows * recipe->columns);
    solve_limits limits = solve_limits_for(recipe->rows, recipe->columns, recipe->tasks, ratio);
    size_t rows = solve_sketch_rows(recipe->rows, recipe->columns, recipe->tasks, ratio);
    double thresholds[ROUNDS];
    allocate_block blocks[9] = {{0}};
    refine_options options = {.optimizer = DIDI_OPTIMIZER_ALS, .steps = sweeps};
    didi_error error = {0};
    sample_must(solve_sketch(target, rows, &summary, &error), &error);
    for (size_t j = 1; j <= target->tasks; j++)
        blocks[j] = (allocate_block){.sigma = summary.sigma[j],
                                     .count = summary.count[j],
                                     .weight = 1,
                                     .cost = recipe->rows + recipe->columns};
    sample_must(allocate_schedule(blocks, target->tasks + 1, budget, GROWING, thresholds, &error),
                &error);
    for (size_t i = GROWING; i < ROUNDS; i++)
        thresholds[i] = thresholds[GROWING - 1];
    sample_must(solve_pursue(target, true, thresholds, ROUNDS, &limits, &summary, &error), &error);
    sample_allocate(target, &summary, budget);
    sample_must(solve_refine(target, &options, &summary, &error), &error);
    double loss = sample_loss(target, NULL);
    summary_clear(&summary);
    layer_free(target);
    return loss;
}

static void pursuit_of_strangers_is_no_worse_than_their_own_svds(void **state)
{
    (void)state;
    static const sample_recipe strangers[] = {
        {60, 50, 4, 0, 50, 31}, {64, 30, 3, 0, 12, 32}, {30, 80, 5, 0, 30, 33}};
    for (size_t r = 0; r < 3; r++) {
        layer *target = sample_layer(&strangers[r]);
        double energy = layer_weighted_energy(target);
        layer_free(target);
        for (size_t ranks = 4; ranks <= 16; ranks += 6) {
            uint64_t budget =
                ranks * strangers[r].tasks * (strangers[r].rows + strangers[r].columns) / 2;
            double wanted = loss_of_separate_svds(&strangers[r], budget);
            double loss = loss_of_pursuit(&strangers[r], budget, 6);
            assert_true(loss <= wanted + 0.005 * energy);
        }
    }
}

static void pursuit_finds_what_tasks_share(void **state)
{
    (void)state;
    static const sample_recipe siblings = {60, 50, 4, 6, 2, 41};
    uint64_t budget = (6 + 4 * 2) * 110; /* exactly enough when the common part is stored once */
    double apart = loss_of_separate_svds(&siblings, budget);
    layer *target = sample_layer(&siblings);
    double energy = layer_weighted_energy(target);
    layer_free(target);
    double together = loss_of_pursuit(&siblings, budget, 40);
    assert_true(together < 0.2 * apart);
    assert_true(together < 0.02 * energy);
}

static int everything(layer *target, layer_summary *summary, didi_error *error)
{
    static const double thresholds[] = {0.02, 0.01};
    solve_limits limits = {6, 6};
    refine_options options = {.optimizer = DIDI_OPTIMIZER_ALS, .steps = 2};
    spectra found = {0};
    int status = spectra_create(&found, target->tasks, 4, error);
    if (status == DIDI_OK)
        status = solve_spectra(target, true, summary, &found, error);
    spectra_clear(&found);
    if (status == DIDI_OK)
        status = solve_sketch(target, 5, summary, error);
    if (status == DIDI_OK)
        status = solve_pursue(target, true, thresholds, 2, &limits, summary, error);
    for (size_t j = 0; j <= target->tasks; j++)
        summary->rank[j] = 2;
    if (status == DIDI_OK)
        status = solve_start_from_mean(target, true, summary, error);
    return status == DIDI_OK ? solve_refine(target, &options, summary, error) : status;
}

static void no_memory_is_told(void **state)
{
    (void)state;
    bool fired = true;
    for (size_t nth = 1; fired; nth += 1 + nth / 40) {
        layer *target = sample_layer(&recipes[0]);
        layer_summary summary = sample_summary(target, DIDI_WEIGHTING_NONE);
        char fault[32];
        didi_error error = {0};
        (void)snprintf(fault, sizeof fault, "alloc:%zu", nth);
        assert_int_equal(fault_arm(fault), 0);
        int status = everything(target, &summary, &error);
        fired = fault_all_fired();
        assert_int_equal(fault_arm(NULL), 0);
        assert_int_equal(status, fired ? DIDI_NO_MEMORY : DIDI_OK);
        summary_clear(&summary);
        layer_free(target);
    }
}

static void a_cancelled_layer_stops(void **state)
{
    (void)state;
    layer *target = sample_layer(&recipes[0]);
    layer_summary summary = sample_summary(target, DIDI_WEIGHTING_NONE);
    atomic_bool cancelled = true;
    solve_limits limits = {6, 6};
    double threshold = 0.01;
    refine_options options = {.optimizer = DIDI_OPTIMIZER_ALS, .steps = 2};
    didi_error error = {0};
    target->cancelled = &cancelled;
    for (size_t j = 0; j <= target->tasks; j++)
        summary.rank[j] = 2;
    assert_int_equal(solve_sketch(target, 5, &summary, &error), DIDI_CANCELLED);
    assert_int_equal(solve_spectra(target, true, &summary, NULL, &error), DIDI_CANCELLED);
    assert_int_equal(solve_start_from_mean(target, true, &summary, &error), DIDI_CANCELLED);
    assert_int_equal(solve_pursue(target, true, &threshold, 1, &limits, &summary, &error),
                     DIDI_CANCELLED);
    assert_int_equal(solve_refine(target, &options, &summary, &error), DIDI_CANCELLED);
    summary_clear(&summary);
    layer_free(target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_balanced_by_layer),
        cmocka_unit_test(queries_and_keys_count_half),
        cmocka_unit_test(vectors_count_by_what_they_act_through),
        cmocka_unit_test(lengths_are_restored),
        cmocka_unit_test(limits_and_memory_grow_with_the_ratio),
        cmocka_unit_test(a_sketch_wide_enough_finds_the_spectrum),
        cmocka_unit_test(exact_spectra_equal_lapack),
        cmocka_unit_test(spectral_losses_equal_losses_of_factors),
        cmocka_unit_test(full_rank_rebuilds_every_task_and_rank_zero_the_base),
        cmocka_unit_test(als_never_rises),
        cmocka_unit_test(no_steps_leave_the_truncated_factors),
        cmocka_unit_test(pursuit_of_strangers_is_no_worse_than_their_own_svds),
        cmocka_unit_test(pursuit_finds_what_tasks_share),
        cmocka_unit_test(no_memory_is_told),
        cmocka_unit_test(a_cancelled_layer_stops),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
