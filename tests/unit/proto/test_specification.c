/* SPDX-License-Identifier: Apache-2.0 */
/* Job specifications: defaults, every kind of mistake, the canonical text, memory running out. */
#include "proto/proto.h"
#include "src/didi.h"
#include "tests/unit/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOOD_TASKS                                                                                 \
    "\"tasks\":[{\"name\":\"a\",\"model\":\"m/a\"},{\"name\":\"b\",\"model\":\"m/b\"}]"
#define GOOD "\"base\":\"m/base\"," GOOD_TASKS ",\"budget\":1.24"

static int parse(const char *text, specification **ret_specification, didi_error *error)
{
    return specification_parse(text, strlen(text), LIMIT_BODY_BYTES, ret_specification, error);
}

static void defaults_are_filled(void **state)
{
    specification *made = NULL;
    (void)state;
    assert_int_equal(parse("{" GOOD "}", &made, NULL), DIDI_OK);
    assert_string_equal(made->name, "");
    assert_string_equal(made->base, "m/base");
    assert_int_equal(made->task_count, 2);
    assert_string_equal(made->tasks[1].model, "m/b");
    assert_true(made->tasks[1].weight == SPECIFICATION_DEFAULT_TASK_WEIGHT);
    assert_true(made->budget.value == 1.24);
    assert_int_equal(made->allocator, DIDI_ALLOCATOR_PURSUIT);
    assert_int_equal(made->refine_steps, DIDI_REFINE_STEPS);
    assert_int_equal(made->include.count, 0);
    assert_int_equal(made->label_count, 0);
    specification_free(made);
    made = NULL;
    assert_int_equal(parse("{" GOOD ",\"refine\":{\"optimizer\":\"adam\"}}", &made, NULL), DIDI_OK);
    assert_int_equal(made->refine_steps, DIDI_REFINE_STEPS_ADAM);
    specification_free(made);
}

static void budgets_have_names(void **state)
{
    static const struct {
        const char *text;
        double ratio;
    } cases[] = {{"\"S\"", 1.24}, {"\"M\"", 1.4}, {"\"L\"", 2.0}, {"3", 3.0}, {"1e-3", 1e-3}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        specification *made = NULL;
        snprintf(text, sizeof text, "{\"base\":\"m/base\"," GOOD_TASKS ",\"budget\":%s}",
                 cases[i].text);
        assert_int_equal(parse(text, &made, NULL), DIDI_OK);
        assert_true(made->budget.value == cases[i].ratio);
        specification_free(made);
    }
}

#define BUDGET_OF(text) "{\"base\":\"m/base\"," GOOD_TASKS ",\"budget\":" text "}"

/* Read, written as canonical text, and read again: the same number in the same unit. */
static void budgets_have_units(void **state)
{
    static const struct {
        const char *text;
        double value;
        int unit;
    } cases[] = {
        {BUDGET_OF("1.24"), 1.24, DIDI_BUDGET_PARAMETERS},
        {BUDGET_OF("{\"bytes\":1}"), 1, DIDI_BUDGET_BYTES},
        {BUDGET_OF("{\"bytes\":9007199254740991}"), 9007199254740991, DIDI_BUDGET_BYTES},
        {BUDGET_OF("{\"bytes_ratio\":0.3}"), 0.3, DIDI_BUDGET_BYTES_RATIO},
        {BUDGET_OF("{\"max_error\":0.30000000000000004}"), 0.30000000000000004,
         DIDI_BUDGET_MAX_ERROR},
        {BUDGET_OF("{\"max_error\":1}"), 1, DIDI_BUDGET_MAX_ERROR},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        specification *made = NULL;
        char *text = NULL;
        assert_int_equal(parse(cases[i].text, &made, NULL), DIDI_OK);
        for (int turn = 0; turn < 2; turn++) {
            assert_true(made->budget.value == cases[i].value);
            assert_int_equal(made->budget.unit, cases[i].unit);
            assert_int_equal(specification_render(made, &text, NULL), DIDI_OK);
            specification_free(made);
            assert_int_equal(parse(text, &made, NULL), DIDI_OK);
            free(text);
        }
        specification_free(made);
    }
}

static void mistakes_name_their_place(void **state)
{
    static const struct {
        const char *text, *pointer, *part;
    } cases[] = {
        {"[]", "", "an object"},
        {BUDGET_OF("{}"), "/budget", "one member"},
        {BUDGET_OF("[]"), "/budget", "number"},
        {BUDGET_OF("null"), "/budget", "number"},
        {BUDGET_OF("0"), "/budget", "> 0"},
        {BUDGET_OF("\"XL\""), "/budget", "S, M and L"},
        {BUDGET_OF("{\"bytes\":5,\"max_error\":0.1}"), "/budget", "it has 2"},
        {BUDGET_OF("{\"bites\":5}"), "/budget/bites", "unknown field"},
        {BUDGET_OF("{\"bytes\":0}"), "/budget/bytes", "1"},
        {BUDGET_OF("{\"bytes\":5.5}"), "/budget/bytes", "an integer"},
        {BUDGET_OF("{\"bytes\":-1}"), "/budget/bytes", "<= 9007199254740991"},
        {BUDGET_OF("{\"bytes\":\"many\"}"), "/budget/bytes", "number"},
        {BUDGET_OF("{\"bytes\":9007199254740993}"), "/budget/bytes", "it must be"},
        {BUDGET_OF("{\"bytes_ratio\":0}"), "/budget/bytes_ratio", "> 0"},
        {BUDGET_OF("{\"max_error\":1.5}"), "/budget/max_error", "1"},
        {BUDGET_OF("{\"max_error\":0}"), "/budget/max_error", "> 0"},
        {"{" GOOD ",\"output\":{\"dtype\":\"int2\"}}", "/output/dtype", "int3"},
        {"{" GOOD ",\"x\":1}", "/x", "unknown field"},
        {"{" GOOD ",\"a/b~\":1}", "/a~1b~0", "unknown field"},
        {"{" GOOD ",\"ranks\":{\"steps\":2.5}}", "/ranks/steps", "integer"},
        {"{" GOOD ",\"ranks\":{\"steps\":100001}}", "/ranks/steps", "100000"},
        {"{" GOOD ",\"ranks\":{\"allocator\":\"x\"}}", "/ranks/allocator", "pursuit"},
        {"{" GOOD ",\"ranks\":3}", "/ranks", "an object"},
        {"{" GOOD ",\"labels\":{\"a b\":\"x\"}}", "/labels/a b", "label"},
        {"{" GOOD ",\"include\":[\"a\",7]}", "/include/1", "string"},
        {"{" GOOD ",\"priority\":-101}", "/priority", "-100"},
        {"{\"base\":\"m/base\"," GOOD_TASKS "}", "/budget", "missing"},
        {"{\"base\":\"m/a\"," GOOD_TASKS ",\"budget\":1}", "/tasks/0/model", "base"},
        {"{\"base\":\"../m\"," GOOD_TASKS ",\"budget\":1}", "/base", "../m"},
        {"{\"base\":\"m\",\"tasks\":[],\"budget\":1}", "/tasks", "0 tasks"},
        {"{\"base\":\"m\",\"tasks\":[{\"name\":\"a\",\"model\":\"x\"},"
         "{\"name\":\"a\",\"model\":\"y\"}],\"budget\":1}",
         "/tasks/1/name", "twice"},
        {"{\"base\":\"m\",\"tasks\":[{\"name\":\"a\",\"model\":\"x\"},"
         "{\"name\":\"b\",\"model\":\"x\"}],\"budget\":1}",
         "/tasks/1/model", "already"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        specification *made = NULL;
        didi_error error = {0};
        assert_int_equal(parse(cases[i].text, &made, &error), DIDI_INVALID);
        assert_null(made);
        assert_string_equal(error.subject, cases[i].pointer);
        support_assert_contains(error.message, cases[i].part);
    }
}

static void what_is_not_json_is_malformed(void **state)
{
    static const char *const texts[] = {
        "",      "{",           "{\"a\":1,\"a\":2}",  "nul",
        "{} {}", "\"\\ud800\"", "{\"budget\":1e999}", "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        specification *made = NULL;
        didi_error error = {0};
        assert_int_equal(parse(texts[i], &made, &error), DIDI_FORMAT);
        assert_true(error.message[0] != '\0');
    }
    specification *made = NULL;
    assert_int_equal(specification_parse("{}", 2, 1, &made, NULL), DIDI_FORMAT);
}

static void canonical_text_reads_back_equal(void **state)
{
    static const char *const texts[] = {
        "{" GOOD "}",
        "{" GOOD ",\"seed\":9007199254740991,\"labels\":{\"z\":\"1\",\"a\":\"\"},"
        "\"exclude\":[\"*.bias\"],\"name\":\"\\u00e4\"}",
        "{" GOOD
        ",\"ranks\":{\"beta\":0.1,\"lambda\":1e-300,\"learning_rate\":0.30000000000000004}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        specification *first = NULL;
        specification *second = NULL;
        char *once = NULL;
        char *twice = NULL;
        assert_int_equal(parse(texts[i], &first, NULL), DIDI_OK);
        assert_int_equal(specification_render(first, &once, NULL), DIDI_OK);
        assert_int_equal(parse(once, &second, NULL), DIDI_OK);
        assert_int_equal(specification_render(second, &twice, NULL), DIDI_OK);
        assert_string_equal(once, twice);
        assert_true(first->beta == second->beta && first->lambda == second->lambda);
        assert_true(first->rank_learning_rate == second->rank_learning_rate);
        assert_true(first->seed == second->seed);
        free(once);
        free(twice);
        specification_free(first);
        specification_free(second);
    }
}

static void export_requests(void **state)
{
    static const char *const bad[] = {
        "{}",
        "{\"format\":\"x\"}",
        "{\"format\":\"full\",\"tasks\":[]}",
        "{\"format\":\"full\",\"tasks\":[\"a\",\"a\"]}",
        "{\"format\":\"full\",\"tasks\":[\"a\",3]}",
    };
    static const char good[] = "{\"format\":\"full\",\"tasks\":[\"a\",\"b\"]}";
    export_request request = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(export_request_parse(bad[i], strlen(bad[i]), 1000, &request, NULL),
                         DIDI_INVALID);
    assert_int_equal(export_request_parse(good, sizeof good - 1, 1000, &request, NULL), DIDI_OK);
    assert_int_equal(request.tasks.count, 2);
    assert_string_equal(request.tasks.texts[1], "b");
    export_request_clear(&request);
}

static void names(void **state)
{
    static const char *const good[] = {"a",   "a/b",           "A-1_x.y/z",  "a/b/c/d/e/f/g/h",
                                       "-/_", "org/name@main", "n@refs/pr/1"};
    static const char *const bad[] = {
        "",      "/a",     "a/",     "a//b", ".a",       "a/.b",
        "..",    "a/..",   "a b",    "a\\b", "\xc3\xa4", "a/b/c/d/e/f/g/h/i",
        ".",     "a/../b", "a%2fb",  "@",    "a@",       "@a",
        "a@b@c", "a@/b",   "a@../b", "a@.b", "a/@b",     "a@b/"};
    char text[LIMIT_MODEL_NAME_BYTES + 2];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(name_is_model(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(name_is_model(bad[i]));
        assert_false(name_is_task(bad[i]));
    }
    memset(text, 'a', sizeof text);
    text[LIMIT_MODEL_NAME_BYTES + 1] = '\0';
    assert_false(name_is_model(text));
    text[LIMIT_MODEL_NAME_BYTES] = '\0';
    assert_true(name_is_model(text));
    text[LIMIT_TASK_NAME_BYTES + 1] = '\0';
    assert_false(name_is_task(text));
    text[LIMIT_TASK_NAME_BYTES] = '\0';
    assert_true(name_is_task(text));
    assert_false(name_is_task("a/b"));
    assert_true(name_is_plain_text("\xc3\xa4\xc3\xa4", 2));
    assert_false(name_is_plain_text("\xc3\xa4\xc3\xa4", 1));
    assert_false(name_is_plain_text("a\tb", 10));
}

static void problems_cover_every_status(void **state)
{
    (void)state;
    for (int status = 1; status < DIDI_STATUS_COUNT; status++) {
        problem type = problem_from_status(status);
        assert_true(problem_http_status(type) >= 400 && problem_http_status(type) < 600);
        assert_int_equal(problem_from_status_name(didi_status_name(status)), type);
        assert_int_equal(type == PROBLEM_INTERNAL, status == DIDI_INTERNAL);
    }
    assert_int_equal(problem_from_status_name("?"), PROBLEM_INTERNAL);
}

/* What a specification does not say is what the library would do. */
static void defaults_are_the_librarys(void **state)
{
    didi_merge_options options;
    specification *made = NULL;
    (void)state;
    didi_merge_options_default(&options);
    assert_int_equal(parse("{" GOOD "}", &made, NULL), DIDI_OK);
    assert_int_equal(made->shared_merge, options.shared_merge);
    assert_int_equal(made->allocator, options.allocator);
    assert_int_equal(made->weighting, options.weighting);
    assert_int_equal(made->objective, options.objective);
    assert_int_equal(made->optimizer, options.optimizer);
    assert_int_equal(made->dense, options.dense);
    assert_int_equal(made->rank_steps, options.rank_steps);
    assert_int_equal(made->refine_steps, options.refine_steps);
    assert_true(made->beta == options.beta && made->lambda == options.lambda);
    assert_true(made->rank_learning_rate == options.rank_learning_rate);
    assert_true(made->refine_learning_rate == options.refine_learning_rate);
    assert_true(made->tolerance == options.tolerance);
    assert_true((uint64_t)made->seed == options.seed);
    specification_free(made);
}

static void the_papers_ranks_are_unweighted(void **state)
{
    specification *made = NULL;
    (void)state;
    assert_int_equal(parse("{" GOOD ",\"ranks\":{\"allocator\":\"differentiable\"}}", &made, NULL),
                     DIDI_OK);
    assert_int_equal(made->weighting, DIDI_WEIGHTING_NONE);
    specification_free(made);
    assert_int_equal(parse("{" GOOD ",\"ranks\":{\"allocator\":\"differentiable\","
                           "\"weighting\":\"balanced\"}}",
                           &made, NULL),
                     DIDI_OK);
    assert_int_equal(made->weighting, DIDI_WEIGHTING_BALANCED);
    specification_free(made);
}

/* Of a job that extends another, which brings tasks of its own. */
static void pointers_count_the_tasks_of_a_request(void **state)
{
    static const struct {
        const char *added, *pointer;
    } cases[] = {
        {"{\"name\":\"c\",\"model\":\"/\"}", "/tasks/0/model"},
        {"{\"name\":\"c\",\"model\":\"m/c\"},{\"name\":\"c\",\"model\":\"m/d\"}", "/tasks/1/name"},
        {"{\"name\":\"c\",\"model\":\"m/c\"},7", "/tasks/1"},
        {"{\"name\":\"c\",\"model\":\"m/base\"}", "/tasks/0/model"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        json_t *document = NULL;
        specification *made = NULL;
        didi_error error = {0};
        int bytes = snprintf(text, sizeof text,
                             "{\"base\":\"m/base\",\"tasks\":[{\"name\":\"a\",\"model\":\"m/a\"},"
                             "{\"name\":\"b\",\"model\":\"m/b\"},%s],\"budget\":1.24}",
                             cases[i].added);
        assert_int_equal(document_parse(text, (size_t)bytes, sizeof text, &document, NULL),
                         DIDI_OK);
        assert_int_equal(specification_read(document, 2, &made, &error), DIDI_INVALID);
        assert_string_equal(error.subject, cases[i].pointer);
        json_decref(document);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_filled),
        cmocka_unit_test(budgets_have_names),
        cmocka_unit_test(budgets_have_units),
        cmocka_unit_test(mistakes_name_their_place),
        cmocka_unit_test(what_is_not_json_is_malformed),
        cmocka_unit_test(canonical_text_reads_back_equal),
        cmocka_unit_test(export_requests),
        cmocka_unit_test(names),
        cmocka_unit_test(problems_cover_every_status),
        cmocka_unit_test(defaults_are_the_librarys),
        cmocka_unit_test(the_papers_ranks_are_unweighted),
        cmocka_unit_test(pointers_count_the_tasks_of_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
