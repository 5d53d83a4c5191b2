/* SPDX-License-Identifier: Apache-2.0 */
/* Whole merges of small families: what is stored is counted, what is rebuilt is measured. */
#include "src/base/file.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_manifest.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 3 };

static void merge(sample_family *sample, const char *package)
{
    didi_error error = {0};
    sample->options.output_name = package;
    sample_must(sample_merge(&sample->options, 1, 0, &error), &error);
    assert_int_equal(support_entries(sample->work), 0); /* done: nothing is left to resume */
}

/* The manifest's word against a recount and a rebuild. */
static void check_package(const sample_family *sample, const char *package)
{
    json_t *manifest = sample_manifest(sample, package);
    double stored = (double)sample_package_parameters(sample, package);
    double ratio = stored / SAMPLE_PARAMETERS;
    assert_true(ratio <= sample->options.budget);
    sample_assert_near(sample_number(manifest, "budget", "parameters"), ratio, 1e-8);
    double dense = sample_number(manifest, "budget", "dense_parameters");
    sample_assert_near(sample_number(manifest, "budget", "factor_parameters") + dense, stored, 0.5);
    assert_true(json_object_size(json_object_get(json_object_get(manifest, "error"), "per_task")) ==
                sample->options.task_count);
    json_decref(manifest);
}

static void every_method_keeps_its_budget(void **state)
{
    sample_family sample;
    char package[64];
    double errors[2][5][2];
    sample_family_create(&sample, support_directory(state), TASKS);
    for (int shared = 0; shared < 2; shared++)
        for (int allocator = 0; allocator < 5; allocator++)
            for (int optimizer = 0; optimizer < 2; optimizer++) {
                sample.options.allocator = (didi_allocator)allocator;
                sample.options.optimizer = (didi_optimizer)optimizer;
                sample.options.shared_merge = (didi_shared_merge)shared;
                sample.options.rank_steps = 40;
                sample.options.refine_steps = optimizer == 0 ? 4 : 40;
                (void)snprintf(package, sizeof package, "p%d%d%d", shared, allocator, optimizer);
                merge(&sample, package);
                check_package(&sample, package);
                double sum = 0;
                for (size_t t = 0; t < TASKS; t++)
                    sum += sample_package_error(&sample, package, t, NULL);
                errors[shared][allocator][optimizer] = sum / TASKS;
                assert_true(sum / TASKS < 0.5);
                if (shared == 1)
                    assert_int_equal(
                        sample_package_tensors(&sample, package, "shared.safetensors", NULL), 0);
            }
    /* three tensors with a part in common: storing it once must pay */
    assert_true(errors[0][DIDI_ALLOCATOR_PURSUIT][0] < errors[1][DIDI_ALLOCATOR_PURSUIT][0]);
    sample_family_close(&sample);
}

/* Error of the manifest against a rebuild, where there is nothing dense. */
static void the_manifest_tells_the_true_error(void **state)
{
    static const char *const include[] = {"*.weight"};
    static const char *const low_rank[] = {"embed*"};
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.include = include;
    sample.options.include_count = 1;
    sample.options.low_rank_tensors = low_rank;
    sample.options.low_rank_tensor_count = 1;
    for (size_t t = 0; t < TASKS; t++) {
        sample_model_write(sample.models[t], &(sample_model){.seed = 100 + t, .same = "bias"});
        sample.options.precision = DIDI_PRECISION_BF16;
    }
    merge(&sample, "package");
    json_t *manifest = sample_manifest(&sample, "package");
    const json_t *layers = json_object_get(json_object_get(manifest, "ranks"), "layers");
    assert_int_equal(json_array_size(layers), 3);
    double parameters = 24 * 16 + 12 * 40 + 4 * 6;
    sample_assert_near(sample_number(manifest, "budget", "model_parameters"), parameters, 0);
    double counted = 0;
    for (size_t l = 0; l < 3; l++) {
        const json_t *row = json_array_get(layers, l);
        double sides = json_number_value(json_object_get(row, "rows")) +
                       json_number_value(json_object_get(row, "columns"));
        double ranks = json_number_value(json_object_get(row, "shared"));
        for (size_t t = 0; t < TASKS; t++) {
            ranks += json_number_value(json_array_get(json_object_get(row, "experts"), t));
            if (json_is_true(json_array_get(json_object_get(row, "dense"), t)))
                counted += json_number_value(json_object_get(row, "rows")) *
                           json_number_value(json_object_get(row, "columns"));
        }
        counted += sides * ranks;
    }
    sample_assert_near(counted, (double)sample_package_parameters(&sample, "package"), 0);
    assert_true(1.4 * parameters - counted < 52); /* less than one rank of the widest matrix */
    json_decref(manifest);
    sample_family_close(&sample);
}

static void full_budgets_rebuild_every_task(void **state)
{
    static const didi_allocator allocators[] = {DIDI_ALLOCATOR_EXACT, DIDI_ALLOCATOR_PURSUIT,
                                                DIDI_ALLOCATOR_JOINT};
    for (size_t tasks = 1; tasks <= 3; tasks += 2) {
        sample_family sample;
        int root = -1;
        char name[16];
        didi_error error = {0};
        (void)snprintf(name, sizeof name, "root%zu", tasks);
        sample_must(file_open_directory(support_directory(state), name, 1, &root, &error), &error);
        sample_family_create(&sample, root, tasks);
        sample.options.budget = 20;
        sample.options.weighting = DIDI_WEIGHTING_NONE;
        for (size_t a = 0; a < 3; a++) {
            (void)snprintf(name, sizeof name, "p%zu", a);
            sample.options.allocator = allocators[a];
            merge(&sample, name);
            for (size_t t = 0; t < tasks; t++)
                assert_true(sample_package_error(&sample, name, t, NULL) < 1e-9);
        }
        sample_family_close(&sample);
        close(root);
    }
}

static void dense_experts_are_exact_up_to_the_output_dtype(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.budget = 20;
    sample.options.shared_merge = DIDI_SHARED_NONE;
    sample.options.allocator = DIDI_ALLOCATOR_EXACT;
    sample.options.precision = DIDI_PRECISION_BF16;
    merge(&sample, "package");
    for (size_t t = 0; t < TASKS; t++)
        assert_true(sample_package_error(&sample, "package", t, NULL) < 1.0 / (1 << 16));
    assert_int_equal(
        sample_package_tensors(&sample, "package", "experts/t1.safetensors", "a.weight.delta"), 1);
    assert_int_equal(sample_package_parameters(&sample, "package"), TASKS * SAMPLE_PARAMETERS);
    sample_family_close(&sample);
}

static void dense_tensors_are_kept_as_told(void **state)
{
    static const didi_dense kinds[] = {DIDI_DENSE_PER_TASK, DIDI_DENSE_MEAN, DIDI_DENSE_BASE};
    static const char *const packages[] = {"task", "mean", "base"};
    static const char *const files[] = {"experts/t1.safetensors", "shared.safetensors"};
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t i = 0; i < 3; i++) {
        sample.options.dense = kinds[i];
        merge(&sample, packages[i]);
        check_package(&sample, packages[i]);
        for (size_t f = 0; f < 2; f++)
            assert_int_equal(sample_package_tensors(&sample, packages[i], files[f], "bias.delta"),
                             i == f);
    }
    sample_family_close(&sample);
}

static void what_did_not_change_is_not_stored(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.models[0], &(sample_model){.seed = 100, .same = "bias"});
    sample_model_write(sample.models[1], &(sample_model){.seed = 101, .same = "a.weight"});
    merge(&sample, "package");
    check_package(&sample, "package");
    assert_int_equal(
        sample_package_tensors(&sample, "package", "experts/t0.safetensors", "bias.delta"), 0);
    assert_int_equal(
        sample_package_tensors(&sample, "package", "experts/t1.safetensors", "bias.delta"), 1);
    for (size_t t = 0; t < TASKS; t++)
        sample_model_write(sample.models[t], &(sample_model){.seed = 100 + t, .same = "b.weight"});
    merge(&sample, "again"); /* a matrix nobody changed */
    assert_int_equal(
        sample_package_tensors(&sample, "again", "shared.safetensors", "b.weight.shared_A"), 0);
    for (size_t t = 0; t < TASKS; t++)
        assert_true(sample_package_error(&sample, "again", t, NULL) < 0.5);
    sample_family_close(&sample);
}

static void mixed_dtypes_make_one_family(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.base, &(sample_model){.dtype = DIDI_DTYPE_BF16});
    sample_model_write(sample.models[0], &(sample_model){.seed = 100, .dtype = DIDI_DTYPE_F16});
    sample_model_write(sample.models[1], &(sample_model){.seed = 101, .dtype = DIDI_DTYPE_F64});
    sample.options.budget = 20;
    merge(&sample, "package");
    for (size_t t = 0; t < TASKS; t++)
        assert_true(sample_package_error(&sample, "package", t, NULL) < 1e-9);
    sample_family_close(&sample);
}

static void threads_change_no_byte(void **state)
{
    static const char *const packages[] = {"one", "three"};
    sample_family sample;
    char name[32];
    sample_family_create(&sample, support_directory(state), TASKS);
    for (int allocator = 0; allocator < 5; allocator++) {
        char names[2][32];
        sample.options.allocator = (didi_allocator)allocator;
        for (size_t i = 0; i < 2; i++) {
            didi_error error = {0};
            (void)snprintf(names[i], sizeof name, "%s%d", packages[i], allocator);
            sample.options.output_name = names[i];
            sample.options.workers = 1 + 2 * i;
            sample_must(sample_merge(&sample.options, 1 + 2 * i, 0, &error), &error);
        }
        sample_package_compare(&sample, names[0], names[1]);
    }
    sample_family_close(&sample);
}

typedef struct seen {
    size_t stages, points, notes;
    didi_stage last;
    double ratio;
} seen;

static void note_event(void *context, const didi_event *event)
{
    seen *self = context;
    assert_true(event->items_done <= event->items_total);
    assert_true(event->ratio_target == 1.4);
    if (event->kind == DIDI_EVENT_STAGE) {
        assert_true(event->stage >= self->last);
        self->last = event->stage;
        self->stages++;
    } else if (event->kind == DIDI_EVENT_NOTE) {
        assert_non_null(event->text);
        self->notes++;
    } else {
        self->points++;
        self->ratio = isnan(event->ratio) ? self->ratio : event->ratio;
    }
}

static void events_tell_of_stages_and_losses(void **state)
{
    sample_family sample;
    seen heard = {0};
    didi_merge_hooks hooks = {&heard, note_event};
    didi_merge *self = NULL;
    didi_item *item = NULL;
    didi_error error = {0};
    didi_stage stage = DIDI_STAGE_COUNT;
    double progress = 0;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_must(didi_merge_open(&sample.options, &hooks, &self, &error), &error);
    while (didi_merge_next(self, UINT64_MAX, true, &item) == DIDI_NEXT_ITEM) {
        assert_true(didi_item_memory(item) > 0);
        (void)didi_merge_progress(self, &stage);
        assert_int_equal(stage, heard.last);
        didi_item_execute(item);
        didi_merge_complete(self, item);
        double now = didi_merge_progress(self, &stage);
        assert_true(now >= progress && now <= 1);
        progress = now;
    }
    sample_must(didi_merge_result(self, &error), &error);
    assert_true(progress == 1 && stage == DIDI_STAGE_PUBLISH);
    assert_true(heard.stages >= DIDI_STAGE_COUNT && heard.points > DIDI_STAGE_COUNT);
    assert_true(heard.ratio > 1.3 && heard.ratio <= 1.4);
    didi_merge_close(self);
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(every_method_keeps_its_budget),
        support_test(the_manifest_tells_the_true_error),
        support_test(full_budgets_rebuild_every_task),
        support_test(dense_experts_are_exact_up_to_the_output_dtype),
        support_test(dense_tensors_are_kept_as_told),
        support_test(what_did_not_change_is_not_stored),
        support_test(mixed_dtypes_make_one_family),
        support_test(threads_change_no_byte),
        support_test(events_tell_of_stages_and_losses),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
