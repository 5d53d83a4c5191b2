/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, text, memory and fault points. */
#include "src/base/error.h"
#include "src/base/fault.h"
#include "src/base/memory.h"
#include "src/base/text.h"
#include "tests/unit/support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void statuses_have_stable_names(void **state)
{
    (void)state;
    assert_string_equal(didi_status_name(DIDI_OK), "ok");
    assert_string_equal(didi_status_name(DIDI_FORMAT), "malformed_file");
    assert_string_equal(didi_status_name(DIDI_INTERNAL), "internal_error");
    assert_string_equal(didi_status_name(-1), "unknown");
    assert_string_equal(didi_status_name(DIDI_STATUS_COUNT), "unknown");
}

static void an_error_says_what_where_and_about_what(void **state)
{
    (void)state;
    didi_error error = {0};
    int line = __LINE__ + 1;
    assert_int_equal(didi_fail(&error, DIDI_FORMAT, "a/b", "header of %d bytes", 7), DIDI_FORMAT);
    assert_int_equal(error.status, DIDI_FORMAT);
    assert_int_equal(error.line, line);
    support_assert_contains(error.file, "test_base.c");
    assert_string_equal(error.subject, "a/b");
    assert_string_equal(error.message, "header of 7 bytes");
    assert_int_equal(didi_error_wrap(&error, "while %s", "reading"), DIDI_FORMAT);
    assert_string_equal(error.message, "while reading: header of 7 bytes");
    didi_error_blame(&error, error.subject, "tensor");
    assert_string_equal(error.subject, "a/b: tensor");
    /* An error may be made from its own texts. */
    assert_int_equal(didi_fail(&error, DIDI_IO, error.subject, "again: %s", error.message),
                     DIDI_IO);
    assert_string_equal(error.subject, "a/b: tensor");
    assert_string_equal(error.message, "again: while reading: header of 7 bytes");
}

static void an_error_may_be_null(void **state)
{
    (void)state;
    assert_int_equal(didi_fail(NULL, DIDI_BUDGET, NULL, "x"), DIDI_BUDGET);
    assert_int_equal(didi_fail_errno(NULL, ENOSPC, NULL, "x"), DIDI_DISK_FULL);
    assert_int_equal(didi_error_wrap(NULL, "x"), DIDI_INTERNAL);
    didi_error_blame(NULL, "x", "y");
}

static void errno_picks_the_status(void **state)
{
    (void)state;
    didi_error error = {0};
    assert_int_equal(didi_fail_errno(&error, EDQUOT, "f", "cannot write"), DIDI_DISK_FULL);
    assert_int_equal(didi_fail_errno(&error, ENOENT, "f", "cannot open"), DIDI_NOT_FOUND);
    assert_string_equal(error.message, "cannot open: No such file or directory");
    assert_int_equal(didi_fail_errno(&error, ENOTDIR, "f", "x"), DIDI_NOT_FOUND);
    assert_int_equal(didi_fail_errno(&error, ENOMEM, "f", "x"), DIDI_NO_MEMORY);
    assert_int_equal(didi_fail_errno(&error, EIO, "f", "x"), DIDI_IO);
}

static void long_and_dirty_texts_are_cut_and_cleaned(void **state)
{
    (void)state;
    didi_error error = {0};
    char text[4096];
    /* Three bytes each; neither capacity minus one is a multiple of three. */
    for (size_t i = 0; i + 3 < sizeof(text); i += 3)
        memcpy(text + i, "\xE2\x82\xAC", 4);
    (void)didi_fail(&error, DIDI_IO, text, "%s", text);
    assert_int_equal(strlen(error.subject), 510);
    assert_int_equal(strlen(error.message), 1023);
    assert_true(text_is_utf8(error.subject, strlen(error.subject)));
    (void)didi_fail(&error, DIDI_IO, "a\nb\x7F", "c\td\xFF\xE2\x82");
    assert_string_equal(error.subject, "a\\u{a}b\\u{7f}");
    assert_string_equal(error.message, "c\\u{9}d\\u{dcff}\\u{dce2}\\u{dc82}");
}

static void characters_are_judged_as_rfc_3629_does(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes, length;
    } cases[] = {
        {"", 0, 0},
        {"a", 1, 1},
        {"\x00", 1, 1},
        {"\x80", 1, 0},
        {"\xC3\xA4", 2, 2},
        {"\xC3\xA4", 1, 0},
        {"\xC0\x80", 2, 0},
        {"\xC1\xBF", 2, 0},
        {"\xE0\x9F\xBF", 3, 0},
        {"\xE0\xA0\x80", 3, 3},
        {"\xED\x9F\xBF", 3, 3},
        {"\xED\xA0\x80", 3, 0},
        {"\xEF\xBF\xBF", 3, 3},
        {"\xE2\x82\x41", 3, 0},
        {"\xF0\x8F\xBF\xBF", 4, 0},
        {"\xF0\x9F\x98\x80", 4, 4},
        {"\xF4\x8F\xBF\xBF", 4, 4},
        {"\xF4\x90\x80\x80", 4, 0},
        {"\xF5\x80\x80\x80", 4, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(text_character(cases[i].text, cases[i].bytes), cases[i].length);
}

static void allocations_check_overflow(void **state)
{
    (void)state;
    assert_null(memory_zeroed(SIZE_MAX / 2, 4));
    assert_null(memory_aligned(SIZE_MAX / 2, 4));
    assert_null(memory_aligned(SIZE_MAX - 8, 1));
    assert_null(memory_resized(NULL, SIZE_MAX / 2, 4));
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *zeroed = memory_zeroed(sizes[i], 1);
        char *aligned = memory_aligned(sizes[i], 1);
        assert_non_null(zeroed);
        assert_non_null(aligned);
        assert_int_equal((uintptr_t)aligned % 64, 0);
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(zeroed[j], 0);
        memset(aligned, 1, sizes[i]);
        free(zeroed);
        free(aligned);
    }
    char *text = memory_format("%s-%d", "x", 3);
    char *copy = memory_string(text);
    assert_string_equal(copy, "x-3");
    free(copy);
    free(text);
    assert_true(memory_multiply(UINT64_MAX, 2) == UINT64_MAX);
    assert_true(memory_multiply(3, 5) == 15);
    assert_true(memory_add(UINT64_MAX, 1) == UINT64_MAX);
    assert_true(memory_add(3, 5) == 8);
}

static void faults_fire_on_their_pass(void **state)
{
    (void)state;
    assert_int_equal(fault_at(FAULT_PWRITE), 0);
    assert_int_equal(fault_arm("pwrite:3:ENOSPC,alloc:1"), 0);
    assert_int_equal(fault_at(FAULT_PWRITE), 0);
    assert_int_equal(fault_at(FAULT_PWRITE), 0);
    assert_int_equal(fault_at(FAULT_FSYNC), 0);
    assert_int_equal(fault_all_fired(), 0);
    assert_int_equal(fault_at(FAULT_PWRITE), ENOSPC);
    assert_int_equal(fault_at(FAULT_PWRITE), 0);
    assert_null(memory_zeroed(1, 1));
    assert_int_equal(fault_all_fired(), 1);
    assert_int_equal(fault_arm("fsync:2+"), 0);
    assert_int_equal(fault_at(FAULT_FSYNC), 0);
    assert_int_equal(fault_at(FAULT_FSYNC), EIO);
    assert_int_equal(fault_at(FAULT_FSYNC), EIO);
    assert_int_equal(fault_arm("rename:1:13"), 0);
    assert_int_equal(fault_at(FAULT_RENAME), 13);
    assert_int_equal(fault_arm(""), 0);
    assert_int_equal(fault_at(FAULT_FSYNC), 0);
}

static void faults_that_do_not_parse_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "pwrite",     "pwrite:", "pwrite:0",       "pwrite:-1",  "pwrite:x",    "pwrite:1x",
        "pwrite:1++", "wrote:1", "pwrite:1:EWHAT", "pwrite:1:0", "pwrite:1:5x", "alloc:1,pwrite"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(fault_arm(bad[i]), -1);
        assert_int_equal(fault_at(FAULT_ALLOC), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses_have_stable_names),
        cmocka_unit_test(an_error_says_what_where_and_about_what),
        cmocka_unit_test(an_error_may_be_null),
        cmocka_unit_test(errno_picks_the_status),
        cmocka_unit_test(long_and_dirty_texts_are_cut_and_cleaned),
        cmocka_unit_test(characters_are_judged_as_rfc_3629_does),
        cmocka_unit_test(allocations_check_overflow),
        cmocka_unit_test(faults_fire_on_their_pass),
        cmocka_unit_test(faults_that_do_not_parse_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
