/* SPDX-License-Identifier: Apache-2.0 */
/* Whole merges under budgets of bytes and of error: every byte of every file counts. */
#include "src/base/file.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_manifest.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TASKS = 2, PRECISIONS = DIDI_PRECISION_AUTO + 1 };

static uint64_t file_bytes(const sample_family *sample, const char *package, const char *file)
{
    char path[256];
    struct stat found;
    (void)snprintf(path, sizeof path, "%s/%s", package, file);
    assert_int_equal(fstatat(sample->output, path, &found, 0), 0);
    return (uint64_t)found.st_size;
}

static uint64_t package_bytes(const sample_family *sample, const char *package)
{
    uint64_t bytes = file_bytes(sample, package, "shared.safetensors");
    for (size_t t = 0; t < sample->options.task_count; t++) {
        char file[160];
        (void)snprintf(file, sizeof file, "experts/%s.safetensors", sample->inputs[t].name);
        bytes += file_bytes(sample, package, file);
    }
    return bytes;
}

/* Smallest budget by the plan, in the options' unit. */
static double smallest_budget(const sample_family *sample)
{
    didi_merge_options options = sample->options;
    didi_merge *merge = NULL;
    didi_error error = {0};
    options.output_fd = -1;
    options.budget = 100;
    if (options.budget_unit == DIDI_BUDGET_BYTES)
        options.budget = 1e9;
    sample_must(didi_merge_open(&options, NULL, &merge, &error), &error);
    double smallest = didi_merge_plan(merge)->budget_minimum;
    assert_int_equal(didi_merge_plan(merge)->budget_unit, options.budget_unit);
    didi_merge_close(merge);
    return smallest;
}

static void remove_package(const sample_family *sample)
{
    didi_error error = {0};
    sample_must(file_remove_tree(sample->output, "package", &error), &error);
}

static uint64_t base_bytes(const sample_family *sample)
{
    struct stat found;
    assert_int_equal(fstatat(sample->base, "model.safetensors", &found, 0), 0);
    return (uint64_t)found.st_size;
}

/* Merges under the options' budget and checks it to the byte; returns the error. */
static double check_merge(sample_family *sample, uint64_t *ret_bytes)
{
    didi_error error = {0};
    double ceiling = sample->options.budget;
    if (sample->options.budget_unit == DIDI_BUDGET_BYTES_RATIO)
        ceiling *= (double)base_bytes(sample);
    else if (sample->options.budget_unit == DIDI_BUDGET_PARAMETERS)
        ceiling *= 2 * SAMPLE_PARAMETERS;
    sample_must(sample_merge(&sample->options, 1, 0, &error), &error);
    uint64_t bytes = package_bytes(sample, "package");
    json_t *manifest = sample_manifest(sample, "package");
    assert_true((double)bytes <= ceiling);
    sample_assert_near(sample_number(manifest, "budget", "bytes"), (double)bytes, 0);
    sample_assert_near(sample_number(manifest, "budget", "bytes_ratio"),
                       (double)bytes / (double)base_bytes(sample), 1e-8);
    double relative = sample_number(manifest, "error", "relative");
    assert_true(relative >= 0 && relative <= 1 + 1e-6);
    json_decref(manifest);
    remove_package(sample);
    *ret_bytes = bytes;
    return relative;
}

static void every_byte_is_counted(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (int precision = 0; precision < PRECISIONS; precision += SUPPORT_SANITIZED ? 2 : 1)
        for (int allocator = 0; allocator < 5; allocator++)
            for (int unit = DIDI_BUDGET_BYTES; unit <= DIDI_BUDGET_BYTES_RATIO; unit++) {
                bool greedy = allocator != DIDI_ALLOCATOR_UNIFORM &&
                              allocator != DIDI_ALLOCATOR_DIFFERENTIABLE;
                if (precision == DIDI_PRECISION_AUTO && !greedy)
                    continue;
                sample.options.precision = (didi_precision)precision;
                sample.options.allocator = (didi_allocator)allocator;
                sample.options.budget_unit = (didi_budget_unit)unit;
                sample.options.rank_steps = 20;
                double smallest = smallest_budget(&sample);
                double last = INFINITY;
                for (double factor = 1; factor < 9; factor *= SUPPORT_SANITIZED ? 8 : 2) {
                    uint64_t bytes = 0;
                    sample.options.budget = ceil(smallest * factor * 1e6) / 1e6;
                    double relative = check_merge(&sample, &bytes);
                    assert_true(relative <= last * 1.05 + 1e-3);
                    last = relative;
                }
                assert_true(last < 0.7);
            }
    sample_family_close(&sample);
}

static void parameters_of_auto_are_of_two_bytes(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.precision = DIDI_PRECISION_AUTO;
    double smallest = smallest_budget(&sample);
    for (double factor = 1; factor < 3; factor *= 1.3) {
        uint64_t bytes = 0;
        sample.options.budget = smallest * factor;
        check_merge(&sample, &bytes);
    }
    sample_family_close(&sample);
}

static void every_form_of_dense_tensors_is_counted(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.budget_unit = DIDI_BUDGET_BYTES;
    for (int precision = 0; precision < PRECISIONS; precision += SUPPORT_SANITIZED ? 3 : 1)
        for (int dense = DIDI_DENSE_PER_TASK; dense <= DIDI_DENSE_AUTO; dense++)
            for (int shared = 0; shared < 2; shared++) {
                uint64_t bytes = 0;
                sample.options.precision = (didi_precision)precision;
                sample.options.dense = (didi_dense)dense;
                sample.options.shared_merge = (didi_shared_merge)shared;
                sample.options.budget = smallest_budget(&sample);
                check_merge(&sample, &bytes);
                sample.options.budget *= 2;
                check_merge(&sample, &bytes);
                sample.options.budget = 1e8;
                double relative = check_merge(&sample, &bytes);
                assert_true(relative < (precision == DIDI_PRECISION_INT3 ? 0.05 : 0.02));
            }
    sample_family_close(&sample);
}

static void a_single_task_works_in_every_precision(void **state)
{
    static const char *const matrices[] = {"wide", "a.weight"};
    sample_family sample;
    sample_family_create(&sample, support_directory(state), 1);
    sample.options.budget_unit = DIDI_BUDGET_BYTES;
    sample.options.include = matrices; /* one row alone, too */
    sample.options.low_rank_tensors = matrices;
    sample.options.low_rank_tensor_count = 2;
    for (size_t included = 1; included <= 2; included++)
        for (int precision = 0; precision < PRECISIONS; precision++) {
            uint64_t bytes = 0;
            sample.options.include_count = included;
            sample.options.precision = (didi_precision)precision;
            sample.options.budget = smallest_budget(&sample);
            check_merge(&sample, &bytes);
            sample.options.budget = 1e6;
            check_merge(&sample, &bytes);
        }
    sample_family_close(&sample);
}

static void a_budget_too_small_names_one_that_works(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (int precision = 0; precision < PRECISIONS; precision++) {
        didi_merge *merge = NULL;
        didi_error error = {0};
        double named = 0;
        uint64_t bytes = 0;
        sample.options.precision = (didi_precision)precision;
        sample.options.budget_unit = DIDI_BUDGET_BYTES;
        sample.options.budget = 10;
        assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_BUDGET);
        assert_string_equal(error.subject, "/budget/bytes");
        const char *at = strstr(error.message, "below the ");
        assert_non_null(at);
        sample.options.budget = strtod(at + strlen("below the "), NULL);
        check_merge(&sample, &bytes);
        sample.options.budget_unit = DIDI_BUDGET_BYTES_RATIO;
        sample.options.budget = 0.001;
        assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_BUDGET);
        assert_string_equal(error.subject, "/budget/bytes_ratio");
        at = strstr(error.message, "(bytes_ratio ");
        assert_non_null(at);
        named = strtod(at + strlen("(bytes_ratio "), NULL);
        sample.options.budget = named;
        check_merge(&sample, &bytes);
    }
    sample_family_close(&sample);
}

/* ---- the error asked for ---- */

static void errors_asked_for_are_met(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.budget_unit = DIDI_BUDGET_MAX_ERROR;
    for (int precision = 0; precision < PRECISIONS; precision++) {
        uint64_t last = UINT64_MAX;
        sample.options.precision = (didi_precision)precision;
        for (double wanted = 0.05; wanted < 1.1; wanted *= 2) {
            didi_error error = {0};
            sample.options.budget = wanted < 1 ? wanted : 1;
            sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
            json_t *manifest = sample_manifest(&sample, "package");
            assert_true(sample_number(manifest, "error", "relative") <= sample.options.budget);
            json_decref(manifest);
            uint64_t bytes = package_bytes(&sample, "package");
            assert_true(bytes <= last);
            last = bytes;
            remove_package(&sample);
        }
    }
    sample_family_close(&sample);
}

static void the_smallest_error_can_be_asked_for(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (int precision = 0; precision < PRECISIONS; precision++) {
        didi_merge *merge = NULL;
        didi_error error = {0};
        sample.options.precision = (didi_precision)precision;
        sample.options.budget_unit = DIDI_BUDGET_MAX_ERROR;
        sample.options.budget = 1e-15;
        assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_BUDGET);
        assert_string_equal(error.subject, "/budget/max_error");
        const char *at = strstr(error.message, "about ");
        assert_non_null(at);
        sample.options.budget = strtod(at + strlen("about "), NULL);
        sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
        json_t *manifest = sample_manifest(&sample, "package");
        assert_true(sample_number(manifest, "error", "relative") <= sample.options.budget);
        json_decref(manifest);
        remove_package(&sample);
    }
    sample_family_close(&sample);
}

/* Stopped after any number of items, in any pass, it goes on to the same bytes. */
static void passes_go_on_where_they_stopped(void **state)
{
    sample_family sample;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.budget_unit = DIDI_BUDGET_MAX_ERROR;
    sample.options.budget = 0.2;
    sample.options.precision = DIDI_PRECISION_AUTO;
    sample.options.output_name = "whole";
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    sample.options.output_name = "threads";
    sample_must(sample_merge(&sample.options, 4, 0, &error), &error);
    sample_package_compare(&sample, "whole", "threads");
    sample.options.output_name = "package";
    for (size_t items = 1;; items += 3) {
        sample_merge_partly(&sample.options, items);
        if (support_exists(sample.output, "package"))
            break;
        sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
        sample_package_compare(&sample, "whole", "package");
        remove_package(&sample);
    }
    sample_package_compare(&sample, "whole", "package");
    sample_family_close(&sample);
}

static void packages_in_bytes_do_not_depend_on_threads(void **state)
{
    sample_family sample;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.budget_unit = DIDI_BUDGET_BYTES_RATIO;
    sample.options.budget = 1.5;
    for (int precision = DIDI_PRECISION_INT8; precision < PRECISIONS; precision++) {
        sample.options.precision = (didi_precision)precision;
        sample.options.output_name = "package";
        sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
        sample.options.output_name = "threads";
        sample_must(sample_merge(&sample.options, 4, 0, &error), &error);
        sample_package_compare(&sample, "package", "threads");
        remove_package(&sample);
        sample_must(file_remove_tree(sample.output, "threads", &error), &error);
    }
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(every_byte_is_counted),
        support_test(parameters_of_auto_are_of_two_bytes),
        support_test(every_form_of_dense_tensors_is_counted),
        support_test(a_single_task_works_in_every_precision),
        support_test(a_budget_too_small_names_one_that_works),
        support_test(errors_asked_for_are_met),
        support_test(the_smallest_error_can_be_asked_for),
        support_test(passes_go_on_where_they_stopped),
        support_test(packages_in_bytes_do_not_depend_on_threads),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
