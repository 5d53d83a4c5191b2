/* SPDX-License-Identifier: Apache-2.0 */
/* YAML documents: what they mean, what is refused and where, memory running out. */
#include "proto/proto.h"
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>

/* The YAML as one line of JSON; caller frees. */
static char *as_json(const char *yaml)
{
    json_t *value = NULL;
    didi_error error = {0};
    int status = document_parse_yaml(yaml, strlen(yaml), LIMIT_BODY_BYTES, &value, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(status, DIDI_OK);
    char *text = document_render(value);
    json_decref(value);
    return text;
}

static void check(const char *yaml, const char *json)
{
    char *text = as_json(yaml);
    assert_string_equal(text, json);
    free(text);
}

static void a_specification_is_what_json_says(void **state)
{
    (void)state;
    check("# a merge\n"
          "base: glyph/base\n"
          "tasks:\n"
          "  - name: mnist\n"
          "    model: glyph/mnist\n"
          "  - {name: street, model: 'glyph/street', weight: 2}\n"
          "budget: 1.24\n"
          "ranks:\n"
          "  allocator: exact\n"
          "labels: {}\n",
          "{\"base\":\"glyph/base\",\"tasks\":[{\"name\":\"mnist\",\"model\":\"glyph/mnist\"},"
          "{\"name\":\"street\",\"model\":\"glyph/street\",\"weight\":2}],\"budget\":1.24,"
          "\"ranks\":{\"allocator\":\"exact\"},\"labels\":{}}");
}

static void scalars_are_those_of_the_core_schema(void **state)
{
    (void)state;
    check("[no, No, off, on, yes, y, n, NO]",
          "[\"no\",\"No\",\"off\",\"on\",\"yes\",\"y\",\"n\",\"NO\"]");
    check("[true, True, FALSE, tRUE]", "[true,true,false,\"tRUE\"]");
    check("[null, ~, Null]", "[null,null,null]");
    check("a:\nb:\n", "{\"a\":null,\"b\":null}");
    check("[12, -3, +4, 010, 0o17, 0xFf]", "[12,-3,4,10,15,255]");
    check("[1.5, .5, 5., 1e3, -1.5E-2, 1.2.3, 0x, 0o9, 1e, '.']",
          "[1.5,0.5,5.0,1000.0,-0.015,\"1.2.3\",\"0x\",\"0o9\",\"1e\",\".\"]");
    check("[\"1\", 'true', !!str 7, ! 8, \"\"]", "[\"1\",\"true\",\"7\",\"8\",\"\"]");
    check("[1:30, 2026-11-27, 12_000]", "[\"1:30\",\"2026-11-27\",\"12_000\"]");
    check("|\n two\n lines\n", "\"two\\nlines\\n\"");
    check("{1: a, true: b}", "{\"1\":\"a\",\"true\":\"b\"}");
    check("--- 7\n...\n", "7");
}

static void refuse(const char *yaml, const char *place, const char *reason)
{
    json_t *value = NULL;
    didi_error error = {0};
    assert_int_equal(document_parse_yaml(yaml, strlen(yaml), LIMIT_BODY_BYTES, &value, &error),
                     DIDI_FORMAT);
    assert_null(value);
    if (strstr(error.message, place) == NULL || strstr(error.message, reason) == NULL)
        fail_msg("'%s' lacks '%s' or '%s'", error.message, place, reason);
}

static void mistakes_are_told_with_their_place(void **state)
{
    (void)state;
    refuse("", "line 1, column 1", "nothing");
    refuse("# only this\n", "line 1, column 1", "nothing");
    refuse("a: 1\na: 2\n", "line 2, column 1", "'a' stands there twice");
    refuse("a: 1\nb:\n  c: 1\n  c: 1\n", "line 4, column 3", "twice");
    refuse("a: [1, 2\nb: 3\n", "line 2, column", "flow");
    refuse("a: 1\n b: 2\n", "line 2, column", "mapping");
    refuse("a:\n\t- 1\n", "line 2, column 1", "token");
    refuse("a: &x 1\nb: *x\n", "line 1, column 4", "anchors");
    refuse("b: *x\n", "line 1, column 4", "aliases");
    refuse("a: &x [1]\n", "line 1, column 4", "anchors");
    refuse("a: &x {}\n", "line 1, column 4", "anchors");
    refuse("a: !!int 3\n", "line 1, column 4", "tags");
    refuse("a: !!python/object:x {}\n", "line 1, column 4", "tags");
    refuse("? [1]\n: 2\n", "line 1, column 3", "key");
    refuse("a: .nan\n", "line 1, column 4", "NaN");
    refuse("a: -.Inf\n", "line 1, column 4", "infinity");
    refuse("a: 1e999\n", "line 1, column 4", "too big");
    refuse("a: 99999999999999999999\n", "line 1, column 4", "too big");
    refuse("a: \"\\0\"\n", "line 1, column 4", "\\0");
    refuse("a: 1\n--- 2\n", "line 2, column 1", "one document");
    refuse("a: 1\nb: \xff\n", "line 2, column 4", "UTF-8");
    refuse("a: \x1b\n", "line 1, column 4", "control");
}

static void nesting_ends_where_that_of_json_does(void **state)
{
    char text[2 * LIMIT_JSON_DEPTH + 3];
    (void)state;
    memset(text, '[', LIMIT_JSON_DEPTH);
    memset(text + LIMIT_JSON_DEPTH, ']', LIMIT_JSON_DEPTH);
    text[2 * LIMIT_JSON_DEPTH] = '\0';
    check(text, text);
    memset(text, '[', LIMIT_JSON_DEPTH + 1);
    memset(text + LIMIT_JSON_DEPTH + 1, ']', LIMIT_JSON_DEPTH + 1);
    text[2 * LIMIT_JSON_DEPTH + 2] = '\0';
    refuse(text, "column 17", "too deep");
}

static void what_a_file_is_goes_by_name_then_by_text(void **state)
{
    (void)state;
    assert_true(document_is_yaml("m.yaml", "{", 1));
    assert_true(document_is_yaml("M.YML", "", 0));
    assert_false(document_is_yaml("m.json", "a: 1", 4));
    assert_true(document_is_yaml("stdin", "a: 1", 4));
    assert_true(document_is_yaml("stdin", "\n# x\n", 5));
    assert_false(document_is_yaml("stdin", " \n{", 3));
    assert_false(document_is_yaml("stdin", "[", 1));
    assert_false(document_is_yaml("stdin", "", 0));
    json_t *value = NULL;
    didi_error error = {0};
    assert_int_equal(document_parse_named("m.json", "a: 1", 4, 10, &value, &error), DIDI_FORMAT);
    assert_non_null(strstr(error.message, "not JSON"));
    assert_int_equal(document_parse_named("m.yaml", "a: 1", 4, 3, &value, &error), DIDI_FORMAT);
    assert_non_null(strstr(error.message, "4 bytes of YAML"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_specification_is_what_json_says),
        cmocka_unit_test(scalars_are_those_of_the_core_schema),
        cmocka_unit_test(mistakes_are_told_with_their_place),
        cmocka_unit_test(nesting_ends_where_that_of_json_does),
        cmocka_unit_test(what_a_file_is_goes_by_name_then_by_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
