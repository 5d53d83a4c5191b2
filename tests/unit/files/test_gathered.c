/* SPDX-License-Identifier: Apache-2.0 */
/* Gathered tensors: written as one, found by name, and hostile bytes refused. */
#include "src/base/file.h"
#include "src/files/files.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const uint64_t three[] = {3};
static const uint64_t two[] = {2};
/* The last two have the same key. */
static const safetensors_layout_entry entries[] = {
    {"a.delta_packed", DIDI_DTYPE_U8, 1, three},
    {"wide", DIDI_DTYPE_F32, 1, two},
    {"b.expert_packed", DIDI_DTYPE_U8, 1, two},
    {"x4210234.expert_packed", DIDI_DTYPE_U8, 1, two},
    {"x6250448.expert_packed", DIDI_DTYPE_U8, 1, three},
};
enum { ENTRIES = sizeof entries / sizeof *entries };
static const bool gathered_ones[ENTRIES] = {true, false, true, true, true};
static const safetensors_contents contents = {
    .entries = entries, .count = ENTRIES, .gathered = gathered_ones, .gathered_name = "parts"};

typedef struct sample {
    int fd;
    safetensors_header *header;
    gathered *parts;
} sample;

static sample sample_write(void **state)
{
    sample self = {0};
    int at = support_directory(state);
    didi_error error = {0};
    safetensors_writer *writer = NULL;
    static const float values[] = {1, 2};
    (void)unlinkat(at, "f", 0);
    assert_int_equal(safetensors_writer_create(at, "f", &contents, &writer, &error), DIDI_OK);
    for (size_t i = 0; i < ENTRIES; i++) {
        const char bytes[] = {(char)i, (char)(i + 10), (char)(i + 20)};
        int status = entries[i].dtype == DIDI_DTYPE_F32
                         ? safetensors_writer_put_f32(writer, entries[i].name, 0, values, 2, &error)
                         : safetensors_writer_put_bytes(writer, entries[i].name, 0, bytes,
                                                        entries[i].shape[0], &error);
        assert_int_equal(status, DIDI_OK);
    }
    assert_int_equal(safetensors_writer_put_bytes(writer, "b.expert_packed", 1, "12", 2, &error),
                     DIDI_INVALID);
    assert_int_equal(safetensors_writer_close(writer, false, &error), DIDI_OK);
    self.fd = openat(at, "f", O_RDWR | O_CLOEXEC);
    assert_int_equal(safetensors_header_read(self.fd, "f", &self.header, &error), DIDI_OK);
    return self;
}

static void sample_clear(sample *self)
{
    gathered_free(self->parts);
    safetensors_header_free(self->header);
    close(self->fd);
}

static int open_parts(sample *self, didi_error *error)
{
    return gathered_open(self->fd, "f", safetensors_header_find(self->header, "parts"),
                         &self->parts, error);
}

static void parts_are_found_by_name(void **state)
{
    sample self = sample_write(state);
    didi_error error = {0};
    uint64_t bytes = 0;
    assert_int_equal(safetensors_layout_bytes(&contents, &bytes, &error), DIDI_OK);
    assert_int_equal(bytes, lseek(self.fd, 0, SEEK_END));
    assert_int_equal(safetensors_header_count(self.header), 3); /* wide, parts, one of the twins */
    assert_int_equal(open_parts(&self, &error), DIDI_OK);
    for (size_t i = 0; i < ENTRIES; i++) {
        unsigned char byte = 0;
        const safetensors_tensor *found = safetensors_header_find(self.header, entries[i].name);
        if (found == NULL)
            found = gathered_find(self.parts, entries[i].name);
        assert_non_null(found);
        assert_int_equal(found->elements, entries[i].shape[0]);
        assert_int_equal(found->dtype, entries[i].dtype);
        if (found->dtype != DIDI_DTYPE_U8)
            continue;
        assert_int_equal(pread(self.fd, &byte, 1, (off_t)found->offset + 1), 1);
        assert_int_equal(byte, i + 10);
    }
    assert_null(gathered_find(self.parts, "b.delta_packed"));
    assert_null(gathered_find(NULL, "b.delta_packed"));
    sample_clear(&self);
}

static void keys_are_the_documented_ones(void **state)
{
    (void)state;
    assert_true(gathered_key("") ==
                (0xCBF29CE484222325U ^ 0xCBF29CE484222325U >> 44) % (1ULL << 44));
    assert_true(gathered_key(entries[3].name) == gathered_key(entries[4].name));
    assert_true(gathered_key("a") != gathered_key("b"));
}

/* Overwrites bytes of the index, and expects the file to be refused. */
static void expect_format(void **state, size_t at, const void *bytes, size_t count)
{
    sample self = sample_write(state);
    didi_error error = {0};
    uint64_t offset = safetensors_header_find(self.header, "parts")->offset;
    assert_int_equal(pwrite(self.fd, bytes, count, (off_t)(offset + at)), (ssize_t)count);
    assert_int_equal(open_parts(&self, &error), DIDI_FORMAT);
    assert_null(self.parts);
    sample_clear(&self);
}

static void hostile_indexes_are_refused(void **state)
{
    static const uint8_t much[4] = {0xFF, 0xFF, 0xFF, 0xFF};
    static const uint8_t few[4] = {1, 0, 0, 0};
    static const uint8_t none[4] = {0};
    static const uint8_t zeros[16] = {0};
    expect_format(state, 0, much, sizeof much);
    expect_format(state, 0, few, sizeof few);
    expect_format(state, 0, none, sizeof none);
    expect_format(state, 4, zeros, 8);    /* a part of no bytes */
    expect_format(state, 4, much, 2);     /* longer than there is room */
    expect_format(state, 4 + 7, much, 1); /* keys that fall */
}

static void what_is_no_part_is_refused(void **state)
{
    (void)state;
    static const uint64_t large[] = {1 << GATHERED_LENGTH_BITS};
    static const uint64_t nothing[] = {0};
    const safetensors_layout_entry wrong[] = {{"l", DIDI_DTYPE_U8, 1, large},
                                              {"n", DIDI_DTYPE_U8, 1, nothing},
                                              {"f", DIDI_DTYPE_F32, 1, two}};
    static const bool yes[] = {true};
    for (size_t i = 0; i < 3; i++) {
        didi_error error = {0};
        uint64_t bytes = 0;
        safetensors_contents bad = {
            .entries = &wrong[i], .count = 1, .gathered = yes, .gathered_name = "parts"};
        assert_int_equal(safetensors_layout_bytes(&bad, &bytes, &error), DIDI_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(parts_are_found_by_name),
        cmocka_unit_test(keys_are_the_documented_ones),
        support_test(hostile_indexes_are_refused),
        cmocka_unit_test(what_is_no_part_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
