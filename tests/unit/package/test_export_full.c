/* SPDX-License-Identifier: Apache-2.0 */
/* Full checkpoints out of artifacts: base plus factors, in the base's dtype, whole or absent. */
#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/files/checkpoint.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 2 };

typedef struct stage {
    sample_family sample;
    int package, out;
} stage;

static void prepare(stage *self, int root, double budget, didi_dtype base)
{
    didi_error error = {0};
    sample_family_create(&self->sample, root, TASKS);
    sample_model_write(self->sample.base, &(sample_model){.dtype = base});
    self->sample.options.budget = budget;
    sample_must(sample_merge(&self->sample.options, 1, 0, &error), &error);
    sample_must(file_open_directory(self->sample.output, "package", 0, &self->package, &error),
                &error);
    sample_must(file_open_directory(root, "out", 1, &self->out, &error), &error);
}

static void finish(stage *self)
{
    close(self->package);
    close(self->out);
    sample_family_close(&self->sample);
}

static didi_export wanted_of(const stage *self, const char *task)
{
    return (didi_export){.artifact_fd = self->package,
                         .base_fd = self->sample.base,
                         .output_fd = self->out,
                         .task_fd = -1,
                         .base_label = "lab/base",
                         .task = task};
}

static int export_task(const stage *self, const char *task, didi_error *error)
{
    didi_export wanted = wanted_of(self, task);
    wanted.verify_base = true;
    return didi_export_full(&wanted, error);
}

static const char *const tasks[TASKS] = {"t0", "t1"};

/* The stream of a task has the bytes of its export, however they are asked for. */
static void check_stream(const stage *self, size_t task, size_t room)
{
    didi_export wanted = wanted_of(self, tasks[task]);
    didi_stream *stream = NULL;
    didi_error error = {0};
    uint64_t bytes = 0;
    uint64_t used = 0;
    size_t count = 1;
    size_t file_bytes = 0;
    char *file = NULL;
    int model = -1;
    sample_must(file_open_directory(self->out, tasks[task], 0, &model, &error), &error);
    sample_must(file_read_text(model, "model.safetensors", 1 << 30, &file, &file_bytes, &error),
                &error);
    sample_must(didi_stream_open(&wanted, &stream, &bytes, &error), &error);
    assert_true(bytes == file_bytes);
    char *all = support_allocate(bytes + room);
    while (count > 0) {
        sample_must(didi_stream_read(stream, all + used, room, &count, &error), &error);
        used += count;
        assert_true(used <= bytes);
    }
    assert_true(used == bytes);
    assert_memory_equal(all, file, bytes);
    didi_stream_close(stream);
    close(model);
    free(all);
    free(file);
}

static double exported_error(const stage *self, size_t task)
{
    didi_error error = {0};
    int model = -1;
    sample_must(file_open_directory(self->out, tasks[task], 0, &model, &error), &error);
    double found = sample_exported_error(&self->sample, model, task);
    close(model);
    return found;
}

static void exports_are_base_plus_artifacts(void **state)
{
    stage self;
    didi_error error = {0};
    prepare(&self, support_directory(state), 1.4, DIDI_DTYPE_F32);
    for (size_t t = 0; t < TASKS; t++) {
        sample_must(export_task(&self, tasks[t], &error), &error);
        assert_int_equal(support_entries(self.out), t + 1);
        double wanted = sample_package_error(&self.sample, "package", t, NULL);
        sample_assert_near(exported_error(&self, t), wanted, 1e-5 * wanted + 1e-10);
        check_stream(&self, t, 1 << 20);
        check_stream(&self, t, 7);
    }
    finish(&self);
}

static void full_budgets_export_the_fine_tunes(void **state)
{
    stage self;
    didi_error error = {0};
    prepare(&self, support_directory(state), 20, DIDI_DTYPE_BF16);
    sample_must(export_task(&self, "t1", &error), &error);
    assert_true(exported_error(&self, 1) < 1e-4); /* rounded to the base's dtype */
    finish(&self);
}

static void other_bases_and_tasks_are_refused(void **state)
{
    stage self;
    didi_error error = {0};
    static const char *const wrong[] = {"t9", "", ".", "../t0", "a/b"};
    prepare(&self, support_directory(state), 1.4, DIDI_DTYPE_F32);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(export_task(&self, wrong[i], &error), DIDI_NOT_FOUND);
    sample_model_write(self.sample.base, &(sample_model){.poke = "bias", .poke_value = 3});
    assert_int_equal(export_task(&self, "t0", &error), DIDI_CHANGED);
    support_assert_contains(error.message, "lab/base/model.safetensors");
    sample_model_write(self.sample.base, &(sample_model){.turn = "b.weight"});
    didi_export wanted = wanted_of(&self, "t0");
    assert_int_equal(didi_export_full(&wanted, &error), DIDI_MISMATCH);
    assert_int_equal(support_entries(self.out), 0);
    finish(&self);
}

static void streams_of_a_base_that_changes_have_no_end(void **state)
{
    stage self;
    didi_error error = {0};
    didi_stream *stream = NULL;
    uint64_t bytes = 0;
    uint64_t used = 0;
    char buffer[256];
    prepare(&self, support_directory(state), 1.4, DIDI_DTYPE_F32);
    didi_export wanted = wanted_of(&self, "t0");
    sample_must(didi_stream_open(&wanted, &stream, &bytes, &error), &error);
    sample_model_write(self.sample.base, &(sample_model){.poke = "bias", .poke_value = 3});
    int status = DIDI_OK;
    while (status == DIDI_OK) {
        size_t count = 0;
        status = didi_stream_read(stream, buffer, sizeof buffer, &count, &error);
        used += count;
    }
    assert_int_equal(status, DIDI_CHANGED);
    assert_true(used < bytes);
    didi_stream_close(stream);
    wanted.task = "t9";
    assert_int_equal(didi_stream_open(&wanted, &stream, &bytes, &error), DIDI_NOT_FOUND);
    finish(&self);
}

static size_t exported_tensors(const stage *self, const char *tensor, bool *ret_there)
{
    didi_error error = {0};
    checkpoint *model = NULL;
    int fd = -1;
    sample_must(export_task(self, "t0", &error), &error);
    sample_must(file_open_directory(self->out, "t0", 0, &fd, &error), &error);
    sample_must(checkpoint_open(fd, "t0", &model, &error), &error);
    size_t count = checkpoint_count(model);
    *ret_there = checkpoint_find(model, tensor) != NULL;
    checkpoint_close(model);
    close(fd);
    return count;
}

/* What is dropped at the merge is not exported; what is kept is. */
static void tensors_of_one_task_go_as_the_merge_was_told(void **state)
{
    static const didi_own_tensors policies[] = {DIDI_OWN_KEEP, DIDI_OWN_DROP};
    stage self = {.package = -1};
    didi_error error = {0};
    bool there = false;
    size_t counts[2];
    int root = support_directory(state);
    sample_family_create(&self.sample, root, TASKS);
    sample_model_write(self.sample.models[0], &(sample_model){.seed = 1, .extra = true});
    sample_must(file_open_directory(root, "out", 1, &self.out, &error), &error);
    for (size_t i = 0; i < 2; i++) {
        self.sample.options.own_tensors = policies[i];
        sample_must(sample_merge(&self.sample.options, 1, 0, &error), &error);
        sample_must(file_open_directory(self.sample.output, "package", 0, &self.package, &error),
                    &error);
        counts[i] = exported_tensors(&self, "zzz", &there);
        assert_true(there == (policies[i] == DIDI_OWN_KEEP));
        close(self.package);
        sample_must(file_remove_tree(self.sample.output, "package", &error), &error);
    }
    assert_int_equal(counts[0], counts[1] + 1);
    self.sample.options.own_tensors = DIDI_OWN_REFUSE;
    assert_int_equal(sample_merge(&self.sample.options, 1, 0, &error), DIDI_MISMATCH);
    close(self.out);
    sample_family_close(&self.sample);
}

/* Configuration is the task's where its model is still there, and goes with the next export. */
static void exports_are_replaced_with_all_their_files(void **state)
{
    stage self;
    didi_error error = {0};
    int model = -1;
    prepare(&self, support_directory(state), 1.4, DIDI_DTYPE_F32);
    support_write(self.sample.base, "config.json", "{}", 2);
    support_write(self.sample.base, "vocab.txt", "a", 1);
    didi_export wanted = wanted_of(&self, "t0");
    sample_must(didi_export_full(&wanted, &error), &error);
    assert_true(support_exists(self.out, "t0/config.json"));
    assert_true(support_exists(self.out, "t0/vocab.txt"));
    support_write(self.sample.models[0], "tokenizer.json", "{}", 2);
    wanted.task_fd = self.sample.models[0];
    wanted.max_shard_bytes = 512;
    sample_must(didi_export_full(&wanted, &error), &error);
    assert_true(support_exists(self.out, "t0/tokenizer.json"));
    assert_false(support_exists(self.out, "t0/vocab.txt"));
    assert_false(support_exists(self.out, "t0/model.safetensors"));
    assert_true(support_exists(self.out, "t0/model.safetensors.index.json"));
    sample_must(file_open_directory(self.out, "t0", 0, &model, &error), &error);
    assert_true(sample_exported_error(&self.sample, model, 0) < 1);
    close(model);
    assert_int_equal(support_entries(self.out), 1);
    finish(&self);
}

static void the_source_of_a_task_is_named(void **state)
{
    stage self;
    didi_error error = {0};
    char *model = NULL;
    prepare(&self, support_directory(state), 1.4, DIDI_DTYPE_F32);
    sample_must(didi_export_source(self.package, "t1", &model, &error), &error);
    assert_string_equal(model, self.sample.inputs[1].label);
    free(model);
    assert_int_equal(didi_export_source(self.package, "t9", &model, &error), DIDI_NOT_FOUND);
    finish(&self);
}

static int always(void *context)
{
    (void)context;
    return 1;
}

static void trouble_leaves_no_half_checkpoint(void **state)
{
    static const char *const points[] = {"alloc", "pwrite", "fsync", "rename"};
    stage self;
    didi_error error = {0};
    prepare(&self, support_directory(state), 1.4, DIDI_DTYPE_F32);
    didi_export wanted = wanted_of(&self, "t0");
    wanted.cancelled = always;
    assert_int_equal(didi_export_full(&wanted, &error), DIDI_CANCELLED);
    assert_int_equal(support_entries(self.out), 0);
    for (size_t p = 0; p < 4; p++) {
        bool fired = true;
        for (size_t nth = 1; fired; nth += 1 + nth / 50) {
            char fault[32];
            (void)snprintf(fault, sizeof fault, "%s:%zu", points[p], nth);
            assert_int_equal(fault_arm(fault), 0);
            int status = export_task(&self, "t0", &error);
            fired = fault_all_fired();
            assert_int_equal(fault_arm(NULL), 0);
            assert_int_equal(status, !fired ? DIDI_OK : p == 0 ? DIDI_NO_MEMORY : DIDI_IO);
            size_t entries = support_entries(self.out);
            bool whole = support_exists(self.out, "t0/README.md");
            if (entries != whole)
                fail_msg("%s leaves something half-written", fault);
            assert_true(whole == !fired || p == 2); /* the last sync comes after the rename */
            if (whole)
                assert_true(exported_error(&self, 0) < 1);
            sample_must(file_remove_tree(self.out, "t0", &error), &error);
        }
    }
    finish(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(exports_are_base_plus_artifacts),
        support_test(full_budgets_export_the_fine_tunes),
        support_test(other_bases_and_tasks_are_refused),
        support_test(streams_of_a_base_that_changes_have_no_end),
        support_test(tensors_of_one_task_go_as_the_merge_was_told),
        support_test(exports_are_replaced_with_all_their_files),
        support_test(the_source_of_a_task_is_named),
        support_test(trouble_leaves_no_half_checkpoint),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
