/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks' models out of packages written by hand: names, tensors of the task's own, and what cannot
 * be. */
#include "src/base/file.h"
#include "src/package/task_model.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
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
    safetensors_contents contents = {
        .entries = entries, .count = count, .metadata = metadata, .metadata_count = pairs};
    sample_must(safetensors_writer_create(directory, name, &contents, &writer, &error), &error);
    for (size_t i = 0; i < count; i++) {
        uint64_t elements = rows[i].shape[0] * (rows[i].shape[1] ? rows[i].shape[1] : 1);
        uint64_t bytes = elements * didi_dtype_bits(rows[i].dtype) / 8;
        bool converted = didi_dtype_is_float(rows[i].dtype) && rows[i].dtype != DIDI_DTYPE_F32;
        int status = converted ? safetensors_writer_put_f32(writer, rows[i].name, 0, rows[i].data,
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
        {"didi_format", "7", "not 1, 2, 3, 4, 5 or 6"},
        {"didi_format", "0", "not 1, 2, 3, 4, 5 or 6"},
        {"didi_format", "15", "not 1, 2, 3, 4, 5 or 6"},
        {"didi_format", "", "not 1, 2, 3, 4, 5 or 6"},
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

static void own_tensors_that_are_another_have_its_values(void **state)
{
    static const float sums[8] = {2, 3, 4, 5, 6, 7, 0.5F, -1};
    static const content own[] = {
        {"enc.v.own_rows", DIDI_DTYPE_F32, {1, COLUMNS}, own_values},
        {"new.own", DIDI_DTYPE_BF16, {3, COLUMNS}, own_values},
    };
    static const char *const said[][2] = {
        {"didi_format", "4"},
        {"own_same", "{\"tied.own\":\"new.own\",\"head.own\":\"new.own\",\"enc.w.own_rows\":"
                     "\"enc.v.own_rows\"}"},
    };
    package self;
    didi_error error = {0};
    prepare(&self, state);
    sample_must(open_expert(&self, own, 2, said, 2, &error), &error);
    assert_int_equal(task_model_count(self.task), 6);
    check_values(&self, "enc.w", sums, 8);
    check_values(&self, "enc.v", sums, 8);
    check_values(&self, "new", own_values, 6);
    check_values(&self, "tied", own_values, 6);
    check_values(&self, "head", own_values, 6); /* in the place of the base's */
    check_dtype(&self, "tied", DIDI_DTYPE_BF16);
    check_dtype(&self, "head", DIDI_DTYPE_F32);
    finish(&self);
}

static void own_tensors_that_are_nowhere_are_refused(void **state)
{
    static const content own[] = {{"new.own", DIDI_DTYPE_F32, {3, 0}, own_values},
                                  {"enc.v.own_rows", DIDI_DTYPE_F32, {1, COLUMNS}, own_values},
                                  {"enc.w.delta", DIDI_DTYPE_F32, {ROWS, COLUMNS}, own_values}};
    static const damage rows[] = {
        {"4", "", "does not say which"},
        {"4", "[]", "does not say which"},
        {"4", "{\"a.own\":\"new.own\"", "does not say which"},
        {"4", "{\"a.own\":\"new.own\",\"a.own\":\"new.own\"}", "does not say which"},
        {"4", "{\"a.own\":7}", "'a.own', which is not an own tensor"},
        {"4", "{\"a\":\"new.own\"}", "'a', which is not an own tensor"},
        {"4", "{\".own\":\"new.own\"}", "'.own', which is not an own tensor"},
        {"4", "{\"a\\tb.own\":\"new.own\"}", "which is not an own tensor"},
        {"4", "{\"a.own\":\"enc.w.delta\"}", "'enc.w.delta', which is not an own tensor"},
        {"4", "{\"a.own\":\"enc.v.own_rows\"}", "'enc.v.own_rows', which is not an own tensor"},
        {"4", "{\"a.own\":\"gone.own\"}", "'a.own' is 'gone.own', which is not there"},
        {"4", "{\"a.own\":\"a.own\"}", "'a.own' is 'a.own', which is not there"},
        {"4", "{\"a.own\":\"b.own\",\"b.own\":\"a.own\"}", "which is not there"},
        {"4", "{\"new.own\":\"new.own\"}", "'new.own' as the same as another, and it is there"},
        {"4", "{\"head.own_rows\":\"enc.v.own_rows\"}", "do not go behind"},
        {"4", "{\"foot.own_rows\":\"enc.v.own_rows\"}", "rows for a tensor that the task's"},
        {"3", "{\"a.own\":\"new.own\"}", "format 4"},
    };
    package self;
    didi_error error = {0};
    prepare(&self, state);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *const said[][2] = {{"didi_format", rows[i].key}, {"own_same", rows[i].value}};
        assert_int_equal(open_expert(&self, own, 3, said, 2, &error), DIDI_FORMAT);
        support_assert_contains(error.message, rows[i].message);
    }
    finish(&self);
}

/* ---- what an expert picks ---- */

static const char *const fifth[][2] = {{"didi_format", "5"}};

/* own_values under masks of enc.w; the rest is not shared. */
static void prepare_masked(package *self, void **state)
{
    static const content shared[] = {{"enc.w.masked", DIDI_DTYPE_F32, {ROWS, COLUMNS}, own_values}};
    prepare(self, state);
    write_file(self->root, "shared.safetensors", shared, 1, fifth, 1);
}

static void what_is_picked_is_added(void **state)
{
    static const float two = 2;
    static const float quarter = 0.25F;
    static const float tens[2] = {10, 20};
    static const content own[] = {
        {"enc.w.expert_mask", DIDI_DTYPE_U8, {1, 0}, "\x2d"},
        {"enc.w.expert_scale", DIDI_DTYPE_F32, {1, 0}, &two},
        {"enc.v.expert_sign", DIDI_DTYPE_U8, {1, 0}, "\x07"},
        {"enc.v.expert_scale", DIDI_DTYPE_F32, {1, 0}, &quarter},
        {"head.expert_columns", DIDI_DTYPE_U16, {1, 2}, "\1\0\3\0"},
        {"head.expert_values", DIDI_DTYPE_BF16, {1, 2}, tens},
    };
    static const float masked[6] = {2, 2, 7, 18, 5, 24};
    static const float unscaled[6] = {1.5F, 2, 5, 11, 5, 15};
    static const float signs[6] = {1.25F, 2.25F, 3.25F, 3.75F, 4.75F, 5.75F};
    static const float head[4] = {1, 12, 3, 24};
    package self;
    didi_error error = {0};
    prepare_masked(&self, state);
    sample_must(open_expert(&self, own, 6, fifth, 1, &error), &error);
    check_values(&self, "enc.w", masked, 6);
    check_values(&self, "enc.v", signs, 6);
    check_values(&self, "head", head, 4);
    sample_must(open_expert(&self, own, 1, fifth, 1, &error), &error); /* its scale is 1 */
    check_values(&self, "enc.w", unscaled, 6);
    sample_must(open_expert(&self, NULL, 0, NULL, 0, &error), &error); /* no mask: nothing */
    check_values(&self, "enc.w", base_values, 6);
    finish(&self);
}

static const float infinite = INFINITY;
static const struct {
    content own[2];
    const char *tensor, *message;
    int status;
} misfits[] = {
    {{{"enc.w.expert_mask", DIDI_DTYPE_U8, {2, 0}, "\1\0"}},
     "enc.w",
     "not the bits of 6",
     DIDI_MISMATCH},
    {{{"enc.w.expert_mask", DIDI_DTYPE_U8, {1, 0}, "\x40"}},
     "enc.w",
     "bits behind those of 6",
     DIDI_FORMAT},
    {{{"enc.w.expert_mask", DIDI_DTYPE_I8, {1, 0}, "\1"}},
     "enc.w",
     "bits have dtype I8",
     DIDI_FORMAT},
    {{{"enc.v.expert_mask", DIDI_DTYPE_U8, {1, 0}, "\1"}},
     "enc.v",
     "a mask over nothing",
     DIDI_FORMAT},
    {{{"enc.w.expert_sign", DIDI_DTYPE_U8, {1, 0}, "\1"}},
     "enc.w",
     "signs without their scale",
     DIDI_FORMAT},
    {{{"enc.w.expert_mask", DIDI_DTYPE_U8, {1, 0}, "\1"},
      {"enc.w.expert_sign", DIDI_DTYPE_U8, {1, 0}, "\1"}},
     "enc.w",
     "a mask and signs",
     DIDI_FORMAT},
    {{{"enc.w.expert_mask", DIDI_DTYPE_U8, {1, 0}, "\1"},
      {"enc.w.expert_scale", DIDI_DTYPE_F32, {2, 0}, ones}},
     "enc.w",
     "is not one of bits",
     DIDI_FORMAT},
    {{{"enc.w.expert_mask", DIDI_DTYPE_U8, {1, 0}, "\1"},
      {"enc.w.expert_scale", DIDI_DTYPE_F32, {1, 0}, &infinite}},
     "enc.w",
     "is not finite",
     DIDI_FORMAT},
    {{{"enc.w.expert_scale", DIDI_DTYPE_F32, {1, 0}, ones}},
     "enc.w",
     "is not one of bits",
     DIDI_FORMAT},
    {{{"enc.w.expert_columns", DIDI_DTYPE_U16, {3, 1}, "\0\0\1\0\1\0"}},
     "enc.w",
     "places in experts/t.safetensors do not fit",
     DIDI_MISMATCH},
    {{{"enc.w.expert_columns", DIDI_DTYPE_U16, {3, 1}, "\0\0\1\0\2\0"},
      {"enc.w.expert_values", DIDI_DTYPE_F32, {3, 1}, ones}},
     "enc.w",
     "do not ascend below 2",
     DIDI_FORMAT},
    {{{"enc.w.expert_columns", DIDI_DTYPE_U16, {2, 2}, "\0\0\1\0\0\0\1\0"},
      {"enc.w.expert_values", DIDI_DTYPE_F32, {2, 2}, ones}},
     "enc.w",
     "do not fit",
     DIDI_MISMATCH},
    {{{"enc.w.expert_columns", DIDI_DTYPE_I16, {3, 1}, "\0\0\1\0\1\0"},
      {"enc.w.expert_values", DIDI_DTYPE_F32, {3, 1}, ones}},
     "enc.w",
     "do not fit",
     DIDI_MISMATCH},
};

static void what_cannot_be_picked_is_refused(void **state)
{
    package self;
    prepare_masked(&self, state);
    for (size_t i = 0; i < sizeof misfits / sizeof *misfits; i++) {
        task_pieces *pieces = NULL;
        didi_error error = {0};
        size_t count = misfits[i].own[1].name != NULL ? 2 : 1;
        sample_must(open_expert(&self, misfits[i].own, count, fifth, 1, &error), &error);
        int status = task_pieces_open(self.task, find(&self, misfits[i].tensor), &pieces, &error);
        if (status != misfits[i].status)
            fail_msg("row %zu: %s", i, error.message);
        support_assert_contains(error.message, misfits[i].message);
    }
    finish(&self);
}

/* A file that does not say that it has such parts may not have them, the shared one neither. */
static void picks_belong_to_the_fifth_format(void **state)
{
    static const content own[] = {{"enc.w.expert_mask", DIDI_DTYPE_U8, {1, 0}, "\1"}};
    static const content shared[] = {{"enc.w.masked", DIDI_DTYPE_F32, {ROWS, COLUMNS}, own_values}};
    static const char *const fourth[][2] = {{"didi_format", "4"}};
    package self;
    prepare_masked(&self, state);
    for (size_t i = 0; i < 2; i++) {
        task_pieces *pieces = NULL;
        didi_error error = {0};
        if (i > 0)
            write_file(self.root, "shared.safetensors", shared, 1, fourth, 1);
        sample_must(open_expert(&self, own, 1, i > 0 ? fifth : fourth, 1, &error), &error);
        assert_int_equal(task_pieces_open(self.task, find(&self, "enc.w"), &pieces, &error),
                         DIDI_FORMAT);
        support_assert_contains(error.message, "is not of format 5");
        assert_string_equal(error.subject, i > 0 ? "enc.w.masked" : "enc.w.expert_mask");
    }
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
        support_test(own_tensors_that_are_another_have_its_values),
        support_test(own_tensors_that_are_nowhere_are_refused),
        support_test(what_is_picked_is_added),
        support_test(what_cannot_be_picked_is_refused),
        support_test(picks_belong_to_the_fifth_format),
        support_test(rows_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
