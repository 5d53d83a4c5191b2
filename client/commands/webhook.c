/* SPDX-License-Identifier: Apache-2.0 */
/* webhook add, ls, show, set, rm, rotate, test, deliveries, delivery, redeliver. */
#include "client/commands/command.h"

#include "proto/proto.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WEBHOOK_LIST_ITEMS = 1000,
    DELIVERY_LIST_ITEMS = 50,
    OUTCOME_WAIT_SECONDS = 60,
    SECRET_FILE_BYTES_MAX = 1024,
};

/* ---- the way to one ---- */

/* "/v1/webhooks/ID/REST", from the command's words; the caller frees. Errors: CLIENT_USAGE. */
static int hook_target(const command_context *context, const char *rest, char **ret_target,
                       didi_error *error)
{
    const char *id = arguments_word(context->arguments, 0);
    if (!name_is_job(id))
        return didi_fail(error, CLIENT_USAGE, id, "not a webhook's id; see didictl webhook ls");
    char *target = memory_format("/v1/webhooks/%s%s", id, rest);
    if (target == NULL)
        return client_fail_memory(error);
    *ret_target = target;
    return CLIENT_OK;
}

/* The same of the delivery that the second word names. */
static int delivery_target(const command_context *context, const char *rest, char **ret_target,
                           didi_error *error)
{
    const char *id = arguments_word(context->arguments, 1);
    char path[128];
    if (!name_is_job(id))
        return didi_fail(error, CLIENT_USAGE, id,
                         "not a delivery's id; see didictl webhook deliveries");
    (void)snprintf(path, sizeof path, "/deliveries/%s%s", id, rest);
    return hook_target(context, path, ret_target, error);
}

/* Sends to the webhook that the first word names; *ret_document is NULL after an empty answer. */
static int hook_send(const command_context *context, const char *method, const char *rest,
                     const json_t *body, json_t **ret_document, didi_error *error)
{
    char *target = NULL;
    int status = hook_target(context, rest, &target, error);
    if (status == CLIENT_OK)
        status = service_send(context->service, method, target, body, NULL, ret_document, error);
    free(target);
    return status;
}

/* ---- printing ---- */

/* "a, b"; "all" of an empty list. */
static void list_events(const json_t *hook, char *text, size_t size)
{
    const json_t *events = json_object_get(hook, "events");
    text[0] = '\0';
    for (size_t i = 0; i < json_array_size(events); i++)
        text_list_add(text, size, "", record_element(events, i));
    if (text[0] == '\0')
        (void)snprintf(text, size, "all");
}

static const char *hook_state(const json_t *hook)
{
    return record_true(hook, "enabled")
               ? record_text(hook, "failing_since")[0] == '\0' ? "enabled" : "failing"
           : record_text(hook, "disabled_reason")[0] == '\0' ? "disabled"
                                                             : "disabled by the server";
}

static int print_hooks(const command_context *context, const json_t *hooks, didi_error *error)
{
    static const table_column columns[] = {{"WEBHOOK", false}, {"STATE", false},
                                           {"QUEUED", true},   {"EVENTS", false},
                                           {"URL", false},     {"DESCRIPTION", false}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(hooks); i++) {
        const json_t *hook = json_array_get(hooks, i);
        char events[256];
        list_events(hook, events, sizeof events);
        table_add(table, "%s", record_text(hook, "id"));
        table_add(table, "%s", hook_state(hook));
        table_add(table, "%lld", (long long)record_integer(hook, "queued"));
        table_add(table, "%s", events);
        table_add(table, "%s", record_text(hook, "url"));
        table_add(table, "%s", record_text(hook, "description"));
    }
    return output_table(context->output, table, error);
}

static void add_count(client_table *facts, const char *name, int64_t count)
{
    char text[32] = "";
    if (count > 0)
        (void)snprintf(text, sizeof text, "%lld", (long long)count);
    table_add_fact(facts, name, text);
}

static int print_hook(const command_context *context, const json_t *hook, didi_error *error)
{
    client_table *facts = table_create_facts();
    char events[256];
    char *labels = json_dumps(json_object_get(hook, "labels"), JSON_COMPACT);
    list_events(hook, events, sizeof events);
    table_add_fact(facts, "webhook", record_text(hook, "id"));
    table_add_fact(facts, "url", record_text(hook, "url"));
    table_add_fact(facts, "description", record_text(hook, "description"));
    table_add_fact(facts, "state", hook_state(hook));
    table_add_fact(facts, "reason", record_text(hook, "disabled_reason"));
    table_add_fact(facts, "events", events);
    table_add_fact(facts, "labels", labels != NULL && strcmp(labels, "{}") != 0 ? labels : "");
    add_count(facts, "queued", record_integer(hook, "queued"));
    add_count(facts, "events lost", record_integer(hook, "dropped"));
    table_add_fact(facts, "failing since", record_text(hook, "failing_since"));
    table_add_fact(facts, "old secret until", record_text(hook, "old_secret_until"));
    table_add_fact(facts, "created", record_text(hook, "created_at"));
    free(labels);
    return output_table(context->output, facts, error);
}

/* The one time a secret is there. */
static int print_secret(const command_context *context, const json_t *hook, didi_error *error)
{
    int status = output_text(context->output, record_text(hook, "secret"), error);
    if (status != CLIENT_OK)
        return status;
    output_note(context->output, "keep the secret: it is not shown again");
    return output_finish(context->output, error);
}

static int print_new(const command_context *context, const json_t *hook, didi_error *error)
{
    int status = output_text(context->output, record_text(hook, "id"), error);
    if (status != CLIENT_OK)
        return status;
    return arguments_has(context->arguments, OPTION_SECRET_FILE)
               ? output_finish(context->output, error)
               : print_secret(context, hook, error);
}

static int print_id(const command_context *context, const json_t *hook, didi_error *error)
{
    client_table *facts = table_create_facts();
    table_add_fact(facts, "webhook", record_text(hook, "id"));
    table_add_fact(facts, "state", hook_state(hook));
    return output_table(context->output, facts, error);
}

static int print_deliveries(const command_context *context, const json_t *rows, didi_error *error)
{
    static const table_column columns[] = {{"DELIVERY", false}, {"TYPE", false}, {"STATE", false},
                                           {"TRIES", true},     {"HTTP", true},  {"CREATED", false},
                                           {"NEXT", false},     {"ERROR", false}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        char age[FORMAT_BYTES_MAX];
        long long answered = record_integer(row, "http_status");
        table_add(table, "%s", record_text(row, "id"));
        table_add(table, "%s", record_text(row, "type"));
        table_add(table, "%s", record_text(row, "state"));
        table_add(table, "%lld", (long long)record_integer(row, "attempts"));
        if (answered > 0)
            table_add(table, "%lld", answered);
        else
            table_add(table, "-");
        table_add(table, "%s", format_age(age, record_text(row, "created_at")));
        table_add(table, "%s", record_text(row, "next_attempt_at"));
        table_add(table, "%s", record_text(row, "error"));
    }
    return output_table(context->output, table, error);
}

static int print_delivery(const command_context *context, const json_t *row, didi_error *error)
{
    client_table *facts = table_create_facts();
    char *request = json_dumps(json_object_get(row, "request"), JSON_COMPACT);
    table_add_fact(facts, "delivery", record_text(row, "id"));
    table_add_fact(facts, "type", record_text(row, "type"));
    table_add_fact(facts, "subject", record_text(row, "subject"));
    table_add_fact(facts, "state", record_text(row, "state"));
    add_count(facts, "attempts", record_integer(row, "attempts"));
    table_add_fact(facts, "last attempt", record_text(row, "sent_at"));
    table_add_fact(facts, "next attempt", record_text(row, "next_attempt_at"));
    add_count(facts, "http status", record_integer(row, "http_status"));
    table_add_fact(facts, "error", record_text(row, "error"));
    table_add_fact(facts, "answer", record_text(row, "answer"));
    table_add_fact(facts, "request", request != NULL ? request : "");
    free(request);
    return output_table(context->output, facts, error);
}

/* ---- commands ---- */

static int run_list(const command_context *context, didi_error *error)
{
    json_t *hooks = NULL;
    bool more = false;
    int status =
        service_list(context->service, "/v1/webhooks", WEBHOOK_LIST_ITEMS, &hooks, &more, error);
    return command_print(context, status, hooks, "id", print_hooks, error);
}

static int run_show(const command_context *context, didi_error *error)
{
    json_t *hook = NULL;
    char *target = NULL;
    int status = hook_target(context, "", &target, error);
    if (status == CLIENT_OK)
        status = service_get(context->service, 0, &hook, error, "%s", target);
    free(target);
    return command_print(context, status, hook, "id", print_hook, error);
}

/* A secret never stands on a command line, where others can read it. */
static int add_secret(const command_context *context, json_t *request, didi_error *error)
{
    const char *path = arguments_value(context->arguments, OPTION_SECRET_FILE);
    char *text = NULL;
    size_t bytes = 0;
    didi_error why = {0};
    if (path == NULL)
        return CLIENT_OK;
    if (file_read_text(AT_FDCWD, path, SECRET_FILE_BYTES_MAX, &text, &bytes, &why) != DIDI_OK)
        return didi_fail(error, CLIENT_USAGE, path, "%s", why.message);
    int failed = json_object_set_new(request, "secret", json_string(text_trim(text)));
    memset(text, 0, bytes);
    free(text);
    return failed == 0 ? CLIENT_OK : didi_fail(error, CLIENT_USAGE, path, "it is not UTF-8");
}

static int add_labels(const client_arguments *arguments, json_t *request, didi_error *error)
{
    json_t *labels = json_object();
    const char *pair;
    for (size_t i = 0; (pair = arguments_at(arguments, OPTION_LABEL, i)) != NULL; i++) {
        const char *equals = strchr(pair, '=');
        char *key = equals != NULL ? memory_format("%.*s", (int)(equals - pair), pair) : NULL;
        int failed = key == NULL || json_object_set_new(labels, key, json_string(equals + 1)) != 0;
        free(key);
        if (failed) {
            json_decref(labels);
            return didi_fail(error, CLIENT_USAGE, "--label", "'%s' is not KEY=VALUE", pair);
        }
    }
    if (arguments_has(arguments, OPTION_LABEL))
        json_object_set(request, "labels", labels);
    json_decref(labels);
    return CLIENT_OK;
}

/* What add and set have in common. */
static int add_fields(const command_context *context, json_t *request, didi_error *error)
{
    const client_arguments *arguments = context->arguments;
    const char *description = arguments_value(arguments, OPTION_DESCRIPTION);
    const char *event;
    json_t *events = json_array();
    int failed = request == NULL || events == NULL;
    for (size_t i = 0; (event = arguments_at(arguments, OPTION_EVENT, i)) != NULL; i++)
        if (strcmp(event, "all") != 0)
            failed |= json_array_append_new(events, json_string(event));
    if (arguments_has(arguments, OPTION_EVENT))
        failed |= json_object_set(request, "events", events);
    json_decref(events);
    if (description != NULL)
        failed |= json_object_set_new(request, "description", json_string(description));
    if (failed != 0)
        return didi_fail(error, CLIENT_USAGE, NULL, "options must be UTF-8");
    return add_labels(arguments, request, error);
}

static int run_add(const command_context *context, didi_error *error)
{
    json_t *hook = NULL;
    json_t *request = json_pack("{s:s}", "url", arguments_word(context->arguments, 0));
    int status = add_fields(context, request, error);
    if (status == CLIENT_OK)
        status = add_secret(context, request, error);
    if (status == CLIENT_OK)
        status =
            service_send(context->service, "POST", "/v1/webhooks", request, NULL, &hook, error);
    json_decref(request);
    return command_print(context, status, hook, "id", print_new, error);
}

static int run_set(const command_context *context, didi_error *error)
{
    const client_arguments *arguments = context->arguments;
    const char *url = arguments_value(arguments, OPTION_URL);
    const bool enable = arguments_has(arguments, OPTION_ENABLE);
    const bool disable = arguments_has(arguments, OPTION_DISABLE);
    json_t *hook = NULL;
    json_t *request = json_object();
    int status = enable && disable
                     ? didi_fail(error, CLIENT_USAGE, "--enable", "not together with --disable")
                     : add_fields(context, request, error);
    if (status == CLIENT_OK && url != NULL)
        json_object_set_new(request, "url", json_string(url));
    if (status == CLIENT_OK && (enable || disable))
        json_object_set_new(request, "enabled", json_boolean(enable));
    if (status == CLIENT_OK)
        status = hook_send(context, "POST", "", request, &hook, error);
    json_decref(request);
    return command_print(context, status, hook, "id", print_id, error);
}

static int run_remove(const command_context *context, didi_error *error)
{
    json_t *nothing = NULL;
    int status = hook_send(context, "DELETE", "", NULL, &nothing, error);
    json_decref(nothing);
    if (status == CLIENT_OK)
        puts(arguments_word(context->arguments, 0));
    return status;
}

static int run_rotate(const command_context *context, didi_error *error)
{
    static const command_number overlap = {OPTION_OVERLAP, "--overlap", 0,
                                           LIMIT_WEBHOOK_OVERLAP_SECONDS,
                                           WEBHOOK_OVERLAP_SECONDS_DEFAULT};
    long seconds = 0;
    json_t *hook = NULL;
    int status = command_integer(context, &overlap, &seconds, error);
    json_t *request = json_pack("{s:I}", "overlap_seconds", (json_int_t)seconds);
    if (status == CLIENT_OK)
        status = add_secret(context, request, error);
    if (status == CLIENT_OK)
        status = hook_send(context, "POST", "/rotate", request, &hook, error);
    json_decref(request);
    return command_print(context, status, hook, "id", print_secret, error);
}

/* Waits until a delivery has been answered. Takes *delivery, and replaces it. */
static int wait_outcome(const command_context *context, json_t **delivery, didi_error *error)
{
    const char *hook = arguments_word(context->arguments, 0);
    char id[LIMIT_JOB_ID_CHARACTERS + 1];
    json_t *ended = NULL;
    (void)snprintf(id, sizeof id, "%s", record_text(*delivery, "id"));
    if (!name_is_job(id))
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server sent no delivery");
    int status =
        service_get(context->service, OUTCOME_WAIT_SECONDS, &ended, error,
                    "/v1/webhooks/%s/deliveries/%s?wait=%d", hook, id, OUTCOME_WAIT_SECONDS);
    if (status != CLIENT_OK)
        return status;
    json_decref(*delivery);
    *delivery = ended;
    return CLIENT_OK;
}

/* The exit code tells of the outcome. */
static int finish_outcome(const command_context *context, int status, json_t *delivery,
                          didi_error *error)
{
    if (status == CLIENT_OK)
        status = wait_outcome(context, &delivery, error);
    json_t *kept = json_incref(delivery);
    status = command_print(context, status, delivery, "id", print_delivery, error);
    if (status == CLIENT_OK && strcmp(record_text(kept, "state"), "succeeded") != 0)
        status = didi_fail(
            error, CLIENT_FAILURE, record_text(kept, "id"), "the delivery %s%s%s",
            strcmp(record_text(kept, "state"), "failed") == 0 ? "failed" : "is still queued",
            record_text(kept, "error")[0] != '\0' ? ": " : "", record_text(kept, "error"));
    json_decref(kept);
    return status;
}

static int run_test(const command_context *context, didi_error *error)
{
    json_t *delivery = NULL;
    int status = hook_send(context, "POST", "/test", NULL, &delivery, error);
    return finish_outcome(context, status, delivery, error);
}

static int run_redeliver(const command_context *context, didi_error *error)
{
    json_t *delivery = NULL;
    char *target = NULL;
    int status = delivery_target(context, "/redeliver", &target, error);
    if (status == CLIENT_OK)
        status = service_send(context->service, "POST", target, NULL, NULL, &delivery, error);
    free(target);
    return finish_outcome(context, status, delivery, error);
}

static int run_delivery(const command_context *context, didi_error *error)
{
    json_t *delivery = NULL;
    char *target = NULL;
    int status = delivery_target(context, "", &target, error);
    if (status == CLIENT_OK)
        status = service_get(context->service, 0, &delivery, error, "%s", target);
    free(target);
    return command_print(context, status, delivery, "id", print_delivery, error);
}

static int run_deliveries(const command_context *context, didi_error *error)
{
    static const command_number limits = {OPTION_LIMIT, "--limit", 1, SERVICE_LIST_ITEMS_MAX,
                                          DELIVERY_LIST_ITEMS};
    const char *state = arguments_value(context->arguments, OPTION_STATE);
    char path[64];
    long limit = 0;
    char *target = NULL;
    json_t *rows = NULL;
    bool more = false;
    if (state != NULL && !record_is_word(state, 32, "_"))
        return didi_fail(error, CLIENT_USAGE, "--state", "queued, succeeded or failed");
    (void)snprintf(path, sizeof path, "/deliveries%s%s", state != NULL ? "?state=" : "",
                   state != NULL ? state : "");
    int status = command_integer(context, &limits, &limit, error);
    if (status == CLIENT_OK)
        status = hook_target(context, path, &target, error);
    if (status == CLIENT_OK)
        status = service_list(context->service, target, (size_t)limit, &rows, &more, error);
    free(target);
    status = command_print(context, status, rows, "id", print_deliveries, error);
    if (more)
        output_note(context->output, "there are more: --limit");
    return status;
}

/* ---- what there is ---- */

#define FIELD_OPTIONS                                                                              \
    {OPTION_EVENT, 'e', "event", "TYPE", "hear of this event only (repeat); all: of all"},         \
        {OPTION_LABEL, 'l', "label", "KEY=VALUE", "hear of jobs with this label only (repeat)"},   \
    {                                                                                              \
        OPTION_DESCRIPTION, 'd', "description", "TEXT", "for people"                               \
    }
#define SECRET_OPTION                                                                              \
    {                                                                                              \
        OPTION_SECRET_FILE, 0, "secret-file", "FILE", "a secret of your own: whsec_ and base64"    \
    }

static const option_row add_options[] = {FIELD_OPTIONS, SECRET_OPTION};
static const option_row set_options[] = {
    FIELD_OPTIONS,
    {OPTION_URL, 'u', "url", "URL", "send there from now on"},
    {OPTION_ENABLE, 0, "enable", NULL, "send"},
    {OPTION_DISABLE, 0, "disable", NULL, "do not send, and hear of nothing"}};
static const option_row rotate_options[] = {
    {OPTION_OVERLAP, 0, "overlap", "SECONDS", "sign with the old secret too for so long (86400)"},
    SECRET_OPTION};
static const option_row deliveries_options[] = {
    {OPTION_STATE, 's', "state", "STATE", "queued, succeeded or failed"},
    {OPTION_LIMIT, 0, "limit", "N", "show at most so many (50)"}};

const client_command command_webhook_add = {
    .name = "webhook add",
    .words = "URL",
    .summary = "send events to a URL; prints the webhook's id and its secret",
    .text = "Events are job.queued, job.started, job.succeeded, job.failed, job.cancelled,\n"
            "model.ready and model.broken, signed as Standard Webhooks are.\n",
    .options = COMMAND_OPTIONS(add_options),
    .run = run_add,
};
const client_command command_webhook_list = {
    .name = "webhook ls",
    .words = "",
    .summary = "list webhooks, the newest first",
    .run = run_list,
};
const client_command command_webhook_show = {
    .name = "webhook show",
    .words = "ID",
    .summary = "show a webhook",
    .run = run_show,
};
const client_command command_webhook_set = {
    .name = "webhook set",
    .words = "ID",
    .summary = "change a webhook",
    .options = COMMAND_OPTIONS(set_options),
    .run = run_set,
};
const client_command command_webhook_remove = {
    .name = "webhook rm",
    .words = "ID",
    .summary = "delete a webhook and what was or is to be sent to it",
    .run = run_remove,
};
const client_command command_webhook_rotate = {
    .name = "webhook rotate",
    .words = "ID",
    .summary = "give a webhook another secret, and print it",
    .options = COMMAND_OPTIONS(rotate_options),
    .run = run_rotate,
};
const client_command command_webhook_test = {
    .name = "webhook test",
    .words = "ID",
    .summary = "send an event of type webhook.test now, once, and tell how it went",
    .run = run_test,
};
const client_command command_webhook_deliveries = {
    .name = "webhook deliveries",
    .words = "ID",
    .summary = "list what was and is to be sent, the newest first",
    .options = COMMAND_OPTIONS(deliveries_options),
    .run = run_deliveries,
};
const client_command command_webhook_delivery = {
    .name = "webhook delivery",
    .words = "ID DELIVERY",
    .summary = "show what was sent and what was answered",
    .run = run_delivery,
};
const client_command command_webhook_redeliver = {
    .name = "webhook redeliver",
    .words = "ID DELIVERY",
    .summary = "send one again now, and tell how it went",
    .run = run_redeliver,
};
