/* SPDX-License-Identifier: Apache-2.0 */
/* A layer read panel by panel gives the bits of one held in memory. */
#include "src/base/fault.h"
#include "src/files/dtype.h"
#include "src/math/random.h"
#include "src/package/reader.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Several panels; several tiles; both; one row a panel would be too few; a single element. */
static const sample_recipe recipes[] = {
    {2300, 70, 2, 2, 3, 1}, {70, 2300, 3, 2, 3, 2},   {40, 15, 4, 3, 2, 6},
    {1, 1, 2, 1, 0, 7},     {2100, 2050, 1, 0, 2, 3}, {130, 66000, 1, 1, 0, 4},
};
/* the large ones take a minute under a sanitizer */
enum { RECIPES = sizeof recipes / sizeof *recipes - (SUPPORT_SANITIZED ? 2 : 0) };

static void must(int status, const didi_error *error)
{
    if (status != DIDI_OK)
        fail_msg("%s: %s", didi_status_name(status), error->message);
}

static void panels_follow_the_shape(void **state)
{
    (void)state;
    assert_int_equal(layer_panel_rows(128256, 4096), 1024);
    assert_int_equal(layer_panel_rows(4096, 14336), 256);
    assert_int_equal(layer_panel_rows(768, 768), 768);
    assert_int_equal(layer_panel_rows(9000, 3), 2048);
    assert_int_equal(layer_panel_rows(4096, 1000000), 64);
    assert_int_equal(layer_panel_rows(3, 1000000), 3);
}

static void check_products(layer *whole, layer *streamed, size_t index, size_t basis)
{
    for (int transpose = 0; transpose < 2; transpose++) {
        size_t inner = transpose ? whole->columns : whole->rows;
        size_t other = transpose ? whole->rows : whole->columns;
        float *in = support_allocate(basis * inner * sizeof *in);
        float *one = support_allocate(basis * other * sizeof *one);
        float *two = support_allocate(basis * other * sizeof *two);
        didi_error error = {0};
        random_normal(index + 1, in, basis * inner, 1);
        must(layer_apply(whole, index, transpose, basis, in, one, &error), &error);
        must(layer_apply(streamed, index, transpose, basis, in, two, &error), &error);
        assert_memory_equal(one, two, basis * other * sizeof *one);
        free(in);
        free(one);
        free(two);
    }
}

static void products_are_the_same(void **state)
{
    (void)state;
    static const double weight[] = {2, 0, 1, 3};
    for (size_t r = 0; r < RECIPES; r++) {
        layer *whole = sample_layer(&recipes[r]);
        layer_set_weights(whole, weight);
        layer *streamed = sample_streamed_layer(whole);
        assert_true(layer_is_streamed(streamed) && !layer_is_streamed(whole));
        assert_memory_equal(whole->energy, streamed->energy, whole->tasks * sizeof(double));
        for (size_t j = 0; j <= whole->tasks; j++)
            check_products(whole, streamed, j, 5);
        layer_free(streamed);
        layer_free(whole);
    }
}

static void take_away(layer *target, size_t rank)
{
    float *b = support_allocate(target->rows * rank * sizeof *b);
    float *a = support_allocate(rank * target->columns * sizeof *a);
    didi_error error = {0};
    random_normal(7, b, target->rows * rank, 1);
    random_normal(8, a, rank * target->columns, 1);
    const addition taken = {target->rows, target->columns, rank, .left = b, .right = a};
    must(layer_take_away(target, &taken, &error), &error);
}

/* Before and after: <tau, x y'> falls by <B A, x y'>. */
static void what_is_taken_away_is_gone(void **state)
{
    (void)state;
    static const double weight[] = {2, 0, 1, 3};
    for (size_t r = 0; r < RECIPES; r++) {
        layer *whole = sample_layer(&recipes[r]);
        layer *streamed = sample_streamed_layer(whole);
        layer *plain = sample_layer(&recipes[r]);
        take_away(streamed, 3);
        take_away(plain, 3);
        layer_set_weights(plain, weight);
        layer_set_weights(streamed, weight);
        assert_memory_equal(plain->energy, streamed->energy, plain->tasks * sizeof(double));
        for (size_t j = 0; j <= plain->tasks; j++)
            check_products(plain, streamed, j, 4);
        size_t count = plain->rows * plain->columns;
        double taken = 0;
        for (size_t k = 0; k < 3; k++) {
            size_t last = plain->rows - 1;
            taken += (double)plain->offset->left[last * 3 + k] *
                     (double)plain->offset->right[(k + 1) * plain->columns - 1];
        }
        sample_assert_near((double)plain->tau[count - 1], (double)whole->tau[count - 1] - taken,
                           1e-4);
        layer_free(streamed);
        layer_free(plain);
        layer_free(whole);
    }
}

static void wide_products_have_several_tiles(void **state)
{
    (void)state;
    static const sample_recipe recipe = {600, 1100, 1, 0, 2, 8};
    layer *whole = sample_layer(&recipe);
    layer *streamed = sample_streamed_layer(whole);
    check_products(whole, streamed, 1, 600);
    layer_free(streamed);
    layer_free(whole);
}

/* Sketch, pursuit, refinement and the package of one layer. */
static solve_package solve(layer *target, layer_summary *summary, didi_optimizer optimizer)
{
    static const double thresholds[] = {1e-2, 1e-3, 1e-4};
    solve_limits limits = {.expert = 6, .shared = 6};
    refine_options options = {
        .optimizer = optimizer, .steps = 3, .learning_rate = 0.01, .tolerance = 0};
    solve_package package = {0};
    didi_error error = {0};
    must(solve_sketch(target, 6, summary, &error), &error);
    must(solve_pursue(target, true, thresholds, 3, &limits, summary, &error), &error);
    for (size_t j = 0; j <= target->tasks; j++)
        summary->rank[j] = j + 1;
    summary->dense[target->tasks] = true;
    summary->rank[target->tasks] = 0;
    must(solve_refine(target, &options, summary, &error), &error);
    must(solve_finish(target, DIDI_PRECISION_BF16, summary, &package, &error), &error);
    return package;
}

static void compare_packages(const layer *shape, const solve_package *one, const solve_package *two)
{
    size_t elements = shape->rows * shape->columns;
    for (size_t j = 0; j <= one->tasks; j++) {
        const solve_factors *f = &one->factors[j];
        assert_int_equal(f->rank, two->factors[j].rank);
        if (f->rank == 0)
            continue;
        assert_memory_equal(f->b, two->factors[j].b, f->rank * shape->rows * sizeof(float));
        assert_memory_equal(f->a, two->factors[j].a, f->rank * shape->columns * sizeof(float));
    }
    assert_memory_equal(one->delta[one->tasks - 1], two->delta[one->tasks - 1],
                        elements * sizeof(float));
}

static void *help(void *argument)
{
    parallel_help(argument, parallel_epoch(argument));
    return NULL;
}

static void solutions_are_the_same(void **state)
{
    int directory = support_directory(state);
    static const sample_recipe wide = {130, 4500, 3, 3, 6, 12};
    static const didi_optimizer optimizers[] = {DIDI_OPTIMIZER_ALS, DIDI_OPTIMIZER_ADAM};
    pthread_t helper;
    parallel *crew = NULL;
    didi_error error = {0};
    must(parallel_create(&crew, &error), &error);
    parallel_enter(crew);
    assert_int_equal(pthread_create(&helper, NULL, help, crew), 0);
    for (size_t i = 0; i < 3; i += SUPPORT_SANITIZED ? 2 : 1) {
        layer *whole = sample_layer(&wide);
        layer *streamed = sample_streamed_layer(whole);
        streamed->parallel = crew;
        streamed->lanes = i;
        streamed->spilled = i > 0;
        streamed->scratch_fd = directory;
        layer_summary one = sample_summary(whole, DIDI_WEIGHTING_NONE);
        layer_summary two = sample_summary(streamed, DIDI_WEIGHTING_NONE);
        solve_package first = solve(whole, &one, optimizers[i % 2]);
        solve_package second = solve(streamed, &two, optimizers[i % 2]);
        compare_packages(whole, &first, &second);
        assert_memory_equal(one.error, two.error, whole->tasks * sizeof(double));
        assert_true(one.loss == two.loss);
        solve_package_clear(&first);
        solve_package_clear(&second);
        summary_clear(&one);
        summary_clear(&two);
        layer_free(streamed);
        layer_free(whole);
    }
    parallel_leave(crew);
    assert_int_equal(pthread_join(helper, NULL), 0);
    parallel_free(crew);
}

static int read_nothing(void *context, uint64_t first, size_t count, float *out, didi_error *error)
{
    size_t *left = context;
    (void)out;
    if (*left == 0)
        return didi_fail(error, DIDI_IO, "file", "%zu at %zu", count, (size_t)first);
    --*left;
    return DIDI_OK;
}

static int add_nothing(void *context, size_t task, uint64_t first, size_t count, const float *base,
                       float *out, didi_error *error)
{
    (void)context;
    (void)task;
    (void)first;
    (void)base;
    (void)error;
    memset(out, 0, count * sizeof *out);
    return DIDI_OK;
}

static void what_cannot_be_read_is_told(void **state)
{
    (void)state;
    enum { ROWS = 2500, COLUMNS = 300 };
    size_t left = 0;
    layer_source source = {.context = &left, .read_base = read_nothing, .read_delta = add_nothing};
    layer *target = NULL;
    didi_error error = {0};
    float *in = support_allocate(ROWS * sizeof *in);
    float *out = support_allocate(ROWS * sizeof *out);
    atomic_bool cancelled = true;
    must(layer_create_streamed(ROWS, COLUMNS, 2, &source, &target, &error), &error);
    for (size_t reads = 0; reads < 6; reads++) { /* five pieces of one panel, two of the other */
        left = reads;
        assert_int_equal(layer_apply(target, 1, true, 1, in, out, &error), DIDI_IO);
        left = reads;
        assert_int_equal(layer_apply(target, 0, false, 1, in, out, &error), DIDI_IO);
        left = reads;
        assert_int_equal(layer_measure(target, &error), DIDI_IO);
        assert_string_equal(error.subject, "file");
    }
    left = 7;
    must(layer_apply(target, 0, false, 1, in, out, &error), &error);
    target->cancelled = &cancelled;
    left = 12;
    assert_int_equal(layer_apply(target, 1, true, 1, in, out, &error), DIDI_CANCELLED);
    assert_int_equal(layer_apply(target, 1, false, 1, in, out, &error), DIDI_CANCELLED);
    assert_int_equal(layer_read_rows(target, 1, 0, 1, out, &error), DIDI_CANCELLED);
    assert_int_equal(layer_measure(target, &error), DIDI_CANCELLED);
    layer_free(target);
    free(in);
    free(out);
}

static void no_memory_is_told(void **state)
{
    (void)state;
    static const sample_recipe recipe = {2100, 30, 2, 1, 1, 5};
    layer *whole = sample_layer(&recipe);
    bool fired = true;
    float *in = support_allocate(2100 * sizeof *in);
    float *out = support_allocate(2100 * sizeof *out);
    for (size_t nth = 1; fired; nth++) {
        layer *target = sample_streamed_layer(whole);
        char fault[32];
        didi_error error = {0};
        (void)snprintf(fault, sizeof fault, "alloc:%zu", nth);
        assert_int_equal(fault_arm(fault), 0);
        int status = layer_apply(target, 0, false, 1, in, out, &error);
        if (status == DIDI_OK)
            status = layer_apply(target, 1, true, 1, in, out, &error);
        if (status == DIDI_OK)
            status = layer_measure(target, &error);
        fired = fault_all_fired();
        (void)fault_arm(NULL);
        assert_int_equal(status, fired ? DIDI_NO_MEMORY : DIDI_OK);
        layer_free(target);
    }
    layer_free(whole);
    free(in);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panels_follow_the_shape),
        cmocka_unit_test(products_are_the_same),
        cmocka_unit_test(what_is_taken_away_is_gone),
        cmocka_unit_test(wide_products_have_several_tiles),
        support_test(solutions_are_the_same),
        cmocka_unit_test(what_cannot_be_read_is_told),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
