/* SPDX-License-Identifier: Apache-2.0 */
/* Packages that get more tasks or fewer: what is kept stays as it is, what is new is measured. */
#include "src/base/file.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 4, FIRST = 3 };

typedef struct sample {
    sample_family sample;
    didi_merge_options options; /* of the extension */
} sample;

static int open_package(const sample *self, const char *package)
{
    int fd = -1;
    didi_error error = {0};
    sample_must(file_open_directory(self->sample.output, package, 0, &fd, &error), &error);
    return fd;
}

/* Three tasks merged as "package", the fourth ready to be added as "more". */
static void sample_create(sample *self, void **state)
{
    didi_error error = {0};
    sample_family_create(&self->sample, support_directory(state), TASKS);
    self->sample.options.task_count = FIRST;
    sample_must(sample_merge(&self->sample.options, 1, 0, &error), &error);
    self->options = self->sample.options;
    self->options.tasks = self->sample.inputs + FIRST;
    self->options.task_count = 1;
    self->options.budget = 0.4;
    self->options.output_name = "more";
    self->options.extend.package_fd = open_package(self, "package");
    self->options.extend.job = "parent";
}

static void sample_close(sample *self)
{
    close(self->options.extend.package_fd);
    self->sample.options.task_count = TASKS;
    sample_family_close(&self->sample);
}

static void extend(const sample *self, size_t threads)
{
    didi_error error = {0};
    sample_must(sample_merge(&self->options, threads, 0, &error), &error);
}

static char *read_file(const sample *self, const char *package, const char *name, size_t *ret_bytes)
{
    char *text = NULL;
    didi_error error = {0};
    int directory = open_package(self, package);
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    sample_must(file_read_text_fd(fd, name, 1 << 20, &text, ret_bytes, &error), &error);
    close(fd);
    close(directory);
    return text;
}

static void assert_same_file(const sample *self, const char *one, const char *other,
                             const char *name)
{
    size_t bytes[2] = {0, 0};
    char *texts[2] = {read_file(self, one, name, &bytes[0]),
                      read_file(self, other, name, &bytes[1])};
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(texts[0], texts[1], bytes[0]);
    free(texts[0]);
    free(texts[1]);
}

static json_t *manifest_of(const sample *self, const char *package)
{
    size_t bytes = 0;
    char *text = read_file(self, package, "manifest.json", &bytes);
    json_t *manifest = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(manifest);
    free(text);
    return manifest;
}

static void expert_name(const sample *self, size_t task, char name[64])
{
    (void)snprintf(name, 64, "experts/%s.safetensors", self->sample.inputs[task].name);
}

static double of_task(const json_t *manifest, const sample *self, size_t task)
{
    const json_t *error = json_object_get(manifest, "error");
    return json_number_value(
        json_object_get(json_object_get(error, "per_task"), self->sample.inputs[task].name));
}

/* The same over matrices and dense tensors, when the latter have no error. */
static double error_of_all(const json_t *manifest, const sample *self, size_t task)
{
    const json_t *layers = json_object_get(json_object_get(manifest, "ranks"), "layers");
    const json_t *dense = json_object_get(json_object_get(manifest, "error"), "dense_energy");
    double energy = 0;
    for (size_t l = 0; l < json_array_size(layers); l++)
        energy += json_number_value(
            json_array_get(json_object_get(json_array_get(layers, l), "energies"), task));
    double rest = json_number_value(json_object_get(dense, self->sample.inputs[task].name));
    return of_task(manifest, self, task) * energy / (energy + rest);
}

static void what_is_kept_stays_as_it_is(void **state)
{
    sample self;
    char name[64];
    sample_create(&self, state);
    extend(&self, 1);
    assert_same_file(&self, "package", "more", "shared.safetensors");
    for (size_t t = 0; t < FIRST; t++) {
        expert_name(&self, t, name);
        assert_same_file(&self, "package", "more", name);
    }
    json_t *old = manifest_of(&self, "package");
    json_t *manifest = manifest_of(&self, "more");
    for (size_t t = 0; t < FIRST; t++)
        sample_assert_near(of_task(manifest, &self, t), of_task(old, &self, t), 1e-7);
    const json_t *extends = json_object_get(manifest, "extends");
    assert_string_equal(json_string_value(json_object_get(extends, "job")), "parent");
    assert_int_equal(json_array_size(json_object_get(extends, "kept")), FIRST);
    assert_int_equal(json_array_size(json_object_get(extends, "added")), 1);
    assert_int_equal(json_array_size(json_object_get(manifest, "files")), TASKS + 1);
    json_decref(old);
    json_decref(manifest);
    sample_close(&self);
}

static const char *const dense_names[] = {"per_task", "mean", "base"};

/* The manifest's word on the whole package, for every way to keep the rest. */
static void the_manifest_is_of_all_tasks(void **state)
{
    sample self;
    sample_create(&self, state);
    for (int dense = 0; dense < 3; dense++) {
        didi_error error = {0};
        char more[32];
        (void)snprintf(more, sizeof more, "more-%s", dense_names[dense]);
        self.sample.options.dense = self.options.dense = (didi_dense)dense;
        self.sample.options.task_count = FIRST;
        self.sample.options.output_name = dense_names[dense];
        sample_must(sample_merge(&self.sample.options, 1, 0, &error), &error);
        close(self.options.extend.package_fd);
        self.options.extend.package_fd = open_package(&self, dense_names[dense]);
        self.options.output_name = more;
        extend(&self, 1);
        json_t *manifest = manifest_of(&self, more);
        const json_t *budget = json_object_get(manifest, "budget");
        self.sample.options.task_count = TASKS;
        double stored = (double)sample_package_parameters(&self.sample, more);
        sample_assert_near(json_number_value(json_object_get(budget, "parameters")),
                           stored / SAMPLE_PARAMETERS, 1e-8);
        if (dense == DIDI_DENSE_PER_TASK)
            for (size_t t = 0; t < TASKS; t++) /* dense tensors are exact here */
                sample_assert_near(sample_package_error(&self.sample, more, t, NULL),
                                   error_of_all(manifest, &self, t), 1e-5);
        json_decref(manifest);
    }
    sample_close(&self);
}

static void threads_do_not_matter(void **state)
{
    sample self;
    sample_create(&self, state);
    extend(&self, 1);
    self.options.output_name = "again";
    extend(&self, 4);
    self.sample.options.task_count = TASKS;
    sample_package_compare(&self.sample, "more", "again");
    sample_close(&self);
}

static void an_interrupted_extension_goes_on(void **state)
{
    sample self;
    sample_create(&self, state);
    extend(&self, 1);
    self.sample.options.task_count = TASKS;
    for (size_t items = 1; items < 30; items += 3) {
        didi_error error = {0};
        self.options.output_name = "again";
        sample_merge_partly(&self.options, items);
        extend(&self, 2);
        sample_package_compare(&self.sample, "more", "again");
        sample_must(file_remove_tree(self.sample.output, "again", &error), &error);
    }
    sample_close(&self);
}

static void tasks_can_be_removed_and_replaced(void **state)
{
    sample self;
    char name[64];
    sample_create(&self, state);
    const char *const removed[] = {self.sample.inputs[1].name};
    self.options.extend.removed = removed;
    self.options.extend.removed_count = 1;
    self.options.task_count = 0;
    extend(&self, 1);
    json_t *manifest = manifest_of(&self, "more");
    assert_int_equal(
        json_object_size(json_object_get(json_object_get(manifest, "error"), "per_task")),
        FIRST - 1);
    json_decref(manifest);
    expert_name(&self, 0, name);
    assert_same_file(&self, "package", "more", name);
    int directory = open_package(&self, "more");
    expert_name(&self, 1, name);
    assert_false(support_exists(directory, name));
    close(directory);
    self.options.tasks = self.sample.inputs + 1; /* its name is free now */
    self.options.task_count = 1;
    self.options.output_name = "replaced";
    extend(&self, 1);
    sample_close(&self);
}

static void a_full_merge_is_compared(void **state)
{
    sample self;
    didi_error error = {0};
    sample_create(&self, state);
    self.sample.options.task_count = TASKS;
    self.sample.options.output_name = "full";
    sample_must(sample_merge(&self.sample.options, 1, 0, &error), &error);
    self.options.extend.comparison_fd = open_package(&self, "full");
    extend(&self, 1);
    close(self.options.extend.comparison_fd);
    json_t *manifest = manifest_of(&self, "more");
    json_t *full = manifest_of(&self, "full");
    const json_t *report = json_object_get(json_object_get(manifest, "extends"), "report");
    assert_true(json_is_null(json_object_get(report, "reason")));
    const json_t *told = json_object_get(json_object_get(report, "full_merge"), "per_task");
    sample_assert_near(json_number_value(json_object_get(told, self.sample.inputs[FIRST].name)),
                       of_task(full, &self, FIRST), 1e-9);
    json_decref(manifest);
    json_decref(full);
    sample_close(&self);
}

/* ---- what is refused ---- */

static void refused(const sample *self, int status, const char *subject, const char *part)
{
    didi_error error = {0};
    assert_int_equal(sample_merge(&self->options, 1, 0, &error), status);
    assert_string_equal(error.subject, subject);
    support_assert_contains(error.message, part);
}

static void impossible_changes_are_refused(void **state)
{
    sample self;
    sample_create(&self, state);
    const char *removed[] = {"nobody", "nobody", "nobody"};
    self.options.extend.removed = removed;
    self.options.extend.removed_count = 1;
    refused(&self, DIDI_INVALID, "/extend/remove/0", "the package has no task 'nobody'; it has");
    removed[0] = removed[1] = self.sample.inputs[0].name;
    self.options.extend.removed_count = 2;
    refused(&self, DIDI_INVALID, "/extend/remove/1", "twice");
    for (size_t t = 0; t < FIRST; t++)
        removed[t] = self.sample.inputs[t].name;
    self.options.extend.removed_count = FIRST;
    self.options.task_count = 0;
    refused(&self, DIDI_INVALID, "/extend/remove", "no task would be left");
    self.options.extend.removed_count = 0;
    refused(&self, DIDI_INVALID, "/tasks", "there is no task to add");
    self.options.task_count = 1;
    self.options.tasks = self.sample.inputs;
    refused(&self, DIDI_INVALID, "/tasks/0/name", "already");
    self.options.tasks = self.sample.inputs + FIRST;
    self.options.budget = 0.01;
    refused(&self, DIDI_BUDGET, "/extend/budget", "budget 0.01 is below the");
    sample_close(&self);
}

static void another_base_is_refused(void **state)
{
    sample self;
    sample_create(&self, state);
    sample_model_write(self.sample.base, &(sample_model){.seed = 5});
    refused(&self, DIDI_MISMATCH, "lab/base", "that was lab/base/model.safetensors, SHA-256");
    sample_model_write(self.sample.base, &(sample_model){.extra = true});
    sample_model_write(self.sample.models[FIRST], &(sample_model){.seed = 103, .extra = true});
    refused(&self, DIDI_MISMATCH, "lab/base", "'zzz' of lab/base is not in the package");
    sample_close(&self);
}

static void a_damaged_package_is_refused(void **state)
{
    sample self;
    char name[64];
    size_t bytes = 0;
    didi_error error = {0};
    sample_create(&self, state);
    expert_name(&self, 2, name);
    char *text = read_file(&self, "package", name, &bytes);
    text[bytes - 1] ^= 1;
    support_write(self.options.extend.package_fd, name, text, bytes);
    refused(&self, DIDI_CHANGED, name, "is not the file its manifest describes");
    support_write(self.options.extend.package_fd, name, text, bytes - 1);
    refused(&self, DIDI_CHANGED, name, "is not the file its manifest describes");
    assert_int_equal(unlinkat(self.options.extend.package_fd, name, 0), 0);
    refused(&self, DIDI_NOT_FOUND, name, "file of the package");
    free(text);
    support_write(self.options.extend.package_fd, "manifest.json", "{}", 2);
    refused(&self, DIDI_FORMAT, "manifest.json", "older didid");
    sample_must(file_remove_tree(self.sample.output, "package/manifest.json", &error), &error);
    refused(&self, DIDI_NOT_FOUND, "manifest.json", "");
    assert_int_equal(support_entries(self.sample.output), 1);
    sample_close(&self);
}

/* Extends a package whose manifest is `manifest`, then only removes a task of it. */
static void try_manifest(sample *self, const json_t *manifest)
{
    const char *removed[] = {self->sample.inputs[0].name};
    char *text = json_dumps(manifest, JSON_COMPACT);
    support_write(self->options.extend.package_fd, "manifest.json", text, strlen(text));
    free(text);
    for (size_t removes = 0; removes < 2; removes++) {
        didi_error error = {0};
        self->options.extend.removed = removed;
        self->options.extend.removed_count = removes;
        self->options.task_count = 1 - removes;
        int status = sample_merge(&self->options, 1, 0, &error);
        assert_true(status != DIDI_INTERNAL && status != DIDI_NO_MEMORY);
        sample_must(file_remove_tree(self->sample.output, "more", &error), &error);
    }
}

static void a_manifest_that_lacks_parts_does_no_harm(void **state)
{
    static const char *const sections[] = {"ranks", "error",  "similarity", "inputs",
                                           "files", "budget", "tensors"};
    static const char *const lists[] = {"tensor", "shared", "experts",
                                        "dense",  "errors", "energies"};
    sample self;
    sample_create(&self, state);
    json_t *manifest = manifest_of(&self, "package");
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        json_t *broken = json_deep_copy(manifest);
        json_object_set_new(broken, sections[i], json_object());
        try_manifest(&self, broken);
        json_object_set_new(broken, sections[i], json_integer(-1));
        try_manifest(&self, broken);
        json_decref(broken);
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        json_t *broken = json_deep_copy(manifest);
        json_t *layers = json_object_get(json_object_get(broken, "ranks"), "layers");
        json_object_del(json_array_get(layers, 0), lists[i]);
        json_object_set_new(json_array_get(layers, 1), lists[i], json_string("none"));
        try_manifest(&self, broken);
        json_array_clear(layers);
        try_manifest(&self, broken);
        json_decref(broken);
    }
    json_decref(manifest);
    sample_close(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(what_is_kept_stays_as_it_is),
        support_test(the_manifest_is_of_all_tasks),
        support_test(threads_do_not_matter),
        support_test(an_interrupted_extension_goes_on),
        support_test(tasks_can_be_removed_and_replaced),
        support_test(a_full_merge_is_compared),
        support_test(impossible_changes_are_refused),
        support_test(another_base_is_refused),
        support_test(a_damaged_package_is_refused),
        support_test(a_manifest_that_lacks_parts_does_no_harm),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
