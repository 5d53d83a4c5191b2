/* SPDX-License-Identifier: Apache-2.0 */
/* Figures without data: by hand, and beside what other readers find of whole merges. */
#include "src/package/proxies.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS = 2, COLUMNS = 3, NUMBERS = ROWS * COLUMNS };

static const uint64_t shape[2] = {ROWS, COLUMNS};

/* Tensors "a" and "b", filled with numbers of their own. */
typedef struct pair {
    float a[NUMBERS], b[NUMBERS];
} pair;

static void fill(void *context, size_t tensor, float *values, size_t count)
{
    const pair *self = context;
    memcpy(values, tensor == 0 ? self->a : self->b, count * sizeof *values);
}

static void must_be_near(double found, double wanted, double within)
{
    if (!(fabs(found - wanted) <= within))
        fail_msg("%.17g is not %.17g", found, wanted);
}

static int write_pair(int root, const char *directory, const char *suffix, const pair *numbers)
{
    char names[2][16];
    int fd = -1;
    didi_error error = {0};
    pair copy = *numbers;
    for (int i = 0; i < 2; i++)
        snprintf(names[i], sizeof names[i], "%c%s", "ab"[i], suffix);
    const safetensors_layout_entry entries[] = {{names[0], DIDI_DTYPE_F32, 2, shape},
                                                {names[1], DIDI_DTYPE_F32, 2, shape}};
    sample_must(file_open_directory(root, directory, 1, &fd, &error), &error);
    sample_tensors_write(fd, entries, 2, fill, &copy);
    return fd;
}

/* A package that adds these deltas for a task "t"; the base is zero. */
static void measure(void **state, const pair *added, const pair *fine_tune, proxies *ret_proxies)
{
    const pair zero = {{0}, {0}};
    int root = support_directory(state);
    int fds[] = {write_pair(root, "base", "", &zero), write_pair(root, "tuned", "", fine_tune),
                 write_pair(root, "package", ".delta", added),
                 write_pair(root, "experts", ".delta", &zero)};
    checkpoint *base = NULL;
    checkpoint *tuned = NULL;
    didi_error error = {0};
    (void)mkdirat(fds[2], "experts", 0700);
    sample_must(file_rename(fds[2], "model.safetensors", fds[2], "shared.safetensors", &error),
                &error);
    sample_must(file_rename(fds[3], "model.safetensors", fds[2], "experts/t.safetensors", &error),
                &error);
    sample_must(checkpoint_open(fds[0], "base", &base, &error), &error);
    sample_must(checkpoint_open(fds[1], "tuned", &tuned, &error), &error);
    sample_must(proxies_measure(&(proxies_request){fds[2], "t", base, tuned}, NULL, NULL,
                                ret_proxies, &error),
                &error);
    checkpoint_close(base);
    checkpoint_close(tuned);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
}

static void figures_are_those_of_their_definitions(void **state)
{
    static const pair tuned = {{3, 0, 0, 0, 0, 0}, {0, 4, 0, 0, 0, 0}};
    static const struct {
        pair added;
        double cosine, length, error, worst_error;
        const char *worst;
    } cases[] = {
        {{{3, 0, 0, 0, 0, 0}, {0, 4, 0, 0, 0, 0}}, 1, 1, 0, 0, "a"},
        {{{9, 0, 0, 0, 0, 0}, {0, 12, 0, 0, 0, 0}}, 1, 3, 4, 4, "a"},
        {{{3, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}}, 0.6, 0.6, 16.0 / 25, 1, "b"},
        {{{0, 0, 0, 0, 0, 5}, {0, 0, 0, 0, 0, 0}}, 0, 1, 2, 34.0 / 9, "a"},
        {{{-3, 0, 0, 0, 0, 0}, {0, -4, 0, 0, 0, 0}}, -1, 1, 4, 4, "a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        proxies found = {0};
        measure(state, &cases[i].added, &tuned, &found);
        must_be_near(found.cosine, cases[i].cosine, 1e-12);
        must_be_near(found.length, cases[i].length, 1e-12);
        must_be_near(found.error, cases[i].error, 1e-12);
        must_be_near(found.worst_error, cases[i].worst_error, 1e-12);
        assert_string_equal(found.worst, cases[i].worst);
    }
}

static void what_did_not_move_has_no_figures(void **state)
{
    static const pair still = {{0}, {0}};
    static const pair added = {{1, 0, 0, 0, 0, 0}, {0}};
    proxies found = {0};
    measure(state, &added, &still, &found);
    assert_true(isnan(found.cosine) && isnan(found.error) && isnan(found.worst_error));
    assert_string_equal(found.worst, "");
    measure(state, &still, &added, &found);
    assert_true(isnan(found.cosine));
    must_be_near(found.error, 1, 1e-12);
}

static int stop(void *context)
{
    (void)context;
    return 1;
}

static void a_merge_has_the_error_that_others_find(void **state)
{
    sample_family sample;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), 3);
    sample.options.method = "task_arithmetic";
    sample.options.budget = 0;
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    int package = openat(sample.output, "package", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    checkpoint *base = NULL;
    sample_must(checkpoint_open(sample.base, "base", &base, &error), &error);
    for (size_t t = 0; t < 3; t++) {
        checkpoint *tuned = NULL;
        proxies found = {0};
        const char *task = sample.inputs[t].name;
        sample_must(checkpoint_open(sample.models[t], "tuned", &tuned, &error), &error);
        sample_must(proxies_measure(&(proxies_request){package, task, base, tuned}, NULL, NULL,
                                    &found, &error),
                    &error);
        double wanted = sample_package_error(&sample, "package", t, NULL);
        must_be_near(found.error, wanted, 1e-5 * (1 + wanted));
        assert_true(found.cosine > 0 && found.cosine < 1);
        assert_true(found.worst_error >= found.error);
        assert_int_equal(proxies_measure(&(proxies_request){package, task, base, tuned}, stop, NULL,
                                         &found, &error),
                         DIDI_CANCELLED);
        checkpoint_close(tuned);
    }
    proxies found = {0};
    assert_int_equal(proxies_measure(&(proxies_request){package, "none", base, base}, NULL, NULL,
                                     &found, &error),
                     DIDI_NOT_FOUND);
    checkpoint_close(base);
    close(package);
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(figures_are_those_of_their_definitions),
        support_test(what_did_not_move_has_no_figures),
        support_test(a_merge_has_the_error_that_others_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
