/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks' models out of packages written by hand: names, tensors of the task's own, and what cannot
 * be. */
#include "src/base/file.h"
#include "src/package/task_model.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TENSORS_MAX = 8, PAIRS_MAX = 6, ROWS = 3, COLUMNS = 2, MANY = (1 << 20) + 5 };

static const float ones[6] = {1, 1, 1, 1, 1, 1};
static const float base_values[6] = {1, 2, 3, 4, 5, 6};
static const float own_values[6] = {0.5F, -1, 2, 7, 8, 9};

typedef struct content {
    const char *name;
    didi_dtype dtype;
    uint64_t shape[2];
    const void *data; /* float32, or bytes of what is no float */
} content;

static const content base_tensors[] = {
    {"enc.w", DIDI_DTYPE_F32, {ROWS, COLUMNS}, base_values},
    {"enc.v", DIDI_DTYPE_F16, {ROWS, COLUMNS}, base_values},
    {"enc.n", DIDI_DTYPE_I64, {1, 0}, "\7\0\0\0\0\0\0\0"},
    {"head", DIDI_DTYPE_F32, {4, 0}, base_values},
};

static void write_file(int directory, const char *name, const content *rows, size_t count,
                       const char *const (*metadata)[2], size_t pairs)
{
    safetensors_layout_entry entries[TENSORS_MAX];
    safetensors_writer *writer = NULL;
    didi_error error = {0};
    for (size_t i = 0; i < count; i++)
        entries[i] = (safetensors_layout_entry){rows[i].name, rows[i].dtype,
                                                rows[i].shape[1] ? 2 : 1, rows[i].shape};
    (void)unlinkat(directory, name, 0);
    safetensors_contents contents = {entries, count, metadata, pairs};
    sample_must(safetensors_writer_create(directory, name, &contents, &writer, &error), &error);
    for (size_t i = 0; i < count; i++) {
        uint64_t elements = rows[i].shape[0] * (rows[i].shape[1] ? rows[i].shape[1] : 1);
        uint64_t bytes = elements * didi_dtype_bits(rows[i].dtype) / 8;
        int status = didi_dtype_is_float(rows[i].dtype)
                         ? safetensors_writer_put_f32(writer, rows[i].name, 0, rows[i].data,
                                                      elements, &error)
                         : safetensors_writer_put_bytes(writer, rows[i].name, 0, rows[i].data,
                                                        bytes, &error);
        sample_must(status, &error);
    }
    sample_must(safetensors_writer_close(writer, false, &error), &error);
}

typedef struct package {
    int root, experts, model;
    checkpoint *base;
    task_model *task;
} package;

/* All of what is shared: 1 more in enc.w and enc.v. */
static void prepare(package *self, void **state)
{
    static const content shared[] = {{"enc.w.delta", DIDI_DTYPE_F32, {ROWS, COLUMNS}, ones},
                                     {"enc.v.delta", DIDI_DTYPE_F32, {ROWS, COLUMNS}, ones}};
    didi_error error = {0};
    *self = (package){.root = support_directory(state)};
    sample_must(file_open_directory(self->root, "base", 1, &self->model, &error), &error);
    sample_must(file_open_directory(self->root, "experts", 1, &self->experts, &error), &error);
    write_file(self->model, "model.safetensors", base_tensors, 4, NULL, 0);
    write_file(self->root, "shared.safetensors", shared, 2, NULL, 0);
    sample_must(checkpoint_open(self->model, "base", &self->base, &error), &error);
}

static void finish(package *self)
{
    task_model_close(self->task);
    checkpoint_close(self->base);
    close(self->experts);
    close(self->model);
}

static int open_expert(package *self, const content *rows, size_t count,
                       const char *const (*said)[2], size_t pairs, didi_error *error)
{
    task_model_close(self->task);
    self->task = NULL;
    write_file(self->experts, "t.safetensors", rows, count, said, pairs);
    return task_model_open(self->root, "t", self->base, &self->task, error);
}

static const task_tensor *find(const package *self, const char *name)
{
    for (size_t i = 0; i < task_model_count(self->task); i++)
        if (strcmp(task_model_at(self->task, i)->name, name) == 0)
            return task_model_at(self->task, i);
    return NULL;
}

/* All bytes of a tensor; the caller frees. */
static char *read_tensor(const package *self, const char *name)
{
    const task_tensor *tensor = find(self, name);
    task_pieces *pieces = NULL;
    didi_error error = {0};
    uint64_t used = 0;
    size_t count = 1;
    assert_non_null(tensor);
    char *all = support_allocate(tensor->bytes);
    sample_must(task_pieces_open(self->task, tensor, &pieces, &error), &error);
    while (count > 0) {
        const void *bytes = NULL;
        sample_must(task_pieces_next(pieces, &bytes, &count, &error), &error);
        assert_true(count <= tensor->bytes - used);
        memcpy(all + used, bytes, count);
        used += count;
    }
    task_pieces_close(pieces);
    assert_true(used == tensor->bytes);
    return all;
}

static void check_values(const package *self, const char *name, const float *wanted, size_t count)
{
    char *bytes = read_tensor(self, name);
    const task_tensor *tensor = find(self, name);
    float *values = support_allocate(count * sizeof *values);
    assert_int_equal(tensor->elements, count);
    didi_dtype_to_f32(tensor->dtype, bytes, values, count);
    for (size_t i = 0; i < count; i++)
        assert_true(values[i] == wanted[i]);
    free(values);
    free(bytes);
}

static void check_dtype(const package *self, const char *name, didi_dtype dtype)
{
    assert_non_null(find(self, name));
    assert_int_equal(find(self, name)->dtype, dtype);
}

static void tensors_of_the_task_stand_for_those_of_the_base(void **state)
{
    static const float sums[6] = {2, 3, 4, 5, 6, 7};
    static const float grown[10] = {2, 3, 4, 5, 6, 7, 0.5F, -1, 2, 7};
    static const content own[] = {
        {"enc.v.own_rows", DIDI_DTYPE_BF16, {2, COLUMNS}, own_values},
        {"enc.n.own", DIDI_DTYPE_I64, {1, 0}, "\11\0\0\0\0\0\0\0"},
        {"head.own", DIDI_DTYPE_BF16, {2, 3}, own_values},
        {"new.head.own", DIDI_DTYPE_BF16, {3, 0}, own_values},
    };
    static const char *const said[][2] = {{"didi_format", "3"}};
    package self;
    didi_error error = {0};
    prepare(&self, state);
    sample_must(open_expert(&self, own, 4, said, 1, &error), &error);
    assert_int_equal(task_model_count(self.task), 5);
    for (size_t i = 1; i < 5; i++)
        assert_true(
            strcmp(task_model_at(self.task, i - 1)->name, task_model_at(self.task, i)->name) < 0);
    check_values(&self, "enc.w", sums, 6);
    check_values(&self, "enc.v", grown, 10);
    check_values(&self, "head", own_values, 6);
    check_values(&self, "new.head", own_values, 3);
    check_dtype(&self, "enc.v", DIDI_DTYPE_F16);
    check_dtype(&self, "head", DIDI_DTYPE_F32);
    check_dtype(&self, "new.head", DIDI_DTYPE_BF16);
    assert_int_equal(find(&self, "head")->shape[1], 3);
    assert_int_equal(find(&self, "enc.v")->shape[0], 5);
    char *number = read_tensor(&self, "enc.n");
    assert_int_equal(number[0], 9);
    free(number);
    finish(&self);
}

static void names_are_the_tasks(void **state)
{
    static const float sums[6] = {2, 3, 4, 5, 6, 7};
    static const content own[] = {{"n.own", DIDI_DTYPE_F32, {3, 0}, own_values},
                                  {"enc.v.own_rows", DIDI_DTYPE_F32, {1, COLUMNS}, own_values}};
    static const char *const dropped[][2] = {
        {"prefix_dropped", "enc."}, {"as_base", "[\"enc.v\"]"}, {"didi_format", "3"}};
    static const char *const added[][2] = {{"prefix_added", "bert."},
                                           {"lacks", "[\"head\", \"enc.n\"]"}};
    static const float kept[8] = {1, 2, 3, 4, 5, 6, 0.5F, -1};
    package self;
    didi_error error = {0};
    prepare(&self, state);
    sample_must(open_expert(&self, own, 2, dropped, 3, &error), &error);
    assert_int_equal(task_model_count(self.task), 3);
    check_values(&self, "w", sums, 6);
    check_values(&self, "v", kept, 8);
    check_values(&self, "n", own_values, 3); /* the base's is no float */
    sample_must(open_expert(&self, own, 1, added, 2, &error), &error);
    assert_int_equal(task_model_count(self.task), 3);
    check_values(&self, "bert.enc.w", sums, 6);
    check_values(&self, "bert.enc.v", sums, 6);
    check_values(&self, "n", own_values, 3);
    finish(&self);
}

static void pieces_go_over_long_tensors(void **state)
{
    package self;
    didi_error error = {0};
    float *values = support_allocate(MANY * sizeof *values);
    for (size_t i = 0; i < MANY; i++)
        values[i] = (float)(i % 251);
    const content own[] = {{"head.own", DIDI_DTYPE_BF16, {MANY, 0}, values},
                           {"more.own", DIDI_DTYPE_F32, {MANY, 0}, values}};
    prepare(&self, state);
    sample_must(open_expert(&self, own, 2, NULL, 0, &error), &error);
    check_values(&self, "head", values, MANY);
    check_values(&self, "more", values, MANY);
    free(values);
    finish(&self);
}

typedef struct damage {
    const char *key, *value, *message;
} damage;

static void what_cannot_be_said_is_refused(void **state)
{
    static const damage rows[] = {
        {"didi_format", "4", "not 1, 2 or 3"},
        {"didi_format", "", "not 1, 2 or 3"},
        {"lacks", "", "lacks is not a list"},
        {"lacks", "{}", "lacks is not a list"},
        {"lacks", "[1]", "lacks is not a list"},
        {"lacks", "[\"head\", \"foot\"]", "'foot', which the base has not"},
        {"as_base", "[\"a\"", "as_base is not a list"},
        {"as_base", "[\"foot\"]", "'foot', which the base has not"},
        {"prefix_added", "", "prefix"},
        {"prefix_added", "a\tb", "prefix"},
        {"prefix_dropped", "", "prefix"},
    };
    static const char *const both[][2] = {{"prefix_added", "a."}, {"prefix_dropped", "enc."}};
    package self;
    didi_error error = {0};
    prepare(&self, state);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *const said[][2] = {{rows[i].key, rows[i].value}};
        assert_int_equal(open_expert(&self, NULL, 0, said, 1, &error), DIDI_FORMAT);
        support_assert_contains(error.message, rows[i].message);
        assert_string_equal(error.subject, "experts/t.safetensors");
    }
    assert_int_equal(open_expert(&self, NULL, 0, both, 2, &error), DIDI_FORMAT);
    char *prefix = support_allocate(SAFETENSORS_NAME_BYTES_MAX + 1);
    memset(prefix, 'p', SAFETENSORS_NAME_BYTES_MAX);
    prefix[SAFETENSORS_NAME_BYTES_MAX] = '\0';
    const char *const long_prefix[][2] = {{"prefix_added", prefix}};
    assert_int_equal(open_expert(&self, NULL, 0, long_prefix, 1, &error), DIDI_FORMAT);
    free(prefix);
    finish(&self);
}

static void rows_that_do_not_fit_are_refused(void **state)
{
    static const content rows[][2] = {
        {{"enc.w.own_rows", DIDI_DTYPE_F32, {2, 3}, own_values}},
        {{"enc.w.own_rows", DIDI_DTYPE_F32, {2, 0}, own_values}},
        {{"enc.w.own_rows", DIDI_DTYPE_I64, {1, 0}, "\11\0\0\0\0\0\0\0"}},
        {{"head.own_rows", DIDI_DTYPE_F32, {2, 1}, own_values}},
        {{"foot.own_rows", DIDI_DTYPE_F32, {2, COLUMNS}, own_values}},
        {{"enc.w.own_rows", DIDI_DTYPE_F32, {2, COLUMNS}, own_values},
         {"enc.w.own", DIDI_DTYPE_F32, {2, COLUMNS}, own_values}},
    };
    static const char *const said[][2] = {{"lacks", "[\"enc.w\"]"}};
    package self;
    didi_error error = {0};
    prepare(&self, state);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(open_expert(&self, rows[i], rows[i][1].name ? 2 : 1, NULL, 0, &error),
                         DIDI_FORMAT);
    const content fitting = {"enc.w.own_rows", DIDI_DTYPE_F32, {1, COLUMNS}, own_values};
    assert_int_equal(open_expert(&self, &fitting, 1, said, 1, &error), DIDI_FORMAT);
    sample_must(open_expert(&self, &fitting, 1, NULL, 0, &error), &error);
    finish(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(tensors_of_the_task_stand_for_those_of_the_base),
        support_test(names_are_the_tasks),
        support_test(pieces_go_over_long_tensors),
        support_test(what_cannot_be_said_is_refused),
        support_test(rows_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
