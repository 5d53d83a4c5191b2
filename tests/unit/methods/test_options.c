/* SPDX-License-Identifier: Apache-2.0 */
/* Options of methods: what is taken, and that everything else is refused by name. */
#include "src/base/fault.h"
#include "src/methods/methods.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TASKS = 2 };

/* ---- the table ---- */

typedef struct made_up {
    double share;
    int64_t count;
    bool flag;
} made_up;

static const method_option table[] = {
    {.name = "share",
     .kind = METHOD_NUMBER,
     .offset = offsetof(made_up, share),
     .standard = 0.5,
     .lowest = 0,
     .highest = 1,
     .above_lowest = true},
    {.name = "count",
     .kind = METHOD_INTEGER,
     .offset = offsetof(made_up, count),
     .standard = 7,
     .lowest = -3,
     .highest = 1e6},
    {.name = "flag", .kind = METHOD_FLAG, .offset = offsetof(made_up, flag), .standard = 1},
    {.name = NULL},
};

static int read(const char *text, made_up *self, didi_error *error)
{
    return method_options_read(table, "made_up", text, self, error);
}

static void defaults_hold_for_what_is_not_given(void **state)
{
    static const char *const texts[] = {NULL, "{}", " { } "};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        made_up self = {0};
        didi_error error = {0};
        sample_must(read(texts[i], &self, &error), &error);
        assert_true(self.share == 0.5 && self.count == 7 && self.flag);
    }
}

static void lack_of_memory_is_not_taken_for_bad_text(void **state)
{
    (void)state;
    bool fired = true;
    for (size_t nth = 1; fired; nth++) {
        char fault[32];
        made_up self = {0};
        didi_error error = {0};
        (void)snprintf(fault, sizeof fault, "alloc:%zu", nth);
        assert_int_equal(fault_arm(fault), 0);
        int status = read("{\"share\": 0.25, \"count\": 3}", &self, &error);
        fired = fault_all_fired();
        assert_int_equal(fault_arm(NULL), 0);
        assert_int_equal(status, fired ? DIDI_NO_MEMORY : DIDI_OK);
        assert_true(nth > 1 || fired);
    }
}

static void options_are_set_by_name(void **state)
{
    made_up self = {0};
    didi_error error = {0};
    (void)state;
    sample_must(read("{\"flag\": false, \"count\": -3, \"share\": 1}", &self, &error), &error);
    assert_true(self.share == 1 && self.count == -3 && !self.flag);
    sample_must(read("{\"count\": 1000000}", &self, &error), &error);
    assert_true(self.share == 0.5 && self.count == 1000000 && self.flag);
    sample_must(read("{\"count\": 2.0, \"share\": 1e-300}", &self, &error), &error);
    assert_true(self.share == 1e-300 && self.count == 2);
}

static void other_values_are_refused_by_name(void **state)
{
    static const struct {
        const char *text, *subject, *message;
    } cases[] = {
        {"{\"share\": 0}", "/method_options/share", "above 0"},
        {"{\"share\": 1.0001}", "/method_options/share", "at most 1"},
        {"{\"share\": -1e300}", "/method_options/share", "above 0"},
        {"{\"share\": \"0.5\"}", "/method_options/share", "must be a number"},
        {"{\"share\": null}", "/method_options/share", "must be a number"},
        {"{\"share\": true}", "/method_options/share", "must be a number"},
        {"{\"share\": [0.5]}", "/method_options/share", "must be a number"},
        {"{\"count\": 1.5}", "/method_options/count", "must be an integer"},
        {"{\"count\": {}}", "/method_options/count", "must be an integer"},
        {"{\"count\": -4}", "/method_options/count", "at least -3"},
        {"{\"count\": 9223372036854775807}", "/method_options/count", "at most 1e+06"},
        {"{\"flag\": 1}", "/method_options/flag", "must be true or false"},
        {"{\"flag\": \"true\"}", "/method_options/flag", "must be true or false"},
        {"{\"other\": 1}", "/method_options/other",
         "method 'made_up' has no option 'other'; it has 'share', 'count', 'flag'"},
        {"{\"\": 1}", "/method_options/", "no option ''"},
        {"{\"share\": 0.1, \"Share\": 0.1}", "/method_options/Share", "no option 'Share'"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made_up self = {0};
        didi_error error = {0};
        int status = read(cases[i].text, &self, &error);
        if (status != DIDI_INVALID)
            fail_msg("%s: %s, %s", cases[i].text, didi_status_name(status), error.message);
        assert_string_equal(error.subject, cases[i].subject);
        support_assert_contains(error.message, cases[i].message);
    }
}

static void what_is_no_object_is_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "[]",
                                        "1",
                                        "null",
                                        "\"share\"",
                                        "{",
                                        "{\"share\": 0.5}}",
                                        "{\"share\": NaN}",
                                        "{\"share\": Infinity}",
                                        "{\"share\": 1e999}",
                                        "{\"count\": 9223372036854775808}",
                                        "{\"share\": 0.5, \"share\": 0.5}",
                                        "{share: 0.5}",
                                        "{\"sh\\u0000are\": 1}",
                                        "\xFF\xFE"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        made_up self = {0};
        didi_error error = {0};
        if (read(texts[i], &self, &error) != DIDI_FORMAT)
            fail_msg("%s: %s", texts[i], error.message);
        assert_string_equal(error.subject, "/method_options");
    }
}

/* Names of any length and of any bytes are quoted as far as they fit. */
static void long_names_are_cut(void **state)
{
    char text[2000];
    char name[1500];
    made_up self = {0};
    didi_error error = {0};
    (void)state;
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    (void)snprintf(text, sizeof text, "{\"%s\": 1}", name);
    assert_int_equal(read(text, &self, &error), DIDI_INVALID);
    assert_int_equal(strlen(error.subject), strlen("/method_options/") + 100);
    support_assert_contains(error.message, "it has 'share'");
}

/* ---- methods and what they need ---- */

static void methods_are_found_by_name(void **state)
{
    const didi_method *method = NULL;
    didi_error error = {0};
    (void)state;
    sample_must(method_find(NULL, &method, &error), &error);
    assert_ptr_equal(method, didi_methods[0]);
    for (size_t i = 0; didi_methods[i] != NULL; i++) {
        const didi_method *found = NULL;
        const didi_method *wanted = didi_methods[i];
        int status = method_find(wanted->name, &found, &error);
        assert_int_equal(status, wanted->needs == NULL ? DIDI_OK : DIDI_INVALID);
        assert_ptr_equal(found, wanted->needs == NULL ? wanted : NULL);
    }
}

static void methods_that_can_work_are_whole(void **state)
{
    (void)state;
    for (size_t i = 0; didi_methods[i] != NULL; i++) {
        const didi_method *method = didi_methods[i];
        size_t items = 0;
        if (method->needs != NULL)
            continue;
        assert_true(method->summary != NULL && method->summary[0] != '\0');
        assert_true(method->self_bytes >= sizeof(method_head) && method->stage_count > 0);
        for (size_t s = 0; s < method->stage_count; s++) {
            const method_stage *stage = &method->stages[s];
            assert_true((stage->each == NULL) != (stage->once == NULL));
            assert_true(stage->name != NULL && stage->share > 0);
            items += stage->each != NULL;
        }
        assert_true(items > 0);
        for (const method_option *o = method->options; o != NULL && o->name != NULL; o++) {
            assert_true(o->help != NULL && o->help[0] != '\0');
            assert_true(o->kind == METHOD_FLAG ||
                        (o->standard >= o->lowest && o->standard <= o->highest));
        }
    }
}

/* ---- merges that are refused ---- */

static void check_refused(const sample_family *sample, int wanted, const char *subject,
                          const char *message)
{
    didi_merge *merge = NULL;
    didi_error error = {0};
    int status = didi_merge_open(&sample->options, NULL, &merge, &error);
    if (status != wanted)
        fail_msg("%s, not %s: %s", didi_status_name(status), didi_status_name(wanted),
                 error.message);
    assert_null(merge);
    assert_string_equal(error.subject, subject);
    support_assert_contains(error.message, message);
    assert_int_equal(support_entries(sample->output), 0);
    assert_int_equal(support_entries(sample->work), 0);
}

static void create(sample_family *sample, void **state, const char *method)
{
    sample_family_create(sample, support_directory(state), TASKS);
    sample->options.budget = 0;
    sample->options.method = method;
}

static void other_methods_are_refused(void **state)
{
    static const char *const names[] = {"", "Average", "average ", "tie"};
    static const struct {
        const char *name, *message;
    } needy[] = {
        {"regmean", "method 'regmean' needs the Gram matrices of each layer's inputs"},
        {"fisher", "method 'fisher' needs the diagonal of each fine-tune's Fisher information"},
        {"adamerging", "method 'adamerging' needs unlabelled test inputs of every task"},
    };
    sample_family sample;
    create(&sample, state, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sample.options.method = names[i];
        check_refused(&sample, DIDI_INVALID, "/method", "there is no method '");
        check_refused(&sample, DIDI_INVALID, "/method", "average, task_arithmetic");
    }
    for (size_t i = 0; i < sizeof needy / sizeof *needy; i++) {
        sample.options.method = needy[i].name;
        check_refused(&sample, DIDI_INVALID, "/method", needy[i].message);
        check_refused(&sample, DIDI_INVALID, "/method", "nothing but checkpoints can be given");
    }
    sample_family_close(&sample);
}

static void what_a_method_cannot_take_is_refused(void **state)
{
    static const double budgets[] = {1.24, -1, 1e-300, NAN, INFINITY};
    sample_family sample;
    create(&sample, state, "average");
    didi_merge_options *options = &sample.options;
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        options->budget = budgets[i];
        check_refused(&sample, DIDI_INVALID, "/budget",
                      "method 'average' has a size of its own; leave budget out");
    }
    options->budget = 0;
    options->precision = DIDI_PRECISION_AUTO;
    check_refused(&sample, DIDI_INVALID, "/output/dtype", "method 'average' takes none");
    options->precision = (didi_precision)99;
    check_refused(&sample, DIDI_INVALID, "/output/dtype", "bf16");
    options->precision = DIDI_PRECISION_F32;
    options->extend.package_fd = sample.output;
    check_refused(&sample, DIDI_INVALID, "/extend", "method 'average' cannot extend a package");
    options->extend.package_fd = -1;
    options->reuse_fd = sample.work;
    check_refused(&sample, DIDI_INVALID, "/from_job", "leave from_job out");
    options->reuse_fd = -1;
    sample.inputs[1].weight = 0;
    check_refused(&sample, DIDI_INVALID, "/tasks/1/weight", "above 0");
    sample_family_close(&sample);
}

static void options_of_merges_are_checked(void **state)
{
    static const char *const bad[] = {"{\"scale\": 0}", "{\"scale\": -0.3}", "{\"scale\": 10.5}",
                                      "{\"scale\": \"0.3\"}", "{\"scale\": null}"};
    sample_family sample;
    create(&sample, state, "task_arithmetic");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sample.options.method_options = bad[i];
        check_refused(&sample, DIDI_INVALID, "/method_options/scale", "must be");
    }
    sample.options.method_options = "{\"scale\": 1e999}";
    check_refused(&sample, DIDI_FORMAT, "/method_options", "");
    sample.options.method_options = "{\"scale\": NaN}";
    check_refused(&sample, DIDI_FORMAT, "/method_options", "");
    sample.options.method_options = "{\"scal\": 0.3}";
    check_refused(&sample, DIDI_INVALID, "/method_options/scal",
                  "method 'task_arithmetic' has no option 'scal'; it has 'scale'");
    sample.options.method = "average";
    sample.options.method_options = "{\"scale\": 0.3}";
    check_refused(&sample, DIDI_INVALID, "/method_options/scale",
                  "method 'average' has no option 'scale'; it has none");
    sample.options.method = NULL;
    sample.options.budget = 1.4;
    check_refused(&sample, DIDI_INVALID, "/method_options/scale", "it has none");
    sample_family_close(&sample);
}

/* Refused before anything is read, and at the ends of what is allowed taken. */
static void options_at_the_ends_are_taken(void **state)
{
    static const char *const good[] = {"{\"scale\": 10}", "{\"scale\": 1e-6}", "{}"};
    sample_family sample;
    create(&sample, state, "task_arithmetic");
    sample.options.output_fd = sample.options.work_fd = -1;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        didi_merge *merge = NULL;
        didi_error error = {0};
        sample.options.method_options = good[i];
        sample_must(didi_merge_open(&sample.options, NULL, &merge, &error), &error);
        didi_merge_close(merge);
    }
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(defaults_hold_for_what_is_not_given),
        support_test(lack_of_memory_is_not_taken_for_bad_text),
        support_test(options_are_set_by_name),
        support_test(other_values_are_refused_by_name),
        support_test(what_is_no_object_is_refused),
        support_test(long_names_are_cut),
        support_test(methods_are_found_by_name),
        support_test(methods_that_can_work_are_whole),
        support_test(other_methods_are_refused),
        support_test(what_a_method_cannot_take_is_refused),
        support_test(options_of_merges_are_checked),
        support_test(options_at_the_ends_are_taken),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
