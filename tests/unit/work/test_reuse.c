/* SPDX-License-Identifier: Apache-2.0 */
/* A merge that starts from what an earlier one of the same inputs kept. */
#include "src/base/file.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TASKS = 3 };

/* Matrices this small have little in common with what was kept for another budget, and a fresh
 * merge at a large budget is swept longer; real families come closer (docs/experiments.md). */
#define CLOSE 1.2

/* Merges into "first", whose spectra are then in the directory `kept`. */
static void keep_first(sample_family *sample, int root, int *ret_kept)
{
    didi_error error = {0};
    uint64_t bytes = 0;
    sample->options.keep_work = true;
    sample->options.output_name = "first";
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    sample_must(didi_reuse_seal(sample->work, &bytes, &error), &error);
    assert_true(bytes > 1000);
    assert_int_equal(renameat(root, "work", root, "kept"), 0);
    sample_must(file_open_directory(root, "kept", 0, ret_kept, &error), &error);
    close(sample->work);
    sample_must(file_open_directory(root, "work", 1, &sample->work, &error), &error);
    sample->options.work_fd = sample->work;
    sample->options.output_name = "package";
}

/* A family with a finished merge "first". */
static void prepare(sample_family *sample, int root, didi_allocator allocator, int *ret_kept)
{
    sample_family_create(sample, root, TASKS);
    sample->options.allocator = allocator;
    sample->options.rank_steps = 5;
    keep_first(sample, root, ret_kept);
}

static void finish(sample_family *sample, int kept)
{
    sample_family_close(sample);
    close(kept);
}

static double merged_error(const sample_family *sample, const char *name)
{
    double sum = 0;
    for (size_t t = 0; t < TASKS; t++)
        sum += sample_package_error(sample, name, t, NULL);
    return sum / TASKS;
}

/* The same options, started afresh and from the kept spectra. */
static void compare_with_fresh(sample_family *sample, int kept, double slack)
{
    didi_error error = {0};
    sample->options.reuse_fd = -1;
    sample->options.output_name = "fresh";
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    sample->options.reuse_fd = kept;
    sample->options.output_name = "package";
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    double fresh = merged_error(sample, "fresh");
    double warm = merged_error(sample, "package");
    assert_true(warm < fresh * slack + 1e-9);
    assert_in_range(sample_package_parameters(sample, "package"), 1,
                    (uint64_t)(sample->options.budget * SAMPLE_PARAMETERS));
    sample_must(file_remove_tree(sample->output, "fresh", &error), &error);
    sample_must(file_remove_tree(sample->output, "package", &error), &error);
}

static void other_budgets_come_out_as_if_merged_afresh(void **state)
{
    static const double budgets[] = {0.7, 1.0, 1.4, 1.7, 2.2};
    sample_family sample;
    int kept = -1;
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_PURSUIT, &kept);
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        sample.options.budget = budgets[i];
        compare_with_fresh(&sample, kept, CLOSE);
    }
    finish(&sample, kept);
}

static void other_weights_types_and_methods_are_taken(void **state)
{
    sample_family sample;
    int kept = -1;
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_PURSUIT, &kept);
    sample.inputs[1].weight = 4;
    compare_with_fresh(&sample, kept, CLOSE);
    sample.options.precision = DIDI_PRECISION_BF16;
    compare_with_fresh(&sample, kept, CLOSE);
    sample.options.shared_merge = DIDI_SHARED_NONE;
    compare_with_fresh(&sample, kept, 1.0001);
    sample.options.shared_merge = DIDI_SHARED_MEAN;
    for (int allocator = 0; allocator < 4; allocator++) {
        sample.options.allocator = (didi_allocator)allocator;
        compare_with_fresh(&sample, kept, 1.0001);
    }
    finish(&sample, kept);
}

static void exact_spectra_are_taken_over(void **state)
{
    static const didi_allocator all[] = {DIDI_ALLOCATOR_EXACT, DIDI_ALLOCATOR_UNIFORM,
                                         DIDI_ALLOCATOR_DIFFERENTIABLE, DIDI_ALLOCATOR_JOINT};
    sample_family sample;
    int kept = -1;
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_JOINT, &kept);
    for (size_t a = 0; a < sizeof all / sizeof *all; a++) {
        sample.options.allocator = all[a];
        sample.options.budget = 1.1;
        compare_with_fresh(&sample, kept, CLOSE);
    }
    finish(&sample, kept);
}

/* Layers that the earlier merge left out are merged afresh beside the others. */
static void other_layers_may_take_part(void **state)
{
    static const char *const excluded[] = {"b.*"};
    didi_error error = {0};
    sample_family sample;
    int kept = -1;
    int root = support_directory(state);
    sample_family_create(&sample, root, TASKS);
    sample_family_close(&sample);
    sample_must(file_remove_contents(root, &error), &error);
    sample_family_create(&sample, root, TASKS);
    sample.options.exclude = excluded;
    sample.options.exclude_count = 1;
    sample.options.keep_work = true;
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    uint64_t bytes = 0;
    sample_must(didi_reuse_seal(sample.work, &bytes, &error), &error);
    assert_int_equal(renameat(root, "work", root, "kept"), 0);
    sample_must(file_open_directory(root, "kept", 0, &kept, &error), &error);
    close(sample.work);
    sample_must(file_open_directory(root, "work", 1, &sample.work, &error), &error);
    sample_must(file_remove_tree(sample.output, "package", &error), &error);
    sample.options.work_fd = sample.work;
    sample.options.exclude_count = 0;
    compare_with_fresh(&sample, kept, CLOSE);
    finish(&sample, kept);
}

/* Kept once more by each that started from it. */
static void a_merge_can_start_from_one_that_started_so(void **state)
{
    sample_family sample;
    int kept = -1;
    uint64_t bytes = 0;
    didi_error error = {0};
    int root = support_directory(state);
    prepare(&sample, root, DIDI_ALLOCATOR_PURSUIT, &kept);
    sample.options.reuse_fd = kept;
    sample.options.budget = 1.1;
    sample_must(sample_merge(&sample.options, 2, 0, &error), &error);
    sample_must(didi_reuse_seal(sample.work, &bytes, &error), &error);
    sample_must(didi_reuse_seal(sample.work, &bytes, &error), &error);
    assert_int_equal(renameat(root, "work", root, "again"), 0);
    sample_must(file_remove_tree(root, "kept", &error), &error);
    close(kept);
    sample_must(file_open_directory(root, "again", 0, &kept, &error), &error);
    close(sample.work);
    sample_must(file_open_directory(root, "work", 1, &sample.work, &error), &error);
    sample_must(file_remove_tree(sample.output, "package", &error), &error);
    sample.options.work_fd = sample.work;
    sample.options.budget = 1.3;
    compare_with_fresh(&sample, kept, CLOSE);
    finish(&sample, kept);
}

static void interrupted_or_helped_it_gives_the_same_bytes(void **state)
{
    sample_family sample;
    int kept = -1;
    didi_error error = {0};
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_PURSUIT, &kept);
    sample.options.reuse_fd = kept;
    sample.options.budget = 1.1;
    sample.options.output_name = "reference";
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    sample.options.output_name = "package";
    sample.options.volatile_work = false;
    for (size_t items = 0; items < 16; items += 2) {
        sample_must(file_remove_contents(sample.work, &error), &error);
        sample_merge_partly(&sample.options, items);
        sample_must(sample_merge(&sample.options, 1 + items % 4, 0, &error), &error);
        sample_package_compare(&sample, "reference", "package");
        sample_must(file_remove_tree(sample.output, "package", &error), &error);
    }
    finish(&sample, kept);
}

static void refuse(const sample_family *sample, int status, const char *subject, const char *part)
{
    didi_merge *merge = NULL;
    didi_error error = {0};
    assert_int_equal(didi_merge_open(&sample->options, NULL, &merge, &error), status);
    support_assert_contains(error.subject, subject);
    support_assert_contains(error.message, part);
    support_assert_contains(error.message, "leave from_job out");
}

static void other_inputs_are_refused(void **state)
{
    const sample_model other = {.seed = 77};
    sample_family sample;
    int kept = -1;
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_PURSUIT, &kept);
    sample.options.reuse_fd = kept;
    sample.options.task_count = TASKS - 1;
    refuse(&sample, DIDI_MISMATCH, "/from_job", "3 tasks and this one has 2");
    sample.options.task_count = TASKS;
    didi_task_input first = sample.inputs[0];
    sample.inputs[0] = sample.inputs[1];
    sample.inputs[1] = first;
    refuse(&sample, DIDI_MISMATCH, "/from_job", "the earlier merge was of");
    sample.inputs[1] = sample.inputs[0];
    sample.inputs[0] = first;
    sample_model_write(sample.models[1], &other);
    refuse(&sample, DIDI_CHANGED, "/model.safetensors", "replaced or modified");
    finish(&sample, kept);
}

/* A copy that keeps the times may hold anything: it is read again. */
static void a_file_in_another_place_is_read_again(void **state)
{
    const sample_model other = {.seed = 77};
    sample_family sample;
    int kept = -1;
    struct stat info;
    didi_error error = {0};
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_PURSUIT, &kept);
    sample.options.reuse_fd = kept;
    assert_int_equal(fstatat(sample.models[1], "model.safetensors", &info, 0), 0);
    assert_int_equal(renameat(sample.models[1], "model.safetensors", sample.root, "before"), 0);
    sample_model_write(sample.models[1], &other);
    const struct timespec times[2] = {info.st_atim, info.st_mtim};
    assert_int_equal(utimensat(sample.models[1], "model.safetensors", times, 0), 0);
    assert_int_equal(sample_merge(&sample.options, 1, 0, &error), DIDI_CHANGED);
    support_assert_contains(error.message, "another file than the one the earlier merge read");
    finish(&sample, kept);
}

/* The earlier merge saw two own tensors with the same values; this one sees one of them and
 * another, of the same shape. */
static void other_own_tensors_are_compared_again(void **state)
{
    static const char *const first[] = {"*zz2"};
    static const char *const second[] = {"*zzz"};
    const char *const file = "experts/t1.safetensors";
    didi_error error = {0};
    sample_family sample;
    int kept = -1;
    int root = support_directory(state);
    sample_family_create(&sample, root, TASKS);
    sample_model_write(sample.models[1],
                       &(sample_model){.seed = 5, .prefix = "bert.", .twins = true});
    sample.options.exclude = first;
    sample.options.exclude_count = 1;
    keep_first(&sample, root, &kept);
    sample_must(file_remove_tree(sample.output, "first", &error), &error);
    sample.options.reuse_fd = kept;
    sample.options.exclude = second;
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    assert_int_equal(sample_package_tensors(&sample, "package", file, "bert.zz1.own"), 1);
    assert_int_equal(sample_package_tensors(&sample, "package", file, "bert.zz2.own"), 1);
    finish(&sample, kept);
}

static void without_anything_kept_it_says_so(void **state)
{
    sample_family sample;
    uint64_t bytes = 0;
    int kept = -1;
    didi_merge *merge = NULL;
    didi_error error = {0};
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_PURSUIT, &kept);
    assert_int_equal(didi_reuse_seal(sample.work, &bytes, &error), DIDI_NOT_FOUND);
    sample.options.reuse_fd = sample.work;
    assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_NOT_FOUND);
    assert_string_equal(error.subject, "/from_job");
    support_write(sample.work, "reuse.json", "{}", 2);
    refuse(&sample, DIDI_FORMAT, "/from_job", "damaged");
    finish(&sample, kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(other_budgets_come_out_as_if_merged_afresh),
        support_test(other_weights_types_and_methods_are_taken),
        support_test(exact_spectra_are_taken_over),
        support_test(other_layers_may_take_part),
        support_test(a_merge_can_start_from_one_that_started_so),
        support_test(interrupted_or_helped_it_gives_the_same_bytes),
        support_test(other_inputs_are_refused),
        support_test(a_file_in_another_place_is_read_again),
        support_test(other_own_tensors_are_compared_again),
        support_test(without_anything_kept_it_says_so),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
