/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures against known answers; pointers, templates and rules; keys of events; failures. */
#include "daemon/base/base.h"
#include "daemon/hooks/event.h"
#include "daemon/hooks/rules.h"
#include "daemon/hooks/template.h"
#include "tests/unit/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SECRET "a secret of thirty-two characters"
#define NOW_MS 1700000000000LL
#define MLFLOW_SIGNATURE "v1,8lvJgHGXJlPn7SV2GCh72AW7JFDynx9qqI4hhPnPybs="
#define BODY_HEX "ffe35ec3d38dfbd42a624d0bc1d05cc5a429ca44a4b0221aaa88c699a72de701"
#define BODY_BASE64 "/+New9ON+9QqYk0LwdBcxaQpykSksCIaqojGmact5wE="
#define DATED_HEX "44254216846bc9279312213fb908151318800422fc37a204f8a1fda9c5450434"

typedef struct header_row {
    const char *name, *value;
} header_row;

static const char *find_header(void *context, const char *name)
{
    for (const header_row *row = context; row != NULL && row->name != NULL; row++)
        if (strcasecmp(row->name, name) == 0)
            return row->value;
    return NULL;
}

static hook_message message_of(header_row *headers, const char *body)
{
    return (hook_message){
        .header = find_header, .context = headers, .body = body, .bytes = strlen(body)};
}

static json_t *json_of(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    if (value == NULL)
        fail_msg("not JSON: %s", text);
    return value;
}

/* Whether a message with these headers passes; a failure names `subject`. */
static void expect_signature(const char *hook, const char *secret, header_row *headers,
                             const char *body, const char *subject)
{
    didi_error error = {0};
    json_t *document = json_of(hook);
    const hook_message message = message_of(headers, body);
    int status = signature_check(document, secret, &message, NOW_MS, &error);
    json_decref(document);
    if (subject == NULL && status != DIDI_OK)
        fail_msg("%s: %s", hook, error.message);
    if (subject != NULL) {
        assert_int_equal(status, DIDI_INVALID);
        assert_string_equal(error.subject, subject);
        assert_null(strstr(error.message, secret));
    }
}

static void signatures_of_registries_are_known(void **state)
{
    (void)state;
    expect_signature("{\"kind\":\"github\"}", "It's a Secret to Everybody",
                     (header_row[]){{"X-Hub-Signature-256",
                                     "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f437"
                                     "9c8b043e17"},
                                    {NULL, NULL}},
                     "Hello, World!", NULL);
    expect_signature("{\"kind\":\"mlflow\"}", SECRET,
                     (header_row[]){{"X-MLflow-Signature", MLFLOW_SIGNATURE},
                                    {"X-MLflow-Delivery-Id", "d-1"},
                                    {"X-MLflow-Timestamp", "1700000000"},
                                    {NULL, NULL}},
                     "{}", NULL);
    expect_signature("{\"kind\":\"wandb\"}", SECRET,
                     (header_row[]){{"X-Wandb-Signature", BODY_HEX}, {NULL, NULL}}, "{}", NULL);
    expect_signature("{\"kind\":\"wandb\"}", SECRET,
                     (header_row[]){{"X-Wandb-Signature", BODY_BASE64}, {NULL, NULL}}, "{}", NULL);
    expect_signature("{\"kind\":\"huggingface\"}", SECRET,
                     (header_row[]){{"X-Webhook-Secret", SECRET}, {NULL, NULL}}, "{}", NULL);
    expect_signature("{\"kind\":\"generic\",\"verify\":{\"signature_header\":\"S\",\"signed\":"
                     "\"timestamp.body\",\"timestamp_header\":\"T\"}}",
                     SECRET,
                     (header_row[]){{"S", "0000 " DATED_HEX}, {"T", "1700000000"}, {NULL, NULL}},
                     "{}", NULL);
}

static void other_signatures_are_refused(void **state)
{
    static const char mlflow[] = "{\"kind\":\"mlflow\"}";
    static const char *const given[] = {
        "",
        "v1,",
        "v2,8lvJgHGXJlPn7SV2GCh72AW7JFDynx9qqI4hhPnPybs=",
        "8lvJgHGXJlPn7SV2GCh72AW7JFDynx9qqI4hhPnPybs=",
        "v1,8lvJgHGXJlPn7SV2GCh72AW7JFDynx9qqI4hhPnPybs",
        "v1,8lvJgHGXJlPn7SV2GCh72AW7JFDynx9qqI4hhPnPybt=",
        "v1,f25bc98071972653e7ed257618287bd805bb2450f29f1f6aa88e2184f9cfc9bb"};
    (void)state;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        expect_signature(mlflow, SECRET,
                         (header_row[]){{"X-MLflow-Signature", given[i]},
                                        {"X-MLflow-Delivery-Id", "d-1"},
                                        {"X-MLflow-Timestamp", "1700000000"},
                                        {NULL, NULL}},
                         "{}", "X-MLflow-Signature");
    expect_signature(mlflow, SECRET,
                     (header_row[]){{"X-MLflow-Signature", MLFLOW_SIGNATURE},
                                    {"X-MLflow-Delivery-Id", "d-2"},
                                    {"X-MLflow-Timestamp", "1700000000"},
                                    {NULL, NULL}},
                     "{}", "X-MLflow-Signature");
    expect_signature(mlflow, SECRET,
                     (header_row[]){{"X-MLflow-Signature", MLFLOW_SIGNATURE},
                                    {"X-MLflow-Timestamp", "1700000000"},
                                    {NULL, NULL}},
                     "{}", "X-MLflow-Delivery-Id");
    expect_signature(
        "{\"kind\":\"huggingface\"}", SECRET,
        (header_row[]){{"X-Webhook-Secret", "a secret of thirty-two character"}, {NULL, NULL}},
        "{}", "X-Webhook-Secret");
    expect_signature("{\"kind\":\"huggingface\"}", SECRET, NULL, "{}", "X-Webhook-Secret");
}

static void timestamps_have_a_tolerance(void **state)
{
    static const char *const bad[] = {"1699999699", "1700000301",           "-1700000000", "17e8",
                                      "",           "99999999999999999999", "1700000000 "};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_signature("{\"kind\":\"mlflow\"}", SECRET,
                         (header_row[]){{"X-MLflow-Signature", MLFLOW_SIGNATURE},
                                        {"X-MLflow-Delivery-Id", "d-1"},
                                        {"X-MLflow-Timestamp", bad[i]},
                                        {NULL, NULL}},
                         "{}", "X-MLflow-Timestamp");
}

static void pointers_find_what_rfc_6901_says(void **state)
{
    static const struct {
        const char *pointer;
        int wanted; /* -1: nothing */
    } rows[] = {{"/a~1b", 1},    {"/c%d", 2},
                {"/ ", 7},       {"/m~0n", 8},
                {"/", 0},        {"/foo/0", 5},
                {"/foo/1", 6},   {"/foo/2", -1},
                {"/foo/00", -1}, {"/foo/-", -1},
                {"/foo/a", -1},  {"/foo/0/x", -1},
                {"/none/x", -1}, {"/foo/99999999999999999999", -1}};
    (void)state;
    json_t *document = json_of("{\"foo\":[5,6],\"\":0,\"a/b\":1,\"c%d\":2,\" \":7,\"m~n\":8}");
    assert_ptr_equal(pointer_find(document, ""), document);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const json_t *found = pointer_find(document, rows[i].pointer);
        if ((rows[i].wanted < 0) != (found == NULL) ||
            (found != NULL && json_integer_value(found) != rows[i].wanted))
            fail_msg("%s", rows[i].pointer);
    }
    assert_false(pointer_is_valid("a"));
    assert_false(pointer_is_valid("/~2"));
    assert_false(pointer_is_valid("/~"));
    assert_true(pointer_is_valid("/~0~1"));
    json_decref(document);
}

/* What a template of one string becomes, or the error with `where`. */
static void expect_text(const char *template, const char *wanted, const char *problem)
{
    json_t *payload = json_of("{\"n\":\"x/y z\",\"v\":3,\"o\":{},\"f\":1.5,\"e\":\"{{/v}}\"}");
    json_t *maps = json_of("{\"m\":{\"x/y z\":\"org/model\",\"3\":\"three\"}}");
    json_t *from = json_pack("{s:[s]}", "a", template);
    json_t *made = NULL;
    didi_error error = {0};
    int status = template_expand(from, payload, maps, &made, &error);
    if (wanted != NULL) {
        if (status != DIDI_OK)
            fail_msg("%s: %s", template, error.message);
        assert_string_equal(json_string_value(json_array_get(json_object_get(made, "a"), 0)),
                            wanted);
    } else {
        assert_int_equal(status, DIDI_INVALID);
        assert_string_equal(error.subject, "/a/0");
        if (strstr(error.message, problem) == NULL)
            fail_msg("%s: %s", template, error.message);
    }
    json_decref(made);
    json_decref(from);
    json_decref(maps);
    json_decref(payload);
}

static void templates_are_expanded(void **state)
{
    (void)state;
    expect_text("plain }} text", "plain }} text", NULL);
    expect_text("{{/n}}", "x/y z", NULL);
    expect_text("a {{ /v }}-{{/n | name}}", "a 3-x-y-z", NULL);
    expect_text("{{/n | map m}}", "org/model", NULL);
    expect_text("{{/n | map m | name}}", "org-model", NULL);
    expect_text("{{/v|map m}}", "three", NULL);
    expect_text("{{/e}}", "{{/v}}", NULL); /* a payload is no template */
    expect_text("{{/none}}", NULL, "nothing at /none");
    expect_text("{{/o}}", NULL, "an object");
    expect_text("{{/f}}", NULL, "no string or whole number");
    expect_text("{{/n", NULL, "without its }}");
    expect_text("{{n}}", NULL, "not a JSON pointer");
    expect_text("{{}}", NULL, "not a JSON pointer");
    expect_text("{{/n | upper}}", NULL, "no such filter");
    expect_text("{{/n | map other}}", NULL, "no such filter");
    expect_text("{{/v | name | map m | }}", NULL, "no such filter");
}

static void sizes_of_templates_are_bounded(void **state)
{
    char payload_text[TEMPLATE_VALUE_BYTES_MAX + 64];
    char template_text[128] = "";
    didi_error error = {0};
    json_t *made = NULL;
    (void)state;
    (void)snprintf(payload_text, sizeof payload_text, "{\"a\":\"%0*d\"}", TEMPLATE_VALUE_BYTES_MAX,
                   1);
    for (size_t i = 0; i < 5; i++)
        memcpy(template_text + 6 * i, "{{/a}}", 7);
    json_t *payload = json_of(payload_text);
    json_t *from = json_pack("[s]", template_text);
    assert_int_equal(template_expand(from, payload, NULL, &made, &error), DIDI_INVALID);
    assert_non_null(strstr(error.message, "4096 bytes"));
    json_decref(from);
    json_decref(payload);
    from = json_array();
    for (int i = 0; i <= TEMPLATE_PLACES_MAX; i++)
        json_array_append_new(from, json_string("{{/a}}"));
    assert_int_equal(template_expand(from, NULL, NULL, &made, &error), DIDI_INVALID);
    assert_non_null(strstr(error.message, "1024"));
    json_decref(from);
}

static void patterns_match(void **state)
{
    static const char *const yes[][2] = {{"*", ""},           {"a*c", "abbc"}, {"a?c", "abc"},
                                         {"*/*", "a/b"},      {"**a", "bca"},  {"", ""},
                                         {"a*b*c", "aXbYbZc"}};
    static const char *const no[][2] = {{"?", ""}, {"a*c", "ab"}, {"a", "ab"}, {"*a", "b"}};
    (void)state;
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(rules_glob(yes[i][0], yes[i][1]));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(rules_glob(no[i][0], no[i][1]));
}

/* The name of the rule of `when` that a payload matches. */
static bool matches(const char *condition, const char *payload_text)
{
    char text[512];
    (void)snprintf(
        text, sizeof text,
        "{\"kind\":\"github\",\"rules\":[{\"name\":\"r\",\"rescan\":true,\"when\":[%s]}]}",
        condition);
    json_t *hook = json_of(text);
    json_t *payload = json_of(payload_text);
    didi_error error = {0};
    if (rules_check(hook, &error) != DIDI_OK)
        fail_msg("%s: %s %s", condition, error.subject, error.message);
    const hook_message message =
        message_of((header_row[]){{"X-Event", "push"}, {NULL, NULL}}, payload_text);
    bool found = rules_match(hook, payload, &message) != NULL;
    json_decref(hook);
    json_decref(payload);
    return found;
}

static void conditions_hold_or_not(void **state)
{
    static const char payload[] = "{\"a\":\"org/x\",\"n\":3,\"t\":true,\"z\":null}";
    (void)state;
    assert_true(matches("{\"at\":\"/a\",\"equals\":\"org/x\"}", payload));
    assert_false(matches("{\"at\":\"/a\",\"equals\":\"org\"}", payload));
    assert_true(matches("{\"at\":\"/n\",\"equals\":3}", payload));
    assert_false(matches("{\"at\":\"/n\",\"equals\":\"3\"}", payload));
    assert_true(matches("{\"at\":\"/z\",\"equals\":null}", payload));
    assert_false(matches("{\"at\":\"/none\",\"equals\":null}", payload));
    assert_true(matches("{\"at\":\"/n\",\"one_of\":[1,3]}", payload));
    assert_false(matches("{\"at\":\"/n\",\"one_of\":[]}", payload));
    assert_true(matches("{\"at\":\"/a\",\"prefix\":\"org/\"}", payload));
    assert_false(matches("{\"at\":\"/n\",\"prefix\":\"\"}", payload));
    assert_true(matches("{\"at\":\"/a\",\"glob\":\"org/*\"}", payload));
    assert_true(matches("{\"at\":\"/none\",\"exists\":false}", payload));
    assert_true(matches("{\"at\":\"/z\",\"exists\":true}", payload));
    assert_true(matches("{\"header\":\"x-event\",\"equals\":\"push\"}", payload));
    assert_false(matches("{\"header\":\"X-Other\",\"equals\":\"push\"}", payload));
    assert_false(matches("{\"at\":\"/n\",\"equals\":3},{\"at\":\"/t\",\"equals\":false}", payload));
}

/* The key of the only event of a delivery. */
static void key_of(const char *hook, header_row *headers, const char *body,
                   char ret_key[EVENT_KEY_BYTES], char ret_subject[EVENT_KEY_BYTES])
{
    json_t *document = json_of(hook);
    const hook_message message = message_of(headers, body);
    hook_event *events = NULL;
    size_t count = 0;
    didi_error error = {0};
    if (events_read(document, &message, &events, &count, &error) != DIDI_OK)
        fail_msg("%s", error.message);
    assert_int_equal(count, 1);
    memcpy(ret_key, events[0].key, EVENT_KEY_BYTES);
    memcpy(ret_subject, events[0].subject, EVENT_KEY_BYTES);
    events_free(events, count);
    json_decref(document);
}

static void keys_tell_deliveries_apart(void **state)
{
    static const char alias[] = "{\"entity\":\"model_version_alias\",\"action\":\"created\","
                                "\"data\":{\"name\":\"m\",\"alias\":\"a\",\"version\":\"2\"}}";
    static const char push[] = "{\"repo\":{\"name\":\"o/r\"},\"updatedRefs\":[{\"ref\":"
                               "\"refs/heads/main\",\"newSha\":\"abc\"}],\"x\":%d}";
    char one[EVENT_KEY_BYTES];
    char two[EVENT_KEY_BYTES];
    char subject[EVENT_KEY_BYTES];
    char body[2][256];
    hook_event *polled = NULL;
    didi_error error = {0};
    (void)state;
    for (int i = 0; i < 2; i++)
        (void)snprintf(body[i], sizeof body[i], push, i);
    key_of("{\"kind\":\"huggingface\"}", NULL, body[0], one, subject);
    key_of("{\"kind\":\"huggingface\"}", NULL, body[1], two, subject);
    assert_string_equal(one, two); /* repository, ref and commit are what counts */
    assert_int_equal(event_of_ref("o/r", "refs/heads/main", "abc", &polled, &error), DIDI_OK);
    assert_string_equal(polled->key, one);
    events_free(polled, 1);
    key_of("{\"kind\":\"github\"}", NULL, body[0], one, subject);
    key_of("{\"kind\":\"github\"}", NULL, body[1], two, subject);
    assert_string_not_equal(one, two);
    key_of("{\"kind\":\"github\",\"dedupe\":[\"/repo/name\"]}", NULL, body[0], one, subject);
    key_of("{\"kind\":\"github\",\"dedupe\":[\"/repo/name\"]}", NULL, body[1], two, subject);
    assert_string_equal(one, two);
    /* An id that is not signed may be anybody's. */
    key_of("{\"kind\":\"github\"}", (header_row[]){{"X-GitHub-Delivery", "1"}, {NULL, NULL}},
           body[0], one, subject);
    key_of("{\"kind\":\"github\"}", (header_row[]){{"X-GitHub-Delivery", "2"}, {NULL, NULL}},
           body[0], two, subject);
    assert_string_equal(one, two);
    key_of("{\"kind\":\"mlflow\"}", (header_row[]){{"X-MLflow-Delivery-Id", "1"}, {NULL, NULL}},
           alias, one, subject);
    key_of("{\"kind\":\"mlflow\"}", (header_row[]){{"X-MLflow-Delivery-Id", "2"}, {NULL, NULL}},
           alias, two, subject);
    assert_string_not_equal(one, two);
    assert_int_equal(event_of_alias("m", "a", "2", 5, &polled, &error), DIDI_OK);
    assert_string_equal(polled->subject, subject);
    events_free(polled, 1);
}

static void failures_are_counted_by_address(void **state)
{
    failures *counted = calloc(1, sizeof *counted);
    char address[32];
    (void)state;
    assert_non_null(counted);
    for (int i = 0; i < FAILURES_MAX; i++) {
        assert_int_equal(failures_wait(counted, "1.2.3.4", 1000), 0);
        failures_add(counted, "1.2.3.4", 1000);
    }
    assert_int_equal(failures_wait(counted, "1.2.3.4", 1000), FAILURES_SECONDS);
    assert_int_equal(failures_wait(counted, "1.2.3.4", 31000), FAILURES_SECONDS - 30);
    assert_int_equal(failures_wait(counted, "1.2.3.40", 1000), 0);
    assert_int_equal(failures_wait(counted, "1.2.3.4", 61000), 0);
    failures_add(counted, "1.2.3.4", 61000);
    assert_int_equal(failures_wait(counted, "1.2.3.4", 61000), 0);
    for (int i = 0; i < 2 * FAILURES_ADDRESSES_MAX; i++) {
        (void)snprintf(address, sizeof address, "10.0.%d.%d", i / 256, i % 256);
        failures_add(counted, address, 70000 + i);
    }
    for (int i = 0; i < FAILURES_MAX; i++)
        failures_add(counted, address, 80000);
    assert_int_not_equal(failures_wait(counted, address, 80000), 0);
    free(counted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_of_registries_are_known),
        cmocka_unit_test(other_signatures_are_refused),
        cmocka_unit_test(timestamps_have_a_tolerance),
        cmocka_unit_test(pointers_find_what_rfc_6901_says),
        cmocka_unit_test(templates_are_expanded),
        cmocka_unit_test(sizes_of_templates_are_bounded),
        cmocka_unit_test(patterns_match),
        cmocka_unit_test(conditions_hold_or_not),
        cmocka_unit_test(keys_tell_deliveries_apart),
        cmocka_unit_test(failures_are_counted_by_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
