/* SPDX-License-Identifier: Apache-2.0 */
/* Files written are read back; failed writes leave nothing. */
#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/files/safetensors.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const uint64_t two_by_three[] = {2, 3};
static const uint64_t five[] = {5};
static const safetensors_layout_entry entries[] = {
    {"b", DIDI_DTYPE_F32, 2, two_by_three}, {"a\"\\", DIDI_DTYPE_F32, 2, two_by_three},
    {"half", DIDI_DTYPE_F16, 1, five},      {"count", DIDI_DTYPE_I64, 0, NULL},
    {"brain", DIDI_DTYPE_BF16, 1, five},    {"wide", DIDI_DTYPE_F64, 1, five},
};
enum { ENTRIES = sizeof(entries) / sizeof(entries[0]) };
static const char *const metadata[][2] = {{"format", "didi"}, {"note", "line\nbreak \"\xC3\xA4\""}};
static const safetensors_contents whole = {
    .entries = entries, .count = ENTRIES, .metadata = metadata, .metadata_count = 2};

static int create(int directory, const char *name, safetensors_writer **ret_writer,
                  didi_error *error)
{
    return safetensors_writer_create(directory, name, &whole, ret_writer, error);
}

/* Fills every tensor of `entries`. */
static int put_all(safetensors_writer *writer, didi_error *error)
{
    static const float values[] = {1, -2, 0.5F, 4, 5, 6};
    int64_t count = -7;
    int status = safetensors_writer_put_f32(writer, "b", 0, values, 6, error);
    if (status == DIDI_OK)
        status = safetensors_writer_put_f32(writer, "a\"\\", 0, values, 4, error);
    if (status == DIDI_OK)
        status = safetensors_writer_put_f32(writer, "a\"\\", 4, values + 4, 2, error);
    if (status == DIDI_OK)
        status = safetensors_writer_put_f32(writer, "half", 0, values, 5, error);
    if (status == DIDI_OK)
        status = safetensors_writer_put_f32(writer, "brain", 0, values, 5, error);
    if (status == DIDI_OK)
        status = safetensors_writer_put_f32(writer, "wide", 0, values, 5, error);
    if (status == DIDI_OK)
        status = safetensors_writer_put_bytes(writer, "count", 0, &count, 8, error);
    return status;
}

static safetensors_header *read_back(int directory, const char *name, int *ret_fd)
{
    didi_error error = {0};
    safetensors_header *header = NULL;
    *ret_fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    if (safetensors_header_read(*ret_fd, name, &header, &error) != DIDI_OK)
        fail_msg("%s", error.message);
    return header;
}

static void a_file_is_read_back_in_the_reference_order(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    safetensors_writer *writer = NULL;
    uint64_t bytes = 0;
    assert_int_equal(create(directory, "f", &writer, &error), DIDI_OK);
    assert_int_equal(put_all(writer, &error), DIDI_OK);
    assert_int_equal(safetensors_writer_close(writer, true, &error), DIDI_OK);
    assert_int_equal(safetensors_layout_bytes(&whole, &bytes, &error), DIDI_OK);
    int fd = -1;
    safetensors_header *header = read_back(directory, "f", &fd);
    static const char *const order[] = {"count", "wide", "a\"\\", "b", "brain", "half"};
    static const float values[] = {1, -2, 0.5F, 4, 5, 6};
    assert_int_equal(safetensors_header_count(header), ENTRIES);
    assert_int_equal(safetensors_header_at(header, 0)->offset % 8, 0);
    assert_true(lseek(fd, 0, SEEK_END) == (off_t)bytes);
    for (size_t i = 0; i < ENTRIES; i++) {
        const safetensors_tensor *tensor = safetensors_header_at(header, i);
        assert_string_equal(tensor->name, order[i]);
        char data[64];
        float back[6];
        assert_int_equal(
            file_pread_all(fd, data, (size_t)tensor->bytes, tensor->offset, "f", &error), DIDI_OK);
        if (i == 0) {
            assert_memory_equal(data, "\xF9\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8);
            continue;
        }
        didi_dtype_to_f32(tensor->dtype, data, back, (size_t)tensor->elements);
        assert_memory_equal(back, values, tensor->elements * sizeof(float));
    }
    char text[512] = "";
    assert_true(pread(fd, text, sizeof text - 1, 8) > 0);
    support_assert_contains(text, "\"__metadata__\":{\"format\":\"didi\","
                                  "\"note\":\"line\\u000abreak \\\"\xC3\xA4\\\"\"}");
    safetensors_header_free(header);
    close(fd);
}

static void an_empty_file_is_a_file(void **state)
{
    static const safetensors_contents nothing = {0};
    int directory = support_directory(state);
    didi_error error = {0};
    safetensors_writer *writer = NULL;
    int fd = -1;
    assert_int_equal(safetensors_writer_create(directory, "f", &nothing, &writer, &error), DIDI_OK);
    assert_int_equal(safetensors_writer_close(writer, true, &error), DIDI_OK);
    safetensors_header *header = read_back(directory, "f", &fd);
    assert_int_equal(safetensors_header_count(header), 0);
    assert_true(lseek(fd, 0, SEEK_END) == 16);
    safetensors_header_free(header);
    close(fd);
}

static void an_existing_file_is_left_alone(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    safetensors_writer *writer = NULL;
    support_write(directory, "f", "old", 3);
    assert_int_equal(create(directory, "f", &writer, &error), DIDI_CONFLICT);
    assert_string_equal(error.subject, "f");
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(file_read_text(directory, "f", 100, &text, &bytes, &error), DIDI_OK);
    assert_string_equal(text, "old");
    free(text);
    assert_int_equal(create(directory, "none/f", &writer, &error), DIDI_NOT_FOUND);
    assert_int_equal(create(-1, "f", &writer, &error), DIDI_IO);
    assert_null(writer);
    safetensors_writer_abort(NULL);
}

static void layouts_the_reader_would_refuse_are_refused(void **state)
{
    int directory = support_directory(state);
    char *long_name = support_allocate(SAFETENSORS_NAME_BYTES_MAX + 2);
    memset(long_name, 'n', SAFETENSORS_NAME_BYTES_MAX + 1);
    static const uint64_t huge[] = {UINT64_C(1) << 33, UINT64_C(1) << 33};
    static const uint64_t large[] = {UINT64_C(1) << 62};
    uint64_t ones[SAFETENSORS_DIMENSIONS_MAX + 1];
    for (size_t i = 0; i < SAFETENSORS_DIMENSIONS_MAX + 1; i++)
        ones[i] = 1;
    const struct {
        safetensors_layout_entry pair[2];
        const char *message;
    } cases[] = {
        {{{"a", DIDI_DTYPE_F32, 1, five}, {"a", DIDI_DTYPE_F16, 1, five}}, "duplicate"},
        {{{"a", DIDI_DTYPE_F32, 1, five}, {"a\n", DIDI_DTYPE_F32, 1, five}}, "not a name"},
        {{{"a", DIDI_DTYPE_F32, 1, five}, {"\xFF", DIDI_DTYPE_F32, 1, five}}, "not a name"},
        {{{"__metadata__", DIDI_DTYPE_F32, 1, five}, {"a", DIDI_DTYPE_F32, 1, five}}, "not a name"},
        {{{long_name, DIDI_DTYPE_F32, 1, five}, {"a", DIDI_DTYPE_F32, 1, five}}, "4097"},
        {{{"a", DIDI_DTYPE_F32, 2, huge}, {"b", DIDI_DTYPE_F32, 1, five}}, "overflows 64"},
        {{{"a", DIDI_DTYPE_U8, 1, large}, {"b", DIDI_DTYPE_U8, 1, large}}, "overflows 64"},
        {{{"a", DIDI_DTYPE_F4, 1, five}, {"b", DIDI_DTYPE_F32, 1, five}}, "whole bytes"},
        {{{"a", DIDI_DTYPE_U8, SAFETENSORS_DIMENSIONS_MAX + 1, ones},
          {"b", DIDI_DTYPE_U8, 1, five}},
         "33 dimensions"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        safetensors_contents contents = {.entries = cases[i].pair, .count = 2};
        didi_error error = {0};
        safetensors_writer *writer = NULL;
        uint64_t bytes = 0;
        assert_int_equal(safetensors_writer_create(directory, "f", &contents, &writer, &error),
                         DIDI_INVALID);
        support_assert_contains(error.message, cases[i].message);
        assert_int_equal(safetensors_layout_bytes(&contents, &bytes, &error), DIDI_INVALID);
    }
    static const char *const twice[][2] = {{"k", "1"}, {"k", "2"}};
    static const safetensors_contents contents = {.metadata = twice, .metadata_count = 2};
    didi_error error = {0};
    uint64_t bytes = 0;
    assert_int_equal(safetensors_layout_bytes(&contents, &bytes, &error), DIDI_INVALID);
    assert_int_equal(support_entries(directory), 0);
    free(long_name);
}

static void puts_are_checked(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    safetensors_writer *writer = NULL;
    static const float values[] = {1, 70000.0F, INFINITY, NAN, 3.4e38F, 1};
    assert_int_equal(create(directory, "f", &writer, &error), DIDI_OK);
    assert_int_equal(safetensors_writer_put_f32(writer, "x", 0, values, 1, &error), DIDI_INVALID);
    assert_int_equal(safetensors_writer_put_f32(writer, "b", 1, values, 6, &error), DIDI_INVALID);
    assert_int_equal(safetensors_writer_put_f32(writer, "b", 7, values, 0, &error), DIDI_INVALID);
    assert_int_equal(safetensors_writer_put_f32(writer, "b", UINT64_MAX, values, 2, &error),
                     DIDI_INVALID);
    assert_int_equal(safetensors_writer_put_f32(writer, "count", 0, values, 1, &error),
                     DIDI_INVALID);
    assert_int_equal(safetensors_writer_put_bytes(writer, "count", 4, values, 5, &error),
                     DIDI_INVALID);
    assert_int_equal(safetensors_writer_put_f32(writer, "half", 1, values, 2, &error),
                     DIDI_NUMERIC);
    assert_string_equal(error.subject, "half");
    support_assert_contains(error.message, "element 2, 70000, is not finite in F16");
    assert_int_equal(safetensors_writer_put_f32(writer, "wide", 0, values, 4, &error),
                     DIDI_NUMERIC);
    support_assert_contains(error.message, "element 2");
    assert_int_equal(safetensors_writer_put_f32(writer, "brain", 0, values + 4, 1, &error),
                     DIDI_NUMERIC);
    assert_int_equal(safetensors_writer_put_f32(writer, "b", 6, values, 0, &error), DIDI_OK);
    safetensors_writer_abort(writer);
    assert_int_equal(support_entries(directory), 0);
}

/* Every pass through a point is made to fail in turn: always an error, never a file. */
static void fail_each(int directory, const char *point, const char *errno_name, int expected)
{
    for (int nth = 1;; nth++) {
        char fault[48];
        snprintf(fault, sizeof(fault), "%s:%d:%s", point, nth, errno_name);
        assert_int_equal(fault_arm(fault), 0);
        didi_error error = {0};
        safetensors_writer *writer = NULL;
        int status = create(directory, "f", &writer, &error);
        if (status == DIDI_OK) {
            status = put_all(writer, &error);
            if (status != DIDI_OK)
                safetensors_writer_abort(writer);
            else
                status = safetensors_writer_close(writer, true, &error);
        }
        if (!fault_all_fired()) {
            assert_int_equal(status, DIDI_OK);
            assert_int_equal(unlinkat(directory, "f", 0), 0);
            assert_true(nth > 1);
            return;
        }
        assert_int_equal(status, expected);
        assert_int_equal(support_entries(directory), 0);
    }
}

static void failed_writes_leave_no_file(void **state)
{
    int directory = support_directory(state);
    fail_each(directory, "pwrite", "ENOSPC", DIDI_DISK_FULL);
    fail_each(directory, "pwrite", "EIO", DIDI_IO);
    fail_each(directory, "fsync", "EIO", DIDI_IO);
    fail_each(directory, "fsync", "EDQUOT", DIDI_DISK_FULL);
    fail_each(directory, "alloc", "ENOMEM", DIDI_NO_MEMORY);
}

enum { THREADS = 4, ROWS = 50000 };
static const uint64_t long_shape[] = {(uint64_t)THREADS * ROWS};

typedef struct part {
    safetensors_writer *writer;
    uint64_t index;
    int status;
    float values[ROWS];
} part;

static void *put_part(void *argument)
{
    part *self = argument;
    uint64_t first = self->index * ROWS;
    for (size_t i = 0; i < ROWS; i++)
        self->values[i] = (float)(first + i);
    self->status = safetensors_writer_put_f32(self->writer, "t", first, self->values, ROWS, NULL);
    return NULL;
}

static void threads_may_put_side_by_side(void **state)
{
    int directory = support_directory(state);
    static const safetensors_layout_entry entry = {"t", DIDI_DTYPE_F64, 1, long_shape};
    static const safetensors_contents contents = {.entries = &entry, .count = 1};
    didi_error error = {0};
    safetensors_writer *writer = NULL;
    assert_int_equal(safetensors_writer_create(directory, "f", &contents, &writer, &error),
                     DIDI_OK);
    pthread_t threads[THREADS];
    part *parts = support_allocate(THREADS * sizeof(*parts));
    for (size_t i = 0; i < THREADS; i++) {
        parts[i].writer = writer;
        parts[i].index = i;
        assert_int_equal(pthread_create(&threads[i], NULL, put_part, &parts[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(parts[i].status, DIDI_OK);
    }
    free(parts);
    assert_int_equal(safetensors_writer_close(writer, true, &error), DIDI_OK);
    int fd = -1;
    safetensors_header *header = read_back(directory, "f", &fd);
    const safetensors_tensor *tensor = safetensors_header_at(header, 0);
    double *values = support_allocate(tensor->bytes);
    assert_int_equal(file_pread_all(fd, values, tensor->bytes, tensor->offset, "f", &error),
                     DIDI_OK);
    for (size_t i = 0; i < tensor->elements; i++)
        assert_true(values[i] == (double)i);
    free(values);
    safetensors_header_free(header);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(a_file_is_read_back_in_the_reference_order),
        support_test(an_empty_file_is_a_file),
        support_test(an_existing_file_is_left_alone),
        support_test(layouts_the_reader_would_refuse_are_refused),
        support_test(puts_are_checked),
        support_test(failed_writes_leave_no_file),
        support_test(threads_may_put_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
