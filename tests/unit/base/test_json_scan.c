/* SPDX-License-Identifier: Apache-2.0 */
/* The scanner against the grammar, and against another reader of it. */
#include "src/base/fault.h"
#include "src/base/json_scan.h"
#include "tests/unit/support.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Scans a document of any shape: 0, or the status. */
static int scan_any(const char *text, size_t bytes, didi_error *error)
{
    json_scan *scan = NULL;
    int status = json_scan_new(text, bytes, "file", "header", &scan, error);
    if (status == DIDI_OK)
        status = json_scan_skip(scan, error);
    if (status == DIDI_OK)
        status = json_scan_end(scan, error);
    json_scan_free(scan);
    return status;
}

static void documents_of_the_grammar_pass(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}",
        "[]",
        " [ ] ",
        "null",
        "true",
        "false",
        "\"\"",
        "0",
        "-0",
        "-0.0e-7",
        "12.5E+3",
        "{\"a\":1,\"b\":[1,2,{\"c\":null}]}",
        "\t\n\r [1 , 2]\n",
        "\"\\u00e4\\ud83d\\ude00\\n\\/\"",
        "\"\xC3\xA4\xF0\x9F\x98\x80\"",
        "[[[[]]],{}]",
        "{\"\":{}}",
        "\"\x7F\"",
        "18446744073709551616",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        didi_error error = {0};
        if (scan_any(good[i], strlen(good[i]), &error) != DIDI_OK)
            fail_msg("%s: %s", good[i], error.message);
    }
}

static void documents_outside_the_grammar_fail(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{1:1}",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "{} {}",
        "nul",
        "nulll",
        "True",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x10",
        "NaN",
        "Infinity",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\ude00\"",
        "\"\\ud800\\ud800\"",
        "\"\\u0000\"",
        "\"\n\"",
        "\"\t\"",
        "\"\xFF\"",
        "\"\xC3\"",
        "\"\xC0\x80\"",
        "\"\xED\xA0\x80\"",
        "'a'",
        "/**/1",
        "\xEF\xBB\xBF{}",
        "[1],",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        didi_error error = {0};
        if (scan_any(bad[i], strlen(bad[i]), &error) != DIDI_FORMAT)
            fail_msg("%s passed", bad[i]);
        assert_string_equal(error.subject, "file");
        support_assert_contains(error.message, "header, byte ");
    }
    didi_error error = {0};
    assert_int_equal(scan_any("\"a\0b\"", 5, &error), DIDI_FORMAT);
    assert_int_equal(scan_any("{}\0", 3, &error), DIDI_FORMAT);
}

static void nesting_has_a_bound(void **state)
{
    (void)state;
    char text[4 * JSON_SCAN_DEPTH_MAX];
    didi_error error = {0};
    memset(text, '[', JSON_SCAN_DEPTH_MAX);
    memset(text + JSON_SCAN_DEPTH_MAX, ']', JSON_SCAN_DEPTH_MAX);
    assert_int_equal(scan_any(text, 2 * (size_t)JSON_SCAN_DEPTH_MAX, &error), DIDI_OK);
    memset(text, '[', sizeof(text));
    assert_int_equal(scan_any(text, sizeof(text), &error), DIDI_FORMAT);
    support_assert_contains(error.message, "nested too deeply");
}

static void values_are_what_the_text_says(void **state)
{
    (void)state;
    static const char text[] =
        " { \"k\\u00e9y\" : \"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u20AC\\ud83d\\ude00\" , \"n\" : "
        "[ 0 , 18446744073709551615 ] , \"z\" : null } ";
    json_scan *scan = NULL;
    didi_error error = {0};
    const char *string = NULL;
    const char *key = NULL;
    size_t bytes = 0;
    uint64_t number = 7;
    bool more = false;
    assert_int_equal(json_scan_new(text, sizeof(text) - 1, "f", "x", &scan, &error), DIDI_OK);
    assert_int_equal(json_scan_open(scan, '{', &error), DIDI_OK);
    assert_int_equal(json_scan_next(scan, '}', &more, &error), DIDI_OK);
    assert_true(more);
    assert_int_equal(json_scan_key(scan, &key, &bytes, &error), DIDI_OK);
    assert_int_equal(json_scan_string(scan, &string, &bytes, &error), DIDI_OK);
    assert_string_equal(key, "k\xC3\xA9y");
    assert_string_equal(string, "a\"\\/\b\f\n\r\t\xE2\x82\xAC\xF0\x9F\x98\x80");
    assert_int_equal(bytes, strlen(string));
    assert_int_equal(json_scan_next(scan, '}', &more, &error), DIDI_OK);
    assert_int_equal(json_scan_key(scan, &key, &bytes, &error), DIDI_OK);
    assert_int_equal(json_scan_open(scan, '[', &error), DIDI_OK);
    assert_int_equal(json_scan_next(scan, ']', &more, &error), DIDI_OK);
    assert_int_equal(json_scan_unsigned(scan, &number, &error), DIDI_OK);
    assert_true(number == 0);
    assert_int_equal(json_scan_next(scan, ']', &more, &error), DIDI_OK);
    assert_int_equal(json_scan_unsigned(scan, &number, &error), DIDI_OK);
    assert_true(number == UINT64_MAX);
    assert_int_equal(json_scan_next(scan, ']', &more, &error), DIDI_OK);
    assert_false(more);
    assert_int_equal(json_scan_next(scan, '}', &more, &error), DIDI_OK);
    assert_int_equal(json_scan_key(scan, &key, &bytes, &error), DIDI_OK);
    assert_true(json_scan_null(scan));
    assert_int_equal(json_scan_next(scan, '}', &more, &error), DIDI_OK);
    assert_false(more);
    assert_int_equal(json_scan_end(scan, &error), DIDI_OK);
    json_scan_detach(scan);
    assert_string_equal(string, "a\"\\/\b\f\n\r\t\xE2\x82\xAC\xF0\x9F\x98\x80");
    json_scan_free(scan);
}

static void integers_are_integers(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "-1",    "-0",   "1.0",  "1e3", "01", "18446744073709551616", "99999999999999999999999",
        "\"1\"", "true", "null", "[1]", ""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_scan *scan = NULL;
        didi_error error = {0};
        uint64_t value = 7;
        assert_int_equal(json_scan_new(bad[i], strlen(bad[i]), "f", "x", &scan, &error), DIDI_OK);
        assert_int_equal(json_scan_unsigned(scan, &value, &error), DIDI_FORMAT);
        assert_true(value == 7);
        json_scan_free(scan);
    }
}

/* What jansson refuses and the scanner does not: numbers a C type cannot hold. */
static bool beyond_jansson(const json_error_t *error)
{
    return json_error_code(error) == json_error_numeric_overflow;
}

static void mutated_documents_are_judged_as_jansson_does(void **state)
{
    (void)state;
    static const char seed[] =
        "{\"a\\u00e9\\ud83d\\ude00\":[1,-2.5e3,true,false,null],\"b\\n\":{\"\":"
        "\"\xC3\xA4\xE2\x82\xAC\",\"c\":[[],{}]} , \"d\" : 0 }";
    static const char alphabet[] = "{}[],:\"\\u0d8eE+-.19 tfn\n\xC3\x80\xFF";
    uint64_t sequence = 11;
    for (int round = 0; round < (SUPPORT_SANITIZED ? 40000 : 200000); round++) {
        char text[sizeof(seed)];
        memcpy(text, seed, sizeof(seed));
        size_t bytes = sizeof(seed) - 1;
        uint64_t changes = 1 + support_random(&sequence) % 3;
        for (uint64_t i = 0; i < changes; i++)
            text[support_random(&sequence) % bytes] =
                alphabet[support_random(&sequence) % (sizeof(alphabet) - 1)];
        if (support_random(&sequence) % 8 == 0)
            bytes = support_random(&sequence) % bytes;
        json_error_t why;
        json_t *tree = json_loadb(text, bytes, JSON_DECODE_ANY, &why);
        didi_error error = {0};
        bool accepted = scan_any(text, bytes, &error) == DIDI_OK;
        if (accepted != (tree != NULL) && !(accepted && beyond_jansson(&why)))
            fail_msg("%.*s: %s / %s", (int)bytes, text, error.message,
                     tree == NULL ? why.text : "ok");
        json_decref(tree);
    }
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    for (int nth = 1; nth <= 3; nth++) {
        char fault[16];
        snprintf(fault, sizeof(fault), "alloc:%d", nth);
        assert_int_equal(fault_arm(fault), 0);
        didi_error error = {0};
        assert_int_equal(scan_any("{}", 2, &error), DIDI_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(documents_of_the_grammar_pass),
        support_test(documents_outside_the_grammar_fail),
        support_test(nesting_has_a_bound),
        support_test(values_are_what_the_text_says),
        support_test(integers_are_integers),
        support_test(mutated_documents_are_judged_as_jansson_does),
        support_test(lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
