/* SPDX-License-Identifier: Apache-2.0 */
/* What may be shown of text from outside, and how the rest is escaped. */
#include "src/base/base.h"
#include "tests/unit/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text, *shown;
} shown_rows[] = {
    {"", ""},
    {"plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80",
     "plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"},
    {"a\x1b[31m\r\n\t\x7f", "a\\u{1b}[31m\\u{d}\\u{a}\\u{9}\\u{7f}"},
    {"\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0", "\\u{80}\\u{9b}\\u{9f}\xc2\xa0"},
    {"\xd8\x9c\xe2\x80\x8e\xe2\x80\x8f", "\\u{61c}\\u{200e}\\u{200f}"},
    {"\xe2\x80\xaa\xe2\x80\xab\xe2\x80\xac\xe2\x80\xad\xe2\x80\xae",
     "\\u{202a}\\u{202b}\\u{202c}\\u{202d}\\u{202e}"},
    {"\xe2\x81\xa6\xe2\x81\xa7\xe2\x81\xa8\xe2\x81\xa9", "\\u{2066}\\u{2067}\\u{2068}\\u{2069}"},
    {"\xe2\x80\x8b\xe2\x80\x8c\xe2\x80\x8d\xe2\x81\xa0\xef\xbb\xbf",
     "\\u{200b}\\u{200c}\\u{200d}\\u{2060}\\u{feff}"},
    {"\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaf", "\\u{2028}\\u{2029}\xe2\x80\xaf"},
    {"\xf3\xa0\x80\x81", "\\u{e0001}"},
    /* not UTF-8: a lone byte, an overlong form, a surrogate, a cut character */
    {"\xff", "\\u{dcff}"},
    {"\xc0\xaf", "\\u{dcc0}\\u{dcaf}"},
    {"\xed\xa0\x80", "\\u{dced}\\u{dca0}\\u{dc80}"},
    {"x\xe2\x82", "x\\u{dce2}\\u{dc82}"},
    /* what is escaped already stays as it is */
    {"\\u{1b}", "\\u{1b}"},
};

static void test_all_that_may_trick_is_escaped(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shown_rows / sizeof shown_rows[0]; i++) {
        char copy[128];
        char *whole = text_printable(shown_rows[i].text);
        assert_string_equal(whole, shown_rows[i].shown);
        free(whole);
        text_copy_printable(copy, sizeof copy, shown_rows[i].text);
        assert_string_equal(copy, shown_rows[i].shown);
    }
}

static void test_a_copy_is_cut_between_characters(void **state)
{
    char copy[16];
    (void)state;
    text_copy_printable(copy, 3, "a\xc3\xa4z");
    assert_string_equal(copy, "a");
    text_copy_printable(copy, 8, "a\x1bz"); /* the escape takes six bytes */
    assert_string_equal(copy, "a\\u{1b}");
    text_copy_printable(copy, 7, "a\x1bz");
    assert_string_equal(copy, "a");
    text_copy_printable(copy, 1, "a");
    assert_string_equal(copy, "");
}

static void test_code_points_are_read(void **state)
{
    (void)state;
    assert_int_equal(text_code_point("A", 1), 0x41);
    assert_int_equal(text_code_point("\xc3\xa4", 2), 0xe4);
    assert_int_equal(text_code_point("\xe2\x82\xac", 3), 0x20ac);
    assert_int_equal(text_code_point("\xf0\x9f\x98\x80", 4), 0x1f600);
}

static void test_a_stream_that_was_refused_memory_gives_no_text(void **state)
{
    (void)state;
    int nth = 0;
    for (bool fired = true; fired;) {
        char fault[32];
        size_t bytes = 0;
        snprintf(fault, sizeof fault, "alloc:%d", ++nth);
        assert_int_equal(fault_arm(fault), 0);
        text_stream *stream = text_stream_open();
        for (int i = 0; i < 10000 && stream != NULL; i++)
            fprintf(text_stream_file(stream), "%04d,", i);
        if (stream != NULL)
            text_stream_bytes(stream); /* a flush that failed is not forgotten */
        char *text = stream != NULL ? text_stream_close(stream, &bytes) : NULL;
        fired = fault_all_fired();
        assert_int_equal(text == NULL, fired);
        if (text != NULL) {
            assert_int_equal(bytes, 50000);
            assert_int_equal(strlen(text), bytes);
            for (int i = 0; i < 10000; i++)
                assert_int_equal(atoi(text + (size_t)i * 5), i);
        }
        free(text);
    }
    assert_true(nth > 4);
    assert_int_equal(fault_arm(NULL), 0);
}

static void test_a_stream_of_nothing_is_the_empty_text(void **state)
{
    (void)state;
    size_t bytes = 1;
    char *text = text_stream_close(text_stream_open(), &bytes);
    assert_string_equal(text, "");
    assert_int_equal(bytes, 0);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_that_may_trick_is_escaped),
        cmocka_unit_test(test_a_copy_is_cut_between_characters),
        cmocka_unit_test(test_code_points_are_read),
        cmocka_unit_test(test_a_stream_that_was_refused_memory_gives_no_text),
        cmocka_unit_test(test_a_stream_of_nothing_is_the_empty_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
