/* SPDX-License-Identifier: Apache-2.0 */
/* What opening a merge refuses, and what its plan says from headers alone. */
#include "src/base/file.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TASKS = 3 };

/* Opens (and for errors of a later stage runs) a merge that must fail like this. */
static void check_refused(sample_family *sample, bool run, int wanted, const char *subject,
                          const char *message)
{
    didi_merge *merge = NULL;
    didi_error error = {0};
    sample_must(file_remove_contents(sample->work, &error), &error);
    int status = run ? sample_merge(&sample->options, 2, 0, &error)
                     : didi_merge_open(&sample->options, NULL, &merge, &error);
    if (status != wanted)
        fail_msg("%s, not %s: %s", didi_status_name(status), didi_status_name(wanted),
                 error.message);
    assert_null(merge);
    support_assert_contains(error.subject, subject);
    support_assert_contains(error.message, message);
    assert_int_equal(support_entries(sample->output), 0);
}

static void check_number(sample_family *sample, double *option, double bad, const char *subject)
{
    double old = *option;
    *option = bad;
    check_refused(sample, false, DIDI_INVALID, subject, strrchr(subject, '/') + 1);
    *option = old;
}

static void numbers_out_of_range_are_refused(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    didi_merge_options *options = &sample.options;
    static const double bad[] = {-1, NAN, INFINITY, -INFINITY, 1e300};
    for (size_t i = 0; i < 5; i++) {
        check_number(&sample, &options->budget, bad[i], "/budget");
        check_number(&sample, &options->beta, bad[i], "/ranks/beta");
        check_number(&sample, &options->lambda, bad[i], "/ranks/lambda");
        check_number(&sample, &options->rank_learning_rate, bad[i], "/ranks/learning_rate");
        check_number(&sample, &options->refine_learning_rate, bad[i], "/refine/learning_rate");
        check_number(&sample, &options->tolerance, bad[i], "/refine/tolerance");
        check_number(&sample, &sample.inputs[1].weight, bad[i], "/tasks/1/weight");
    }
    check_number(&sample, &options->budget, 0, "/budget");
    check_number(&sample, &sample.inputs[0].weight, 0, "/tasks/0/weight");
    options->rank_steps = SIZE_MAX;
    check_refused(&sample, false, DIDI_INVALID, "/ranks/steps", "at most 100000");
    sample_family_close(&sample);
}

static void names_and_dtypes_are_checked(void **state)
{
    static const char *const names[] = {"", ".", "..", ".t", "a/b", "a b", "t1"};
    sample_family sample;
    char longest[200];
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t i = 0; i < 7; i++) {
        sample.inputs[2].name = names[i];
        check_refused(&sample, false, DIDI_INVALID, "/tasks/2/name",
                      i < 6 ? "a task name is" : "'t1' is named twice");
    }
    memset(longest, 'x', sizeof longest);
    longest[129] = '\0';
    sample.inputs[2].name = longest;
    check_refused(&sample, false, DIDI_INVALID, "/tasks/2/name", "1 to 128");
    sample.inputs[2].name = "t2";
    sample.options.precision = (didi_precision)99;
    check_refused(&sample, false, DIDI_INVALID, "/output/dtype", "bf16");
    sample.options.precision = DIDI_PRECISION_F32;
    sample.options.output_name = "../x";
    check_refused(&sample, false, DIDI_INVALID, "output_name", "plain");
    sample.options.output_name = "package";
    sample.options.task_count = 0;
    check_refused(&sample, false, DIDI_INVALID, "/tasks", "at least one task");
    sample.options.task_count = TASKS;
    sample_family_close(&sample);
}

static void every_difference_is_named(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.own_tensors = DIDI_OWN_REFUSE;
    sample_model_write(sample.models[1], &(sample_model){.seed = 5, .omit = "bias"});
    check_refused(&sample, false, DIDI_MISMATCH, "lab/t1", "'bias' in lab/t1: missing");
    sample_model_write(sample.models[1], &(sample_model){.seed = 5, .extra = true});
    check_refused(&sample, false, DIDI_MISMATCH, "lab/t1", "'zzz' in lab/t1: not in the base");
    sample_model_write(sample.models[1], &(sample_model){.seed = 5, .turn = "b.weight"});
    check_refused(&sample, false, DIDI_MISMATCH, "lab/t1",
                  "'b.weight' in lab/t1: F32 [40, 12], the base has F32 [12, 40]");
    sample_model_write(sample.models[2], &(sample_model){.seed = 6, .omit = "conv", .extra = true});
    check_refused(&sample, false, DIDI_MISMATCH, "lab/t1", "3 differences");
    check_refused(&sample, false, DIDI_MISMATCH, "lab/t1", "'conv' in lab/t2: missing");
    sample_model_write(sample.base, &(sample_model){.omit = "bias"});
    check_refused(&sample, false, DIDI_MISMATCH, "lab/t0", "'bias' in lab/t0: not in the base");
    sample_family_close(&sample);
}

static void values_that_cannot_be_merged_are_named(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.own_tensors = DIDI_OWN_REFUSE;
    sample_model_write(sample.models[2], &(sample_model){.seed = 5, .steps = 1});
    check_refused(&sample, true, DIDI_MISMATCH, "lab/t2", "'steps'");
    sample_model_write(sample.models[2], &(sample_model){0});
    check_refused(&sample, true, DIDI_MISMATCH, "lab/t2", "identical to the base lab/base");
    static const char *const tensors[] = {"a.weight", "bias", "conv", "embed.weight"};
    for (size_t i = 0; i < 4; i++) {
        sample_model bad = {
            .seed = 5, .poke = tensors[i], .poke_value = i % 2 == 0 ? NAN : INFINITY};
        char wanted[128];
        (void)snprintf(wanted, sizeof wanted,
                       "tensor '%s' of model lab/t2 holds NaN or Inf at element 1", tensors[i]);
        sample_model_write(sample.models[2], &bad);
        check_refused(&sample, true, DIDI_NUMERIC, "lab/t2", wanted);
    }
    sample_model_write(sample.models[2], &(sample_model){.seed = 5});
    sample_model_write(sample.base, &(sample_model){.poke = "b.weight", .poke_value = NAN});
    check_refused(&sample, true, DIDI_NUMERIC, "lab/base", "'b.weight' of model lab/base");
    sample_family_close(&sample);
}

static void nothing_to_merge_is_refused(void **state)
{
    static const char *const none[] = {"steps"};
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.include = none;
    sample.options.include_count = 1;
    check_refused(&sample, false, DIDI_INVALID, "include", "no floating-point tensor");
    sample_family_close(&sample);
}

/* What is refused names a figure, and that figure then works. */
static void budgets_too_small_name_the_smallest(void **state)
{
    sample_family sample;
    didi_merge *merge = NULL;
    didi_error error = {0};
    double smallest = 0;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.budget = 0.01;
    check_refused(&sample, false, DIDI_BUDGET, "/budget", "is below the ");
    assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_BUDGET);
    assert_int_equal(sscanf(strstr(error.message, "the "), "the %lf", &smallest), 1);
    sample.options.budget = smallest;
    sample_must(didi_merge_open(&sample.options, NULL, &merge, &error), &error);
    sample_assert_near(didi_merge_plan(merge)->budget_minimum, smallest, 1e-3);
    didi_merge_close(merge);
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    assert_true((double)sample_package_parameters(&sample, "package") / SAMPLE_PARAMETERS <=
                smallest);
    sample_family_close(&sample);
}

static void memory_limits_too_small_name_the_bytes(void **state)
{
    sample_family sample;
    didi_merge *merge = NULL;
    didi_error error = {0};
    unsigned long long needed = 0;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.memory_limit = 1000;
    check_refused(&sample, false, DIDI_MEMORY_LIMIT, "memory_limit", "is 1000 bytes");
    assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_MEMORY_LIMIT);
    const char *figure = strstr(error.message, "needs ");
    assert_non_null(figure);
    assert_int_equal(sscanf(figure, "needs %llu", &needed), 1);
    sample.options.memory_limit = needed - 1;
    check_refused(&sample, false, DIDI_MEMORY_LIMIT, "memory_limit", "needs");
    sample.options.memory_limit = needed;
    sample_must(sample_merge(&sample.options, 3, 0, &error), &error);
    sample_family_close(&sample);
}

static void a_plan_counts_what_headers_tell(void **state)
{
    sample_family sample;
    didi_merge *merge = NULL;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.output_fd = sample.options.work_fd = -1;
    sample.options.dense = DIDI_DENSE_PER_TASK;
    sample_must(didi_merge_open(&sample.options, NULL, &merge, &error), &error);
    const didi_plan *plan = didi_merge_plan(merge);
    assert_true(plan->tasks == TASKS && plan->parameters == SAMPLE_PARAMETERS);
    assert_int_equal(plan->dense_parameters, TASKS * SAMPLE_DENSE);
    assert_int_equal(plan->factor_parameters, 1390 - TASKS * SAMPLE_DENSE); /* 1.4 * 993 */
    assert_int_equal(plan->layer_count, 3);
    assert_int_equal(plan->dense_count, 4);
    assert_int_equal(plan->passthrough_count, 2);
    assert_int_equal(plan->excluded_count, 0);
    static const char *const names[] = {"a.weight", "b.weight", "conv"};
    static const uint64_t shapes[][3] = {{24, 16, 9}, {12, 40, 9}, {6, 12, 3}};
    for (size_t l = 0; l < 3; l++) {
        const didi_plan_layer *row = &plan->layers[l];
        assert_string_equal(row->tensor, names[l]);
        assert_true(row->rows == shapes[l][0] && row->columns == shapes[l][1] &&
                    row->rank_limit == shapes[l][2]);
    }
    sample_assert_near(plan->budget_minimum, (TASKS * SAMPLE_DENSE + 18.0) / SAMPLE_PARAMETERS,
                       1e-12);
    assert_true(plan->memory_peak_bytes >= plan->memory_minimum_bytes && plan->flops > 0);
    assert_true(plan->artifact_bytes > 1390 * 4 && plan->disk_bytes > plan->artifact_bytes);
    didi_merge_close(merge);
    didi_merge_close(NULL);
    sample_family_close(&sample);
}

static void globs_sort_the_tensors(void **state)
{
    static const char *const exclude[] = {"conv", "one"};
    static const char *const dense[] = {"a.*"};
    static const char *const low_rank[] = {"*embed*"};
    sample_family sample;
    didi_merge *merge = NULL;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), 1);
    sample.options.exclude = exclude;
    sample.options.exclude_count = 2;
    sample.options.dense_tensors = dense;
    sample.options.dense_tensor_count = 1;
    sample.options.low_rank_tensors = low_rank;
    sample.options.low_rank_tensor_count = 1;
    sample_must(didi_merge_open(&sample.options, NULL, &merge, &error), &error);
    const didi_plan *plan = didi_merge_plan(merge);
    assert_int_equal(plan->parameters, SAMPLE_PARAMETERS - 72 - 1);
    assert_int_equal(plan->excluded_count, 2);
    assert_int_equal(plan->layer_count, 2);
    assert_string_equal(plan->layers[1].tensor, "embed.weight");
    assert_int_equal(plan->dense_parameters, 24 * 16 + 24 + 8);
    didi_merge_close(merge);
    sample_family_close(&sample);
}

static void models_that_are_not_there_are_named(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.inputs[1].directory_fd = sample.output; /* no model in it */
    check_refused(&sample, false, DIDI_NOT_FOUND, "lab/t1", "model.safetensors");
    support_write(sample.models[2], "model.safetensors", "short", 5);
    sample.inputs[1].directory_fd = sample.models[1];
    check_refused(&sample, false, DIDI_FORMAT, "lab/t2", "");
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(numbers_out_of_range_are_refused),
        support_test(names_and_dtypes_are_checked),
        support_test(every_difference_is_named),
        support_test(values_that_cannot_be_merged_are_named),
        support_test(nothing_to_merge_is_refused),
        support_test(budgets_too_small_name_the_smallest),
        support_test(memory_limits_too_small_name_the_bytes),
        support_test(a_plan_counts_what_headers_tell),
        support_test(globs_sort_the_tensors),
        support_test(models_that_are_not_there_are_named),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
