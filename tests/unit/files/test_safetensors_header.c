/* SPDX-License-Identifier: Apache-2.0 */
/* Headers good and bad: each bad one must be refused by name. */
#include "src/base/fault.h"
#include "src/files/safetensors.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int parse(const char *json, uint64_t data_bytes, safetensors_header **ret_header,
                 didi_error *error)
{
    uint64_t bytes = strlen(json);
    return safetensors_header_parse(json, bytes, 8 + bytes + data_bytes, "m/f", ret_header, error);
}

static void a_header_tells_its_tensors(void **state)
{
    (void)state;
    static const char json[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"a\":\"\"},"
        "\"z\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"a\":{\"data_offsets\":[24,28],\"dtype\":\"BF16\",\"shape\":[1,2,1]},"
        "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[28,36]},"
        "\"empty\":{\"dtype\":\"F16\",\"shape\":[4,0],\"data_offsets\":[28,28]}}  ";
    safetensors_header *header = NULL;
    didi_error error = {0};
    assert_int_equal(parse(json, 36, &header, &error), DIDI_OK);
    assert_int_equal(safetensors_header_count(header), 4);
    static const char *const order[] = {"z", "a", "empty", "scalar"};
    static const uint64_t offsets[] = {0, 24, 28, 28};
    for (size_t i = 0; i < 4; i++) {
        const safetensors_tensor *tensor = safetensors_header_at(header, i);
        assert_string_equal(tensor->name, order[i]);
        assert_true(tensor->offset == 8 + sizeof(json) - 1 + offsets[i]);
        assert_ptr_equal(safetensors_header_find(header, order[i]), tensor);
    }
    const safetensors_tensor *tensor = safetensors_header_find(header, "z");
    assert_int_equal(tensor->dtype, DIDI_DTYPE_F32);
    assert_int_equal(tensor->dimensions, 2);
    assert_true(tensor->shape[0] == 2 && tensor->shape[1] == 3);
    assert_true(tensor->elements == 6 && tensor->bytes == 24);
    tensor = safetensors_header_find(header, "scalar");
    assert_true(tensor->dimensions == 0 && tensor->elements == 1 && tensor->bytes == 8);
    tensor = safetensors_header_find(header, "empty");
    assert_true(tensor->elements == 0 && tensor->bytes == 0 && tensor->shape[0] == 4);
    assert_null(safetensors_header_find(header, "b"));
    assert_null(safetensors_header_find(header, "__metadata__"));
    assert_string_equal(safetensors_header_metadata(header, "format"), "pt");
    assert_string_equal(safetensors_header_metadata(header, "a"), "");
    assert_null(safetensors_header_metadata(header, "b"));
    safetensors_header_free(header);
    safetensors_header_free(NULL);
}

#define ONE "\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"

static void unusual_headers_are_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        uint64_t data_bytes;
        size_t count;
    } cases[] = {
        {"{}", 0, 0},
        {"{\"__metadata__\":{}}", 0, 0},
        {"{\"__metadata__\":null}", 0, 0},
        {" \n\t{" ONE ",\"__metadata__\":{\"k\":\"v\\n\"}} \n ", 4, 1},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":{\"y\":[1]}}}", 4,
         1},
        {"{\"\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, 1},
        {"{\"t\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, 1},
        {"{\"\\u00e4/..\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3, 1},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[0,18446744073709551615],\"data_offsets\":[0,0]}}", 0,
         1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        safetensors_header *header = NULL;
        didi_error error = {0};
        if (parse(cases[i].json, cases[i].data_bytes, &header, &error) != DIDI_OK)
            fail_msg("%s: %s", cases[i].json, error.message);
        assert_int_equal(safetensors_header_count(header), cases[i].count);
        safetensors_header_free(header);
    }
}

/* A header of one tensor t with these fields. */
#define FIELDS(fields) "{\"t\":{" fields "}}"
#define TENSOR(name, begin, end)                                                                   \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[" begin "," end "]}"

typedef struct bad_header {
    const char *json;
    uint64_t data_bytes;
    const char *subject;
    const char *message;
} bad_header;

static const bad_header bad_headers[] = {
    /* text */
    {"", 0, "m/f", "an object is expected"},
    {"[]", 0, "m/f", "an object is expected"},
    {"{" ONE, 4, "m/f", "',' or '}'"},
    {"{" ONE "}x", 4, "m/f", "white space"},
    {"{" ONE ",}", 4, "m/f", "member's name"},
    {"{\"\xFF\":1}", 0, "m/f", "not UTF-8"},
    {"{\"a\\u0000b\":1}", 0, "m/f", "U+0000"},
    {"{\"a\\nb\":{}}", 0, "m/f", "control character in the tensor name 'a\\u{a}b'"},
    {"{\"a\x7F\":{}}", 0, "m/f", "control character"},
    /* types */
    {"{\"t\":1}", 0, "m/f: t", "an object is expected"},
    {FIELDS("\"dtype\":1"), 0, "m/f: t", "a string is expected"},
    {FIELDS("\"shape\":4"), 0, "m/f: t", "an array is expected"},
    {FIELDS("\"shape\":[4.0]"), 0, "m/f: t", "non-negative integer"},
    {FIELDS("\"shape\":[-1]"), 0, "m/f: t", "non-negative integer"},
    {FIELDS("\"shape\":[\"4\"]"), 0, "m/f: t", "non-negative integer"},
    {FIELDS("\"shape\":[18446744073709551616]"), 0, "m/f: t", "above"},
    {FIELDS("\"data_offsets\":[-1,4]"), 0, "m/f: t", "non-negative integer"},
    {FIELDS("\"data_offsets\":[4]"), 0, "m/f: t", "fewer than two"},
    {FIELDS("\"data_offsets\":[0,4,8]"), 0, "m/f: t", "more than two"},
    {FIELDS("\"x\":[1"), 0, "m/f: t", "',' or ']'"},
    {"{\"__metadata__\":[]}", 0, "m/f", "an object is expected"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "m/f", "a string is expected"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "m/f", "a string is expected"},
    /* fields */
    {FIELDS("\"shape\":[1],\"data_offsets\":[0,4]"), 4, "m/f: t", "dtype is missing"},
    {FIELDS("\"dtype\":\"F32\",\"data_offsets\":[0,4]"), 4, "m/f: t", "shape is missing"},
    {FIELDS("\"dtype\":\"F32\",\"shape\":[1]"), 4, "m/f: t", "data_offsets is missing"},
    {FIELDS("\"dtype\":\"F33\""), 4, "m/f: t", "unknown dtype 'F33'"},
    {FIELDS("\"dtype\":\"f32\""), 4, "m/f: t", "unknown dtype 'f32'"},
    {FIELDS("\"dtype\":\"F32\",\"dtype\":\"F32\""), 4, "m/f: t", "duplicate field dtype"},
    {FIELDS("\"shape\":[1],\"shape\":[1]"), 4, "m/f: t", "duplicate field shape"},
    /* duplicates */
    {"{" ONE "," ONE "}", 4, "m/f: t", "duplicate tensor name"},
    {"{" TENSOR("t", "0", "4") "," TENSOR("\\u0074", "4", "8") "}", 8, "m/f: t", "duplicate"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "m/f", "duplicate __metadata__"},
    {"{\"__metadata__\":{\"a\":\"1\",\"b\":\"\",\"a\":\"2\"}}", 0, "m/f", "duplicate key 'a'"},
    /* offsets and sizes */
    {FIELDS("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]"), 4, "m/f: t", "end before"},
    {"{" TENSOR("a", "0", "4") "," TENSOR("b", "8", "12") "}", 12, "m/f: b", "a hole"},
    {"{" TENSOR("a", "4", "8") "}", 8, "m/f: a", "a hole"},
    {"{" TENSOR("a", "0", "4") "," TENSOR("b", "2", "6") "}", 6, "m/f: b", "overlap"},
    {"{" TENSOR("a", "0", "4") "," TENSOR("b", "0", "4") "}", 4, "m/f: b", "overlap"},
    {"{" TENSOR("a", "0", "4") "}", 3, "m/f: a", "beyond the end of the file"},
    {"{" TENSOR("a", "0", "4") "}", 5, "m/f", "1 bytes after the last tensor"},
    {"{}", 1, "m/f", "1 bytes after the last tensor"},
    {FIELDS("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, "m/f: t", "make 8 bytes"},
    {FIELDS("\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,4]"), 4, "m/f: t", "make 0 bytes"},
    {FIELDS("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]"), 2, "m/f: t", "whole bytes"},
    {FIELDS("\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]"), 0,
     "m/f: t", "shape overflows"},
    {FIELDS("\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]"), 0,
     "m/f: t", "data overflows"},
    {FIELDS("\"dtype\":\"U8\",\"shape\":[2305843009213693951],"
            "\"data_offsets\":[0,2305843009213693951]"),
     4, "m/f: t", "beyond the end"},
    {FIELDS("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[18446744073709551615,3]"), 4,
     "m/f: t", "end before"},
};

static void bad_headers_are_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_headers) / sizeof(bad_headers[0]); i++) {
        const bad_header *bad = &bad_headers[i];
        safetensors_header *header = NULL;
        didi_error error = {0};
        if (parse(bad->json, bad->data_bytes, &header, &error) != DIDI_FORMAT)
            fail_msg("%s passed", bad->json);
        assert_null(header);
        assert_int_equal(error.status, DIDI_FORMAT);
        if (strcmp(error.subject, bad->subject) != 0)
            fail_msg("%s: subject %s, not %s", bad->json, error.subject, bad->subject);
        support_assert_contains(error.message, bad->message);
    }
}

static void counts_and_lengths_are_bounded(void **state)
{
    (void)state;
    didi_error error = {0};
    safetensors_header *header = NULL;
    enum { NAME = SAFETENSORS_NAME_BYTES_MAX };
    char *json = support_allocate(NAME + 256);
    for (int extra = 0; extra <= 1; extra++) {
        int length = NAME + extra;
        char *name = support_allocate(NAME + 2);
        memset(name, 'n', (size_t)length);
        snprintf(json, NAME + 256,
                 "{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
        int status = parse(json, 0, &header, &error);
        assert_int_equal(status, extra == 0 ? DIDI_OK : DIDI_FORMAT);
        if (status == DIDI_OK)
            safetensors_header_free(header);
        else
            support_assert_contains(error.message, "4096 bytes: nnn");
        free(name);
    }
    for (int dimensions = SAFETENSORS_DIMENSIONS_MAX; dimensions <= SAFETENSORS_DIMENSIONS_MAX + 1;
         dimensions++) {
        char ones[128];
        for (int i = 0; i < 2 * dimensions; i++)
            ones[i] = i % 2 == 0 ? '1' : ',';
        snprintf(json, NAME + 256,
                 "{\"t\":{\"dtype\":\"U8\",\"shape\":[%.*s],\"data_offsets\":[0,1]}}",
                 2 * dimensions - 1, ones);
        int status = parse(json, 1, &header, &error);
        assert_int_equal(status, dimensions == SAFETENSORS_DIMENSIONS_MAX ? DIDI_OK : DIDI_FORMAT);
        if (status == DIDI_OK)
            safetensors_header_free(header);
        else
            support_assert_contains(error.message, "more than 32 dimensions");
    }
    free(json);
}

static void too_many_tensors_are_refused(void **state)
{
    (void)state;
    size_t count = SAFETENSORS_TENSORS_MAX + 1;
    if (SUPPORT_SANITIZED) /* a million take ten seconds there */
        return;
    char *json = support_allocate(count * 64);
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        support_append(json, count * 64, &bytes,
                       "%c\"%07zu\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,0]}",
                       i == 0 ? '{' : ',', i);
    support_append(json, count * 64, &bytes, "}");
    safetensors_header *header = NULL;
    didi_error error = {0};
    assert_int_equal(safetensors_header_parse(json, bytes, 8 + bytes, "m/f", &header, &error),
                     DIDI_FORMAT);
    support_assert_contains(error.message, "more than 1000000 tensors");
    free(json);
}

static void too_much_metadata_is_refused(void **state)
{
    (void)state;
    size_t capacity = ((size_t)SAFETENSORS_METADATA_PAIRS_MAX + 2) * 32;
    char *json = support_allocate(capacity);
    size_t bytes = 0;
    support_append(json, capacity, &bytes, "{\"__metadata__\":{\"k\":\"\"");
    for (size_t i = 0; i < SAFETENSORS_METADATA_PAIRS_MAX; i++)
        support_append(json, capacity, &bytes, ",\"%zu\":\"\"", i);
    support_append(json, capacity, &bytes, "}}");
    safetensors_header *header = NULL;
    didi_error error = {0};
    assert_int_equal(parse(json, 0, &header, &error), DIDI_FORMAT);
    support_assert_contains(error.message, "more than 65536 keys");
    free(json);
}

static int read_file(int directory, const char *name, safetensors_header **ret_header,
                     didi_error *error)
{
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    int status = safetensors_header_read(fd, "m/f", ret_header, error);
    close(fd);
    return status;
}

static void files_are_read_whole_or_refused(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    safetensors_header *header = NULL;
    support_write_image(directory, "good", "{" ONE "}", 4);
    assert_int_equal(read_file(directory, "good", &header, &error), DIDI_OK);
    assert_int_equal(safetensors_header_count(header), 1);
    safetensors_header_free(header);
    header = NULL;
    static const struct {
        uint64_t length;
        off_t file_bytes;
        const char *message;
    } cases[] = {
        {2, 0, "too short"},
        {2, 7, "too short"},
        {2, 9, "a header of 2 bytes does not fit a file of 9"},
        {100, 12, "truncated"},
        {100000001, 200000000, "a header of 100000001 bytes is over the limit"},
        {UINT64_MAX, 12, "over the limit"},
        {(uint64_t)INT64_MAX + 1, 12, "over the limit"},
        {99999999, 200, "does not fit"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        support_write(directory, "bad", &cases[i].length, 8);
        int fd = openat(directory, "bad", O_RDWR | O_CLOEXEC);
        assert_int_equal(ftruncate(fd, cases[i].file_bytes), 0);
        close(fd);
        assert_int_equal(read_file(directory, "bad", &header, &error), DIDI_FORMAT);
        assert_string_equal(error.subject, "m/f");
        support_assert_contains(error.message, cases[i].message);
    }
    assert_int_equal(read_file(directory, ".", &header, &error), DIDI_FORMAT);
    support_assert_contains(error.message, "not a regular file");
    assert_int_equal(safetensors_header_read(-1, "m/f", &header, &error), DIDI_IO);
    assert_null(header);
}

static void every_failed_allocation_is_an_error(void **state)
{
    int directory = support_directory(state);
    support_write_image(directory, "f", "{\"__metadata__\":{\"a\":\"b\"}," ONE "}", 4);
    int nth = 1;
    for (;; nth++) {
        char fault[32];
        snprintf(fault, sizeof(fault), "alloc:%d", nth);
        assert_int_equal(fault_arm(fault), 0);
        safetensors_header *header = NULL;
        didi_error error = {0};
        int status = read_file(directory, "f", &header, &error);
        if (!fault_all_fired()) {
            assert_int_equal(status, DIDI_OK);
            safetensors_header_free(header);
            break;
        }
        assert_int_equal(status, DIDI_NO_MEMORY);
        assert_null(header);
    }
    assert_true(nth > 6);
}

/* Headers of random contents are read back as they were meant, whatever the order of their members.
 */
static void random_headers_are_read_back(void **state)
{
    (void)state;
    uint64_t sequence = 3;
    for (int round = 0; round < 300; round++) {
        char json[8192] = "{";
        size_t used = 1;
        uint64_t rows[20];
        uint64_t offset = 0;
        size_t count = (size_t)(support_random(&sequence) % 20);
        for (size_t i = 0; i < count; i++) {
            rows[i] = support_random(&sequence) % 5;
            used += (size_t)snprintf(
                json + used, sizeof(json) - used,
                "%s\"t%zu\":{\"dtype\":\"BF16\",\"shape\":[%d,3],\"data_offsets\":[%d,%d]}",
                i == 0 ? "" : ", ", i, (int)rows[i], (int)offset, (int)(offset + rows[i] * 6));
            offset += rows[i] * 6;
        }
        json[used] = '}';
        safetensors_header *header = NULL;
        didi_error error = {0};
        assert_int_equal(parse(json, offset, &header, &error), DIDI_OK);
        assert_int_equal(safetensors_header_count(header), count);
        for (size_t i = 0; i < count; i++) {
            char name[16];
            snprintf(name, sizeof(name), "t%zu", i);
            const safetensors_tensor *tensor = safetensors_header_find(header, name);
            assert_true(tensor->elements == rows[i] * 3 && tensor->shape[0] == rows[i]);
        }
        safetensors_header_free(header);
        /* A flipped byte may be refused or not, but never does harm. */
        for (int flip = 0; flip < 50; flip++) {
            char damaged[sizeof(json)];
            memcpy(damaged, json, sizeof(json));
            damaged[support_random(&sequence) % strlen(json)] ^= (char)(1 << flip % 8);
            header = NULL;
            (void)safetensors_header_parse(damaged, strlen(json), 8 + strlen(json) + offset, "m/f",
                                           &header, &error);
            safetensors_header_free(header);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_tells_its_tensors),
        cmocka_unit_test(unusual_headers_are_accepted),
        cmocka_unit_test(bad_headers_are_refused_by_name),
        cmocka_unit_test(counts_and_lengths_are_bounded),
        cmocka_unit_test(too_many_tensors_are_refused),
        cmocka_unit_test(too_much_metadata_is_refused),
        support_test(files_are_read_whole_or_refused),
        support_test(every_failed_allocation_is_an_error),
        cmocka_unit_test(random_headers_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
