/* SPDX-License-Identifier: Apache-2.0 */
/* Packed layers: what is measured is what is stored, and each block makes good what those before it
 * lost to rounding. */
#include "src/package/packed.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { M = 12, N = 90, TASKS = 3 };
static const sample_recipe recipe = {M, N, TASKS, 3, M, 21};

static unsigned width_of(unsigned bits)
{
    unsigned width = 0;
    while (precision_width_bits[width] != bits)
        width++;
    return width;
}

/* A refined layer at these ranks, everything of a block at one width. */
static layer *refined(layer_summary *summary, const size_t ranks[2], const unsigned bits[2])
{
    layer *target = sample_layer(&recipe);
    didi_error error = {0};
    const refine_options options = {.optimizer = DIDI_OPTIMIZER_ALS, .steps = 12};
    *summary = sample_summary(target, DIDI_WEIGHTING_NONE);
    for (size_t j = 0; j <= TASKS; j++) {
        summary->rank[j] = ranks[j > 0];
        summary->components[j][width_of(bits[j > 0])] = ranks[j > 0];
    }
    sample_must(solve_start_from_mean(target, true, summary, &error), &error);
    sample_must(solve_refine(target, &options, summary, &error), &error);
    return target;
}

/* |S + E_t - tau_t|^2 by the packed bytes alone. */
static double stored_error(const layer *target, const solve_package *package, size_t task)
{
    float sum[M * N] = {0};
    double lost = 0;
    didi_error error = {0};
    for (size_t part = 0; part < 2; part++) {
        size_t index = part == 0 ? 0 : task + 1;
        packed found;
        if (package->packed[index] == NULL)
            continue;
        sample_must(packed_parse(package->packed[index], package->packed_bytes[index], M, N, "x",
                                 &found, &error),
                    &error);
        sample_must(packed_add(&found, 0, M, sum, &error), &error);
    }
    for (size_t i = 0; i < (size_t)M * N; i++) {
        double miss = (double)sum[i] - (double)target->tau[task * M * N + i];
        lost += miss * miss;
    }
    return lost;
}

static double all_energy(const layer *target)
{
    double energy = 0;
    for (size_t t = 0; t < TASKS; t++)
        energy += target->energy[t];
    return energy;
}

/* Finishes a layer and checks the measured errors; returns their sum over the energy. */
static double finish(layer *target, layer_summary *summary)
{
    solve_package package;
    didi_error error = {0};
    double sum = 0;
    double energy = all_energy(target);
    sample_must(solve_finish(target, DIDI_PRECISION_AUTO, summary, &package, &error), &error);
    for (size_t t = 0; t < TASKS; t++) {
        sample_assert_near(summary->error[t], stored_error(target, &package, t), 2e-6 * energy);
        sum += summary->error[t];
    }
    solve_package_clear(&package);
    summary_clear(summary);
    layer_free(target);
    return sum / energy;
}

static void errors_fall_with_bits(void **state)
{
    (void)state;
    static const size_t ranks[2] = {3, 6};
    double last = INFINITY;
    double first = 0;
    for (unsigned bits = 1; bits <= 8; bits++) {
        layer_summary summary;
        const unsigned both[2] = {bits, bits};
        layer *target = refined(&summary, ranks, both);
        double unrounded = summary.loss / all_energy(target);
        double error = finish(target, &summary);
        assert_true(error > 0.97 * unrounded); /* the refit lowers it a little */
        assert_true(error < last);
        /* About what is predicted is lost of what the blocks hold. */
        double lost = 1 - precision_kept_factors(bits);
        assert_true(error - unrounded < 1.5 * lost * (1 - unrounded) + 1e-5);
        first = bits == 1 ? error : first;
        last = error;
    }
    assert_true(last < 0.6 * first);
}

/* Experts of full rank stand for anything: coarse shared factors cost nothing but their own
 * rounding. */
static void experts_make_good_what_shared_lost(void **state)
{
    (void)state;
    static const size_t ranks[2] = {3, M};
    static const unsigned fine[2] = {8, 8};
    static const unsigned coarse[2] = {1, 8};
    layer_summary summary;
    layer *target = refined(&summary, ranks, fine);
    assert_true(finish(target, &summary) < 1e-3);
    target = refined(&summary, ranks, coarse);
    assert_true(finish(target, &summary) < 1e-3);
}

static void components_have_the_widths_allocated(void **state)
{
    (void)state;
    static const size_t ranks[2] = {3, 6};
    static const unsigned bits[2] = {4, 2};
    layer_summary summary;
    solve_package package;
    didi_error error = {0};
    layer *target = refined(&summary, ranks, bits);
    memset(summary.components[1], 0, sizeof summary.components[1]);
    summary.components[1][width_of(5)] = 1;
    summary.components[1][width_of(3)] = 4;
    summary.components[1][width_of(1)] = 1;
    sample_must(solve_finish(target, DIDI_PRECISION_AUTO, &summary, &package, &error), &error);
    packed found;
    sample_must(packed_parse(package.packed[1], package.packed_bytes[1], M, N, "x", &found, &error),
                &error);
    assert_true(found.segment_count == 3 && found.rank == 6);
    assert_true(found.segments[0].bits == 5 && found.segments[0].components == 1);
    assert_true(found.segments[1].bits == 3 && found.segments[1].components == 4);
    assert_true(found.segments[2].bits == 1 && found.segments[2].components == 1);
    assert_int_equal(package.factors[1].rank, 6);
    solve_package_clear(&package);
    summary_clear(&summary);
    layer_free(target);
}

static void dense_experts_are_packed_on_what_shared_leaves(void **state)
{
    (void)state;
    static const size_t ranks[2] = {3, 6};
    static const unsigned bits[2] = {2, 8};
    double last = INFINITY;
    for (unsigned width = 1; width <= 8; width++) {
        layer_summary summary;
        layer *target = refined(&summary, ranks, bits);
        for (size_t t = 1; t <= TASKS; t++) {
            memset(summary.components[t], 0, sizeof summary.components[t]);
            summary.rank[t] = 0;
            summary.dense[t] = true;
            summary.dense_bits[t] = width;
        }
        double error = finish(target, &summary);
        assert_true(error < last);
        last = error;
    }
    assert_true(last < 1e-3);
}

static void a_layer_without_factors_is_packed_as_nothing(void **state)
{
    (void)state;
    static const size_t ranks[2] = {0, 0};
    static const unsigned bits[2] = {4, 4};
    layer_summary summary;
    layer *target = refined(&summary, ranks, bits);
    sample_assert_near(finish(target, &summary), 1, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_fall_with_bits),
        cmocka_unit_test(experts_make_good_what_shared_lost),
        cmocka_unit_test(components_have_the_widths_allocated),
        cmocka_unit_test(dense_experts_are_packed_on_what_shared_leaves),
        cmocka_unit_test(a_layer_without_factors_is_packed_as_nothing),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
