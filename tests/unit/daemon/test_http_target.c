/* SPDX-License-Identifier: Apache-2.0 */
/* Request targets, ranges and lists of ETags. */
#include "daemon/http/range.h"
#include "daemon/http/target.h"
#include "tests/unit/support.h"

#include <string.h>

static void targets_are_split_and_decoded(void **state)
{
    http_target target;
    (void)state;
    assert_null(http_target_parse("/", &target));
    assert_int_equal(target.segment_count, 0);
    assert_null(http_target_parse("/v1/a%20b/%C3%A4?x=1+2&y&z=%2F%3d&", &target));
    assert_int_equal(target.segment_count, 3);
    assert_string_equal(target.segments[1], "a b");
    assert_string_equal(target.segments[2], "\xc3\xa4");
    assert_int_equal(target.parameter_count, 3);
    assert_string_equal(target.parameters[0].value, "1 2");
    assert_string_equal(target.parameters[1].value, "");
    assert_string_equal(target.parameters[2].value, "/=");
}

static void a_slash_at_the_end_is_told(void **state)
{
    http_target target;
    (void)state;
    assert_null(http_target_parse("/", &target));
    assert_false(target.is_folder);
    assert_null(http_target_parse("/ui/?a=1", &target));
    assert_true(target.is_folder);
    assert_int_equal(target.segment_count, 1);
    assert_null(http_target_parse("/ui", &target));
    assert_false(target.is_folder);
}

static void bad_targets_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "*",
        "v1",
        "http://h/",
        "//",
        "/a//b",
        "/a//",
        "/.",
        "/a/..",
        "/%2e",
        "/%2E%2e/a",
        "/%00",
        "/a%2fb",
        "/a%5Cb",
        "/a\\b",
        "/a#b",
        "/a b",
        "/%4",
        "/%",
        "/%zz",
        "/\xc3\xa4",
        "/%c3",
        "/%0a",
        "/%7f",
        "/?a=1&a=2",
        "/?a=%00",
        "/?%zz",
        "/?a=%ff",
        "/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5",
        "/?a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q",
    };
    char text[HTTP_TARGET_BYTES_MAX + 8];
    http_target target;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (http_target_parse(bad[i], &target) == NULL)
            fail_msg("%s was taken", bad[i]);
    memset(text, 'a', sizeof text);
    text[0] = '/';
    text[sizeof text - 1] = '\0';
    assert_non_null(http_target_parse(text, &target));
    text[HTTP_TARGET_BYTES_MAX - 2] = '\0';
    assert_null(http_target_parse(text, &target));
}

static void numbers_are_strict(void **state)
{
    static const char *const bad[] = {"",   "-1",  "+1",  " 1", "1 ",
                                      "01", "1.0", "0x1", "11", "99999999999999999999999"};
    long long number = 7;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(http_number_parse(bad[i], 1, 10, &number));
    assert_false(http_number_parse("0", 1, 10, &number));
    assert_false(http_number_parse("2", 0, 1, &number));
    assert_int_equal(number, 7);
    assert_true(http_number_parse("10", 1, 10, &number));
    assert_int_equal(number, 10);
    assert_true(http_number_parse("9223372036854775807", 0, INT64_MAX, &number));
    assert_true(number == INT64_MAX);
    assert_false(http_number_parse("9223372036854775808", 0, INT64_MAX, &number));
}

static void ranges(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
        http_range_kind kind;
        uint64_t first, last;
    } cases[] = {
        {NULL, 10, HTTP_RANGE_WHOLE, 0, 0},
        {"bytes=0-0", 10, HTTP_RANGE_PART, 0, 0},
        {"bytes=2-", 10, HTTP_RANGE_PART, 2, 9},
        {"bytes=2-99", 10, HTTP_RANGE_PART, 2, 9},
        {"bytes=-3", 10, HTTP_RANGE_PART, 7, 9},
        {"bytes=-30", 10, HTTP_RANGE_PART, 0, 9},
        {"Bytes= 1-2 ", 10, HTTP_RANGE_PART, 1, 2},
        {"bytes=1-18446744073709551616", 10, HTTP_RANGE_PART, 1, 9},
        {"bytes=10-", 10, HTTP_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=18446744073709551616-", 10, HTTP_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 10, HTTP_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-", 0, HTTP_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-1", 0, HTTP_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=3-2", 10, HTTP_RANGE_WHOLE, 0, 0},
        {"bytes=-", 10, HTTP_RANGE_WHOLE, 0, 0},
        {"bytes=", 10, HTTP_RANGE_WHOLE, 0, 0},
        {"bytes=1", 10, HTTP_RANGE_WHOLE, 0, 0},
        {"bytes=0-1,2-3", 10, HTTP_RANGE_WHOLE, 0, 0},
        {"bytes=--1", 10, HTTP_RANGE_WHOLE, 0, 0},
        {"lines=0-1", 10, HTTP_RANGE_WHOLE, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t first = 0;
        uint64_t last = 0;
        assert_int_equal(http_range_parse(cases[i].text, cases[i].bytes, &first, &last),
                         cases[i].kind);
        assert_int_equal(first, cases[i].first);
        assert_int_equal(last, cases[i].last);
    }
}

static void etags(void **state)
{
    (void)state;
    assert_true(http_etag_in_list("\"a\"", "\"a\"", false));
    assert_true(http_etag_in_list(" \"b\" , \"a\"", "\"a\"", false));
    assert_true(http_etag_in_list("*", "\"a\"", false));
    assert_true(http_etag_in_list("W/\"a\"", "\"a\"", true));
    assert_false(http_etag_in_list("W/\"a\"", "\"a\"", false));
    assert_false(http_etag_in_list("\"ab\"", "\"a\"", true));
    assert_false(http_etag_in_list("", "\"a\"", true));
    assert_false(http_etag_in_list("a", "\"a\"", true));
    assert_false(http_etag_in_list("\"a", "\"a\"", true));
    assert_false(http_etag_in_list("\"b\" \"a\"", "\"a\"", true));
    assert_false(http_etag_in_list("*, \"b\"", "\"a\"", true));
    assert_true(http_etag_allows_range(NULL, "\"a\""));
    assert_true(http_etag_allows_range("\"a\"", "\"a\""));
    assert_false(http_etag_allows_range("W/\"a\"", "\"a\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_split_and_decoded),
        cmocka_unit_test(a_slash_at_the_end_is_told),
        cmocka_unit_test(bad_targets_are_refused),
        cmocka_unit_test(numbers_are_strict),
        cmocka_unit_test(ranges),
        cmocka_unit_test(etags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
