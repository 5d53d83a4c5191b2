/* SPDX-License-Identifier: Apache-2.0 */
/* Packages of tasks that have tensors of their own, or left some alone. */
#include "src/base/base.h"
#include "src/files/files.h"
#include "src/package/package.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 3 };

static void merge(sample_family *sample, const char *package)
{
    didi_error error = {0};
    sample_must(file_remove_contents(sample->work, &error), &error);
    sample->options.output_name = package;
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
}

static json_t *manifest_of(const sample_family *sample, const char *package)
{
    int fd = -1;
    json_t *manifest = NULL;
    didi_error error = {0};
    sample_must(file_open_directory(sample->output, package, 0, &fd, &error), &error);
    sample_must(manifest_file_read(fd, &manifest, &error), &error);
    close(fd);
    return manifest;
}

static bool says(const sample_family *sample, const char *file, const char *text)
{
    char path[128];
    char *bytes = NULL;
    size_t count = 0;
    didi_error error = {0};
    (void)snprintf(path, sizeof path, "package/experts/%s.safetensors", file);
    sample_must(file_read_text(sample->output, path, 1 << 20, &bytes, &count, &error), &error);
    bool found = memmem(bytes, count, text, strlen(text)) != NULL;
    free(bytes);
    return found;
}

static bool holds(const sample_family *sample, const char *task, const char *tensor)
{
    char file[64];
    (void)snprintf(file, sizeof file, "experts/%s.safetensors", task);
    return sample_package_tensors(sample, "package", file, tensor) == 1;
}

static void own_tensors_are_in_their_experts(void **state)
{
    static const didi_precision precisions[] = {DIDI_PRECISION_F32, DIDI_PRECISION_BF16,
                                                DIDI_PRECISION_INT4, DIDI_PRECISION_AUTO};
    for (size_t p = 0; p < 4; p++) {
        sample_family sample;
        int root = support_directory(state);
        (void)file_remove_contents(root, NULL);
        sample_family_create(&sample, root, TASKS);
        sample.options.precision = precisions[p];
        sample.options.budget = precisions[p] == DIDI_PRECISION_AUTO ? 3 : 1.4;
        sample_model_write(sample.models[1], &(sample_model){.seed = 5,
                                                             .prefix = "bert.",
                                                             .extra = true,
                                                             .turn = "b.weight",
                                                             .grow = "a.weight",
                                                             .steps = 4});
        merge(&sample, "package");
        assert_true(holds(&sample, "t1", "bert.zzz.own"));
        assert_true(holds(&sample, "t1", "bert.b.weight.own"));
        assert_true(holds(&sample, "t1", "bert.steps.own"));
        assert_true(holds(&sample, "t1", "a.weight.own_rows"));
        assert_false(holds(&sample, "t0", "zzz.own"));
        bool automatic = precisions[p] == DIDI_PRECISION_AUTO;
        const char *format = automatic ? "\"didi_format\":\"6\"" : "\"didi_format\":\"3\"";
        assert_true(says(&sample, "t1", format));
        assert_true(says(&sample, "t1", "\"prefix_added\":\"bert.\""));
        assert_false(says(&sample, "t0", "\"didi_format\":\"3\""));
        json_t *manifest = manifest_of(&sample, "package");
        const json_t *own = json_object_get(json_object_get(manifest, "own"), "t1");
        assert_int_equal(json_array_size(json_object_get(own, "tensors")), 4);
        assert_int_equal(json_integer_value(json_object_get(own, "parameters")),
                         3 + 2 + 12 * 40 + 2 * 16);
        const json_t *budget = json_object_get(manifest, "budget");
        assert_int_equal(json_integer_value(json_object_get(budget, "own_parameters")),
                         json_integer_value(json_object_get(own, "parameters")));
        double parameters = json_number_value(json_object_get(budget, "parameters"));
        double bytes = json_number_value(json_object_get(budget, "bytes_ratio_16bit"));
        assert_true(precisions[p] == DIDI_PRECISION_AUTO ? bytes <= 3 : parameters <= 1.4 + 1e-9);
        json_decref(manifest);
        sample_family_close(&sample);
    }
}

static void what_a_task_left_alone_costs_nothing(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t t = 0; t < TASKS; t++)
        sample_model_write(sample.models[t],
                           &(sample_model){.seed = 5 + t, .same = t == 0 ? "a.weight" : "conv"});
    sample_model_write(sample.models[0], &(sample_model){.seed = 5, .same = "conv"});
    sample_model_write(sample.models[2], &(sample_model){.seed = 7, .same = "b.weight"});
    sample.options.budget = 1;
    merge(&sample, "package");
    json_t *manifest = manifest_of(&sample, "package");
    const json_t *changed = json_object_get(json_object_get(manifest, "budget"), "of_changed");
    assert_int_equal(json_integer_value(json_object_get(changed, "model_parameters")),
                     SAMPLE_PARAMETERS);
    assert_true(says(&sample, "t2", "\"as_base\":\"[\\\"b.weight\\\"]\""));
    assert_false(holds(&sample, "t2", "b.weight.expert_A"));
    json_decref(manifest);

    /* frozen in all tasks: no trace of it, and the package says so of its ratio */
    for (size_t t = 0; t < TASKS; t++)
        sample_model_write(sample.models[t], &(sample_model){.seed = 5 + t, .same = "b.weight"});
    merge(&sample, "frozen");
    manifest = manifest_of(&sample, "frozen");
    changed = json_object_get(json_object_get(manifest, "budget"), "of_changed");
    assert_int_equal(json_integer_value(json_object_get(changed, "model_parameters")),
                     SAMPLE_PARAMETERS - 12 * 40);
    assert_int_equal(
        sample_package_tensors(&sample, "frozen", "shared.safetensors", "b.weight.shared_A"), 0);
    json_decref(manifest);
    sample_family_close(&sample);
}

/* As "again", by an attempt that died after so many items and one that takes it up. */
static void merge_in_two(sample_family *sample, size_t items)
{
    didi_error error = {0};
    sample_must(file_remove_contents(sample->work, &error), &error);
    (void)file_remove_tree(sample->output, "again", NULL);
    sample->options.output_name = "again";
    sample_merge_partly(&sample->options, items);
    sample_must(sample_merge(&sample->options, 1, 0, &error), &error);
    sample_package_compare(sample, "package", "again");
}

/* An attempt that died after any number of items is taken up to the same bytes. */
static void a_later_attempt_knows_what_was_found(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.models[1],
                       &(sample_model){.seed = 5, .same = "b.weight", .steps = 2, .extra = true});
    sample_model_write(sample.models[2], &(sample_model){.seed = 6, .same = "b.weight"});
    sample.options.volatile_work = false;
    merge(&sample, "package");
    for (size_t items = 1; items < 24; items += 3) {
        merge_in_two(&sample, items);
        json_t *first = manifest_of(&sample, "package");
        json_t *second = manifest_of(&sample, "again");
        assert_true(
            json_equal(json_object_get(first, "inputs"), json_object_get(second, "inputs")));
        assert_true(json_equal(json_object_get(first, "own"), json_object_get(second, "own")));
        json_decref(first);
        json_decref(second);
    }
    sample_family_close(&sample);
}

static uint64_t bytes_of(const sample_family *sample, const char *package, const char *file)
{
    int fd = -1;
    didi_error error = {0};
    sample_must(file_open_directory(sample->output, package, 0, &fd, &error), &error);
    json_t *manifest = NULL;
    sample_must(manifest_file_read(fd, &manifest, &error), &error);
    const json_t *row = manifest_file_row(json_object_get(manifest, "files"), "name", file);
    uint64_t bytes = (uint64_t)json_integer_value(json_object_get(row, "bytes"));
    json_decref(manifest);
    close(fd);
    return bytes;
}

static void own_tensors_that_are_the_same_are_stored_once(void **state)
{
    static const char file[] = "experts/t1.safetensors";
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.volatile_work = false;
    sample_model_write(sample.models[1],
                       &(sample_model){.seed = 5, .prefix = "bert.", .twins = true});
    merge(&sample, "package");
    assert_true(holds(&sample, "t1", "bert.zz1.own"));
    assert_true(holds(&sample, "t1", "bert.zz2.own"));
    assert_false(holds(&sample, "t1", "bert.zzz.own"));
    assert_true(says(&sample, "t1", "\"didi_format\":\"4\""));
    assert_true(
        says(&sample, "t1", "\"own_same\":\"{\\\"bert.zzz.own\\\":\\\"bert.zz1.own\\\"}\""));
    json_t *manifest = manifest_of(&sample, "package");
    const json_t *own = json_object_get(json_object_get(manifest, "own"), "t1");
    assert_int_equal(json_integer_value(json_object_get(own, "parameters")), 3 + 3);
    const json_t *rows = json_object_get(own, "tensors");
    const json_t *row = manifest_file_row(rows, "tensor", "bert.zzz");
    assert_int_equal(json_array_size(rows), 3);
    assert_string_equal(json_string_value(json_object_get(row, "same_as")), "bert.zz1");
    assert_null(json_object_get(manifest_file_row(rows, "tensor", "bert.zz1"), "same_as"));
    const json_t *budget = json_object_get(manifest, "budget");
    assert_int_equal(json_integer_value(json_object_get(budget, "own_parameters")), 6);
    json_decref(manifest);
    int exported = sample_export(&sample, "package", 1);
    assert_int_equal(support_entries(exported), 2);
    close(exported);

    /* whatever attempt found it */
    for (size_t items = 1; items < 24; items += 3)
        merge_in_two(&sample, items);
    uint64_t once = bytes_of(&sample, "package", file);
    sample_model_write(
        sample.models[1],
        &(sample_model){
            .seed = 5, .prefix = "bert.", .twins = true, .poke = "zzz", .poke_value = 1});
    merge(&sample, "other");
    assert_true(bytes_of(&sample, "other", file) > once);
    sample_family_close(&sample);
}

static void own_numbers_are_checked(void **state)
{
    sample_family sample;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.models[1],
                       &(sample_model){.seed = 5, .extra = true, .poke = "zzz", .poke_value = NAN});
    assert_int_equal(sample_merge(&sample.options, 2, 0, &error), DIDI_NUMERIC);
    support_assert_contains(error.message, "'zzz' of model lab/t1 holds NaN or Inf at element 1");
    sample_model_write(
        sample.models[1],
        &(sample_model){.seed = 5, .extra = true, .poke = "zzz", .poke_value = 1e9F});
    sample.options.precision = DIDI_PRECISION_F16;
    error = (didi_error){0};
    assert_int_equal(sample_merge(&sample.options, 2, 0, &error), DIDI_NUMERIC);
    support_assert_contains(error.message, "tensor 'zzz' of model lab/t1: element 1, 1e+09");
    assert_int_equal(support_entries(sample.output), 0);
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(own_tensors_are_in_their_experts),
        support_test(what_a_task_left_alone_costs_nothing),
        support_test(a_later_attempt_knows_what_was_found),
        support_test(own_tensors_that_are_the_same_are_stored_once),
        support_test(own_numbers_are_checked),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
