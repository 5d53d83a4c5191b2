/* SPDX-License-Identifier: Apache-2.0 */
/* Models of one file and of shards; indexes that lie; files that change under our hands. */
#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/files/checkpoint.h"
#include "src/files/checkpoint_index.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TENSOR(name) "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}"
#define INDEX(entries) "{\"metadata\":{\"total_size\":1},\"weight_map\":{" entries "}}"

static void write_index(int directory, const char *text)
{
    support_write(directory, "model.safetensors.index.json", text, strlen(text));
}

static void one_file_is_a_model(void **state)
{
    int directory = support_directory(state);
    support_write_image(directory, "model.safetensors", TENSOR("a"), 4);
    write_index(directory, "not even JSON: the single file wins");
    didi_error error = {0};
    checkpoint *model = NULL;
    assert_int_equal(checkpoint_open(directory, "lab/m", &model, &error), DIDI_OK);
    assert_string_equal(checkpoint_label(model), "lab/m");
    assert_int_equal(checkpoint_count(model), 1);
    assert_int_equal(checkpoint_file_count(model), 1);
    const checkpoint_file *file = checkpoint_file_at(model, 0);
    struct stat facts;
    assert_int_equal(fstatat(directory, "model.safetensors", &facts, 0), 0);
    assert_string_equal(file->name, "model.safetensors");
    assert_true(file->bytes == (uint64_t)facts.st_size && file->inode == facts.st_ino);
    assert_true(file->modified_ns == facts.st_mtim.tv_sec * 1000000000 + facts.st_mtim.tv_nsec);
    assert_null(checkpoint_find(model, "b"));
    assert_ptr_equal(checkpoint_find(model, "a"), checkpoint_at(model, 0));
    assert_int_equal(checkpoint_verify_unchanged(model, &error), DIDI_OK);
    checkpoint_close(model);
    checkpoint_close(NULL);
}

static void shards_are_one_model(void **state)
{
    int directory = support_directory(state);
    support_write_image(directory, "x-2.safetensors", TENSOR("a"), 4);
    support_write_image(directory, "x-1.safetensors",
                        "{\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                        "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
                        4);
    write_index(directory, INDEX("\"a\":\"x-2.safetensors\",\"b\":\"x-1.safetensors\","
                                 "\"c\":\"x-1.safetensors\""));
    didi_error error = {0};
    checkpoint *model = NULL;
    assert_int_equal(checkpoint_open(directory, "m", &model, &error), DIDI_OK);
    assert_int_equal(checkpoint_count(model), 3);
    assert_int_equal(checkpoint_file_count(model), 2);
    assert_string_equal(checkpoint_file_at(model, 0)->name, "x-1.safetensors");
    static const char *const names[] = {"a", "b", "c"};
    static const size_t files[] = {1, 0, 0};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(checkpoint_at(model, i)->tensor->name, names[i]);
        assert_int_equal(checkpoint_at(model, i)->file, files[i]);
        assert_ptr_equal(checkpoint_find(model, names[i]), checkpoint_at(model, i));
    }
    checkpoint_close(model);
}

typedef struct bad_index {
    const char *text;
    int status;
    const char *subject;
    const char *message;
} bad_index;

/* In a directory with shard 1 {a} and shard 2 {b}, and 3 {a}. */
static const bad_index bad_indexes[] = {
    {"", DIDI_FORMAT, "m/model.safetensors.index.json", "an object is expected"},
    {"{}", DIDI_FORMAT, "m/model.safetensors.index.json", "weight_map is missing"},
    {INDEX(""), DIDI_FORMAT, "m/model.safetensors.index.json", "weight_map is empty"},
    {"{\"weight_map\":[]}", DIDI_FORMAT, "m/model.safetensors.index.json", "an object"},
    {INDEX("\"a\":\"1\"") "x", DIDI_FORMAT, "m/model.safetensors.index.json", "white space"},
    {INDEX("\"a\":1"), DIDI_FORMAT, "m/model.safetensors.index.json: a", "a string is expected"},
    {INDEX("\"a\":null"), DIDI_FORMAT, "m/model.safetensors.index.json: a", "a string"},
    {INDEX("\"a\":\"../x\""), DIDI_FORMAT, "m/model.safetensors.index.json: a", "'../x' is not"},
    {INDEX("\"a\":\"/etc/passwd\""), DIDI_FORMAT, "m/model.safetensors.index.json: a", "is not"},
    {INDEX("\"a\":\"s\\\\1\""), DIDI_FORMAT, "m/model.safetensors.index.json: a", "is not"},
    {INDEX("\"a\":\"s/1\""), DIDI_FORMAT, "m/model.safetensors.index.json: a", "is not"},
    {INDEX("\"a\":\".hidden\""), DIDI_FORMAT, "m/model.safetensors.index.json: a", "is not"},
    {INDEX("\"a\":\"..\""), DIDI_FORMAT, "m/model.safetensors.index.json: a", "is not"},
    {INDEX("\"a\":\"\""), DIDI_FORMAT, "m/model.safetensors.index.json: a", "is not"},
    {INDEX("\"a\":\"1\\u0000\""), DIDI_FORMAT, "m/model.safetensors.index.json: a", "U+0000"},
    {INDEX("\"a\":\"1\",\"a\":\"1\""), DIDI_FORMAT, "m/model.safetensors.index.json: a", "twice"},
    {"{\"weight_map\":{\"a\":\"1\"},\"weight_map\":{\"a\":\"1\"}}", DIDI_FORMAT,
     "m/model.safetensors.index.json", "duplicate weight_map"},
    {INDEX("\"a\":\"1\",\"b\":\"missing\""), DIDI_NOT_FOUND, "m/missing",
     "index.json names this shard: cannot open"},
    {INDEX("\"a\":\"1\",\"b\":\"directory\""), DIDI_FORMAT, "m/directory", "not a regular file"},
    {INDEX("\"a\":\"1\",\"b\":\"outside\""), DIDI_FORMAT, "m/outside", "leaves its directory"},
    {INDEX("\"a\":\"1\",\"b\":\"broken\""), DIDI_FORMAT, "m/broken: b", "unknown dtype 'X'"},
    {INDEX("\"a\":\"1\",\"c\":\"2\""), DIDI_FORMAT, "m/2: b", "the tensor is not in model.safe"},
    {INDEX("\"a\":\"1\",\"b\":\"2\",\"c\":\"2\""), DIDI_FORMAT, "m/2: c", "the shard lacks it"},
    {INDEX("\"a\":\"2\",\"b\":\"2\""), DIDI_FORMAT, "m/2: a", "the shard lacks it"},
    {INDEX("\"a\":\"2\",\"b\":\"1\""), DIDI_FORMAT, "m/1: a", "puts the tensor in 2"},
    {INDEX("\"a\":\"1\",\"x\":\"3\""), DIDI_FORMAT, "m/3: a", "in two shards, also in 1"},
};

static void indexes_that_lie_are_refused_by_name(void **state)
{
    int directory = support_directory(state);
    support_write_image(directory, "1", TENSOR("a"), 4);
    support_write_image(directory, "2", TENSOR("b"), 4);
    support_write_image(directory, "3", TENSOR("a"), 4);
    support_write_image(directory, "broken", "{\"b\":{\"dtype\":\"X\"}}", 4);
    assert_int_equal(mkdirat(directory, "directory", 0700), 0);
    assert_int_equal(symlinkat("/etc/passwd", directory, "outside"), 0);
    for (size_t i = 0; i < sizeof(bad_indexes) / sizeof(bad_indexes[0]); i++) {
        const bad_index *bad = &bad_indexes[i];
        write_index(directory, bad->text);
        didi_error error = {0};
        checkpoint *model = NULL;
        int status = checkpoint_open(directory, "m", &model, &error);
        if (status != bad->status || strcmp(error.subject, bad->subject) != 0)
            fail_msg("%s: %d %s: %s", bad->text, status, error.subject, error.message);
        support_assert_contains(error.message, bad->message);
        assert_null(model);
    }
}

static void a_directory_without_a_model_is_not_found(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    checkpoint *model = NULL;
    assert_int_equal(checkpoint_open(directory, "m", &model, &error), DIDI_NOT_FOUND);
    assert_string_equal(error.subject, "m");
    assert_string_equal(error.message, "there is no safetensors file");
    assert_int_equal(checkpoint_open(-1, "m", &model, &error), DIDI_IO);
    /* A single file that cannot be used is not passed over for the index. */
    assert_int_equal(symlinkat("/etc/passwd", directory, "model.safetensors"), 0);
    support_write_image(directory, "1", TENSOR("a"), 4);
    write_index(directory, INDEX("\"a\":\"1\""));
    assert_int_equal(checkpoint_open(directory, "m", &model, &error), DIDI_FORMAT);
    assert_string_equal(error.subject, "m/model.safetensors");
    assert_null(model);
}

/* What a directory with these files, each of one tensor, is taken for. */
static void files_of_other_names_are_models(void **state)
{
    int directory = support_directory(state);
    static const struct {
        const char *files[3], *index;
        int status;
        const char *text; /* of the first file, or of the message */
    } cases[] = {
        {{"diffusion_pytorch_model.safetensors"}, NULL, DIDI_OK, "diffusion_pytorch_model."},
        {{"model.fp16.safetensors", "optimizer.pt"}, NULL, DIDI_OK, "model.fp16.safetensors"},
        {{"x.safetensors", "y.safetensors"}, "y.safetensors.index.json", DIDI_OK, "x.safetensors"},
        {{"model.safetensors", "model.fp16.safetensors"}, NULL, DIDI_OK, "model.safetensors"},
        {{"b.safetensors", "c.safetensors", "a.safetensors"},
         NULL,
         DIDI_NOT_FOUND,
         "a.safetensors and b.safetensors could both be the model"},
        {{"b.safetensors", "a.safetensors", "config.json"},
         NULL,
         DIDI_FORMAT,
         "a.safetensors and b.safetensors could both be the model"},
        {{"a_model.safetensors", "b.safetensors"}, NULL, DIDI_FORMAT, "and b.safetensors could"},
        {{"m-00001-of-00002.safetensors"}, NULL, DIDI_FORMAT, "is one of 2 shards"},
        {{"m-00001-of-00001.safetensors"}, NULL, DIDI_OK, "m-00001-of-00001"},
        {{"adapter_model.safetensors"}, NULL, DIDI_NOT_FOUND, "without adapter_config.json"},
        {{"optimizer.pt", "training_args.bin"}, NULL, DIDI_NOT_FOUND, "no safetensors file"},
        {{"pytorch_model.bin"}, NULL, DIDI_FORMAT, "glob.glob('pytorch_model*.bin')"},
        {{"last.ckpt"}, NULL, DIDI_FORMAT, "glob.glob('last.ckpt')"},
        {{"it's.pt"}, NULL, DIDI_FORMAT, "glob.glob('FILE')"},
        {{"tf_model.h5"}, NULL, DIDI_FORMAT, "from_tf=True"},
        {{"m.Q4_K_M.gguf"}, NULL, DIDI_FORMAT, "export for inference"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        didi_error error = {0};
        checkpoint *model = NULL;
        assert_int_equal(file_remove_contents(directory, &error), DIDI_OK);
        for (size_t f = 0; f < 3 && cases[i].files[f] != NULL; f++)
            support_write_image(directory, cases[i].files[f], f == 0 ? TENSOR("a") : TENSOR("b"),
                                4);
        const char *index = INDEX("\"a\":\"x.safetensors\",\"b\":\"y.safetensors\"");
        if (cases[i].index != NULL)
            support_write(directory, cases[i].index, index, strlen(index));
        int status = checkpoint_open(directory, "m", &model, &error);
        if (status != cases[i].status)
            fail_msg("%s: %s", cases[i].files[0], error.message);
        support_assert_contains(
            status == DIDI_OK ? checkpoint_file_at(model, 0)->name : error.message, cases[i].text);
        checkpoint_close(model);
    }
}

static void two_indexes_are_refused(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    checkpoint *model = NULL;
    support_write(directory, "b.safetensors.index.json", "{}", 2);
    support_write(directory, "a.safetensors.index.json", "{}", 2);
    assert_int_equal(checkpoint_open(directory, "m", &model, &error), DIDI_FORMAT);
    support_assert_contains(error.message,
                            "a.safetensors.index.json and b.safetensors.index.json could both be");
}

/* As a hub's cache has them: from the model's directory to blobs beside it. */
static void links_are_followed_within_bounds(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    checkpoint *model = NULL;
    int root = -1;
    int snapshot = -1;
    assert_int_equal(file_open_directory(directory, "root", 1, &root, &error), DIDI_OK);
    assert_int_equal(file_open_directory(root, "snapshot", 1, &snapshot, &error), DIDI_OK);
    support_write_image(root, "blob", TENSOR("a"), 4);
    support_write_image(root, "other", TENSOR("a"), 4);
    assert_int_equal(mkdirat(root, "directory", 0700), 0);
    support_write_image(directory, "outside", TENSOR("a"), 4);
    const file_bounds bounds = {&root, 1};
    static const struct {
        const char *target;
        int status;
        const char *message;
    } cases[] = {
        {"../../outside", DIDI_FORMAT, "a link to '../../outside', which is not below a model"},
        {"/etc/passwd", DIDI_FORMAT, "a link to '/etc/passwd', which is not below a model"},
        {"../gone", DIDI_NOT_FOUND, "a link to '../gone', where there is nothing"},
        {"../snapshot/model.safetensors", DIDI_FORMAT, "a loop of links"},
        {"../directory", DIDI_FORMAT, "not a regular file"},
        {"../blob", DIDI_OK, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)unlinkat(snapshot, "model.safetensors", 0);
        assert_int_equal(symlinkat(cases[i].target, snapshot, "model.safetensors"), 0);
        int status = checkpoint_open_within(snapshot, &bounds, "m", &model, &error);
        if (status != cases[i].status)
            fail_msg("%s: %s", cases[i].target, error.message);
        if (status != DIDI_OK)
            support_assert_contains(error.message, cases[i].message);
    }
    assert_int_equal(checkpoint_verify_unchanged(model, &error), DIDI_OK);
    assert_int_equal(renameat(root, "other", root, "blob"), 0);
    assert_int_equal(checkpoint_verify_unchanged(model, &error), DIDI_CHANGED);
    support_assert_contains(error.message, "replaced");
    checkpoint_close(model);
    model = NULL;
    assert_int_equal(checkpoint_open(snapshot, "m", &model, &error), DIDI_FORMAT);
    support_assert_contains(error.message, "a link that leaves its directory is not followed");
    close(snapshot);
    close(root);
}

enum { ELEMENTS = 300001 };

/* Writes ELEMENTS of each float type: 0, 1, 2, ... modulo 251, which each of them holds exactly. */
static void write_floats(int directory)
{
    static const uint64_t shape[] = {ELEMENTS};
    static const safetensors_layout_entry entries[] = {
        {"F16", DIDI_DTYPE_F16, 1, shape}, {"BF16", DIDI_DTYPE_BF16, 1, shape},
        {"F32", DIDI_DTYPE_F32, 1, shape}, {"F64", DIDI_DTYPE_F64, 1, shape},
        {"I8", DIDI_DTYPE_I8, 1, shape},
    };
    static const safetensors_contents contents = {.entries = entries, .count = 5};
    didi_error error = {0};
    safetensors_writer *writer = NULL;
    float *values = support_allocate(ELEMENTS * sizeof(*values));
    for (size_t i = 0; i < ELEMENTS; i++)
        values[i] = (float)(i % 251);
    assert_int_equal(
        safetensors_writer_create(directory, "model.safetensors", &contents, &writer, &error),
        DIDI_OK);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(
            safetensors_writer_put_f32(writer, entries[i].name, 0, values, ELEMENTS, &error),
            DIDI_OK);
    assert_int_equal(safetensors_writer_close(writer, true, &error), DIDI_OK);
    free(values);
}

static void tensors_are_read_in_parts(void **state)
{
    int directory = support_directory(state);
    write_floats(directory);
    didi_error error = {0};
    checkpoint *model = NULL;
    assert_int_equal(checkpoint_open(directory, "m", &model, &error), DIDI_OK);
    static const uint64_t parts[][2] = {
        {0, ELEMENTS}, {1, 200000}, {299999, 2}, {7, 0}, {ELEMENTS, 0}};
    static const char *const names[] = {"F16", "BF16", "F32", "F64"};
    float *values = support_allocate(ELEMENTS * sizeof(*values));
    for (size_t n = 0; n < 4; n++) {
        const checkpoint_tensor *tensor = checkpoint_find(model, names[n]);
        for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++) {
            uint64_t first = parts[p][0];
            uint64_t count = parts[p][1];
            assert_int_equal(checkpoint_read_f32(model, tensor, first, values, count, &error),
                             DIDI_OK);
            for (uint64_t i = 0; i < count; i++)
                assert_true(values[i] == (float)((first + i) % 251));
        }
        assert_int_equal(checkpoint_read_f32(model, tensor, 1, values, ELEMENTS, &error),
                         DIDI_INVALID);
        assert_int_equal(checkpoint_read_f32(model, tensor, UINT64_MAX, values, 2, &error),
                         DIDI_INVALID);
    }
    const checkpoint_tensor *integers = checkpoint_find(model, "I8");
    assert_int_equal(checkpoint_read_f32(model, integers, 0, values, 1, &error), DIDI_INVALID);
    assert_string_equal(error.subject, "m/model.safetensors: I8");
    assert_int_equal(checkpoint_read(model, integers, 0, values, ELEMENTS, &error), DIDI_OK);
    assert_int_equal(checkpoint_read(model, integers, 1, values, ELEMENTS, &error), DIDI_INVALID);
    assert_int_equal(fault_arm("alloc:1"), 0);
    assert_int_equal(
        checkpoint_read_f32(model, checkpoint_find(model, "F16"), 0, values, 1, &error),
        DIDI_NO_MEMORY);
    free(values);
    checkpoint_close(model);
}

static void a_file_that_shrinks_is_noticed_by_reads(void **state)
{
    int directory = support_directory(state);
    write_floats(directory);
    didi_error error = {0};
    checkpoint *model = NULL;
    assert_int_equal(checkpoint_open(directory, "m", &model, &error), DIDI_OK);
    int fd = openat(directory, "model.safetensors", O_RDWR | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 1000), 0);
    close(fd);
    float values[16];
    const checkpoint_tensor *tensor = checkpoint_find(model, "BF16");
    assert_int_equal(checkpoint_read_f32(model, tensor, 0, values, 16, &error), DIDI_CHANGED);
    assert_string_equal(error.subject, "m/model.safetensors: BF16");
    char hex[65] = "untouched";
    assert_int_equal(checkpoint_digest(model, 0, NULL, NULL, hex, &error), DIDI_CHANGED);
    assert_string_equal(hex, "untouched");
    checkpoint_close(model);
}

static void change_in_place(int directory)
{
    int fd = openat(directory, "1", O_RDWR | O_CLOEXEC);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1, .tv_nsec = 5}};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void append(int directory)
{
    int fd = openat(directory, "1", O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
}

static void replace(int directory)
{
    support_write_image(directory, "new", TENSOR("a"), 4);
    assert_int_equal(renameat(directory, "new", directory, "1"), 0);
}

static void remove_file(int directory)
{
    assert_int_equal(unlinkat(directory, "1", 0), 0);
}

static void changes_are_noticed(void **state)
{
    int directory = support_directory(state);
    static const struct {
        void (*change)(int directory);
        const char *message;
    } cases[] = {
        {change_in_place, "modified"},
        {append, "modified"},
        {replace, "replaced"},
        {remove_file, "removed"},
    };
    write_index(directory, INDEX("\"a\":\"1\",\"b\":\"2\""));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        support_write_image(directory, "1", TENSOR("a"), 4);
        support_write_image(directory, "2", TENSOR("b"), 4);
        didi_error error = {0};
        checkpoint *model = NULL;
        assert_int_equal(checkpoint_open(directory, "m", &model, &error), DIDI_OK);
        assert_int_equal(checkpoint_verify_unchanged(model, &error), DIDI_OK);
        cases[i].change(directory);
        assert_int_equal(checkpoint_verify_unchanged(model, &error), DIDI_CHANGED);
        assert_string_equal(error.subject, "m/1");
        support_assert_contains(error.message, cases[i].message);
        checkpoint_close(model);
    }
}

static int always(void *context)
{
    return context != NULL;
}

static void digests_are_of_whole_files(void **state)
{
    int directory = support_directory(state);
    support_write_image(directory, "model.safetensors", "{}", 0);
    didi_error error = {0};
    checkpoint *model = NULL;
    char hex[65] = "untouched";
    assert_int_equal(checkpoint_open(directory, "m", &model, &error), DIDI_OK);
    assert_int_equal(checkpoint_digest(model, 0, always, model, hex, &error), DIDI_CANCELLED);
    assert_string_equal(hex, "untouched");
    assert_int_equal(checkpoint_digest(model, 0, always, NULL, hex, &error), DIDI_OK);
    /* printf '\2\0\0\0\0\0\0\0{}' | sha256sum */
    assert_string_equal(hex, "411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd");
    checkpoint_close(model);
}

static void every_failed_allocation_is_an_error(void **state)
{
    int directory = support_directory(state);
    support_write_image(directory, "1", TENSOR("a"), 4);
    support_write_image(directory, "2", TENSOR("b"), 4);
    write_index(directory, INDEX("\"a\":\"1\",\"b\":\"2\""));
    for (int nth = 1;; nth++) {
        char fault[32];
        snprintf(fault, sizeof(fault), "alloc:%d", nth);
        assert_int_equal(fault_arm(fault), 0);
        didi_error error = {0};
        checkpoint *model = NULL;
        int status = checkpoint_open(directory, "m", &model, &error);
        if (!fault_all_fired()) {
            assert_int_equal(status, DIDI_OK);
            checkpoint_close(model);
            assert_true(nth > 20);
            return;
        }
        assert_int_equal(status, DIDI_NO_MEMORY);
        assert_null(model);
    }
}

static void an_index_may_list_up_to_4096_shards(void **state)
{
    (void)state;
    for (size_t count = CHECKPOINT_SHARDS_MAX; count <= CHECKPOINT_SHARDS_MAX + 1; count++) {
        size_t capacity = count * 32 + 64;
        size_t used = 0;
        char *text = support_allocate(capacity);
        support_append(text, capacity, &used, "{\"weight_map\":{");
        for (size_t i = 0; i < count; i++)
            support_append(text, capacity, &used, "%s\"t%zu\":\"s%zu\"", i == 0 ? "" : ",", i, i);
        support_append(text, capacity, &used, "}}");
        didi_error error = {0};
        checkpoint_index *index = NULL;
        int status = checkpoint_index_parse(text, used, "m/i", &index, &error);
        assert_int_equal(status, count == CHECKPOINT_SHARDS_MAX ? DIDI_OK : DIDI_FORMAT);
        if (status == DIDI_OK) {
            assert_int_equal(checkpoint_index_file_count(index), count);
            assert_int_equal(checkpoint_index_tensor_count(index), count);
            size_t file = checkpoint_index_find(index, "t77");
            assert_string_equal(checkpoint_index_file(index, file), "s77");
            assert_true(checkpoint_index_find(index, "t") == SIZE_MAX);
        } else {
            support_assert_contains(error.message, "4097 shards");
        }
        checkpoint_index_free(index);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(one_file_is_a_model),
        support_test(shards_are_one_model),
        support_test(indexes_that_lie_are_refused_by_name),
        support_test(a_directory_without_a_model_is_not_found),
        support_test(files_of_other_names_are_models),
        support_test(two_indexes_are_refused),
        support_test(links_are_followed_within_bounds),
        support_test(tensors_are_read_in_parts),
        support_test(a_file_that_shrinks_is_noticed_by_reads),
        support_test(changes_are_noticed),
        support_test(digests_are_of_whole_files),
        support_test(every_failed_allocation_is_an_error),
        support_test(an_index_may_list_up_to_4096_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
