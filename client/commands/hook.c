/* SPDX-License-Identifier: Apache-2.0 */
/* hook add, ls, show, rm, try, poll, deliveries. */
#include "client/commands/command.h"

#include "client/commands/draft.h"
#include "proto/proto.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOOK_SECRET_BYTES_MAX = 1024, HOOK_DELIVERIES = 50 };

/* "/v1/hooks/NAME" and `rest`; caller frees. Errors: CLIENT_USAGE, CLIENT_FAILURE. */
static int hook_target(const command_context *context, const char *rest, char **ret_target,
                       didi_error *error)
{
    const char *name = arguments_word(context->arguments, 0);
    if (!name_is_label_key(name))
        return didi_fail(error, CLIENT_USAGE, NULL,
                         "'%s' is no hook's name: 1 to 63 of A-Z a-z 0-9 . _ -, begun by a letter "
                         "or digit",
                         name);
    *ret_target = memory_format("/v1/hooks/%s%s", name, rest);
    return *ret_target != NULL ? CLIENT_OK : client_fail_memory(error);
}

/* Sends to the hook that the first word names; *ret_document is NULL after an empty answer. */
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

/* ---- add ---- */

/* The first line of the file: a secret does not stand on the command line. */
static int add_secret(const command_context *context, json_t *document, didi_error *error)
{
    const char *path = arguments_value(context->arguments, OPTION_SECRET_FILE);
    bool fresh = arguments_has(context->arguments, OPTION_NEW_SECRET);
    char *text = NULL;
    size_t bytes = 0;
    if (path != NULL && fresh)
        return didi_fail(error, CLIENT_USAGE, NULL,
                         "--secret-file and --new-secret exclude each other");
    if (fresh)
        json_object_set_new(document, "secret", json_true());
    if (path == NULL)
        return CLIENT_OK;
    if (file_read_text(AT_FDCWD, path, HOOK_SECRET_BYTES_MAX, &text, &bytes, error) != DIDI_OK)
        return didi_fail(error, CLIENT_FAILURE, path, "cannot be read");
    text[strcspn(text, "\r\n")] = '\0';
    json_t *secret = json_string(text);
    memset(text, 0, bytes);
    free(text);
    return secret != NULL && json_object_set_new(document, "secret", secret) == 0
               ? CLIENT_OK
               : didi_fail(error, CLIENT_FAILURE, path, "holds no UTF-8 text");
}

/* The secret alone goes to stdout: it is shown once. */
static int print_saved(const command_context *context, const json_t *hook, didi_error *error)
{
    int status = CLIENT_OK;
    output_note(context->output, "hook %s is saved; registries call /v1/hooks/%s",
                record_text(hook, "name"), record_text(hook, "name"));
    if (json_is_string(json_object_get(hook, "secret")))
        status = output_text(context->output, record_text(hook, "secret"), error);
    return status == CLIENT_OK ? output_finish(context->output, error) : status;
}

static int run_add(const command_context *context, didi_error *error)
{
    json_t *document = NULL;
    json_t *hook = NULL;
    char *target = NULL;
    int status = hook_target(context, "", &target, error);
    if (status == CLIENT_OK)
        status =
            draft_read(arguments_word(context->arguments, 1), context->advice, &document, error);
    if (status == CLIENT_OK)
        status = add_secret(context, document, error);
    if (status == CLIENT_OK)
        status = service_send(context->service, "PUT", target, document, NULL, &hook, error);
    json_decref(document);
    free(target);
    return command_print(context, status, hook, "name", print_saved, error);
}

/* ---- ls, show, rm, poll ---- */

static int print_hooks(const command_context *context, const json_t *hooks, didi_error *error)
{
    static const table_column columns[] = {{"HOOK", false},    {"KIND", false}, {"RULES", true},
                                           {"ENABLED", false}, {"AGE", true},   {"WHAT", false}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(hooks); i++) {
        const json_t *hook = json_array_get(hooks, i);
        const json_t *definition = json_object_get(hook, "definition");
        char age[FORMAT_BYTES_MAX];
        bool enabled = !json_is_false(json_object_get(definition, "enabled"));
        table_add(table, "%s", record_text(hook, "name"));
        table_add(table, "%s", record_text(definition, "kind"));
        table_add(table, "%zu", json_array_size(json_object_get(definition, "rules")));
        table_add(table, "%s", enabled ? "yes" : "no");
        table_add(table, "%s", format_age(age, record_text(hook, "updated_at")));
        table_add(table, "%s", record_text(definition, "description"));
    }
    return output_table(context->output, table, error);
}

static int run_list(const command_context *context, didi_error *error)
{
    json_t *hooks = NULL;
    bool more = false;
    int status =
        service_list(context->service, "/v1/hooks", SERVICE_LIST_ITEMS_MAX, &hooks, &more, error);
    return command_print(context, status, hooks, "name", print_hooks, error);
}

static int print_document(const command_context *context, const json_t *document, didi_error *error)
{
    return output_json(context->output, document, error);
}

static int run_show(const command_context *context, didi_error *error)
{
    json_t *hook = NULL;
    char *target = NULL;
    int status = hook_target(context, "", &target, error);
    if (status == CLIENT_OK)
        status = service_get(context->service, 0, &hook, error, "%s", target);
    free(target);
    return command_print(context, status, hook, "name", print_document, error);
}

static int ask_for(const command_context *context, const char *method, const char *rest,
                   didi_error *error)
{
    json_t *nothing = NULL;
    int status = hook_send(context, method, rest, NULL, &nothing, error);
    json_decref(nothing);
    return status;
}

static int run_rm(const command_context *context, didi_error *error)
{
    return ask_for(context, "DELETE", "", error);
}

static int run_poll(const command_context *context, didi_error *error)
{
    return ask_for(context, "POST", "/poll", error);
}

/* ---- try ---- */

static int read_headers(const client_arguments *arguments, json_t *headers, didi_error *error)
{
    const char *text;
    for (size_t i = 0; (text = arguments_at(arguments, OPTION_HEADER, i)) != NULL; i++) {
        size_t name = strcspn(text, "=");
        if (name == 0 || text[name] != '=')
            return didi_fail(error, CLIENT_USAGE, "--header", "'%s' has no form NAME=VALUE", text);
        char *key = strndup(text, name);
        int failed =
            key == NULL ? -1 : json_object_set_new(headers, key, json_string(text + name + 1));
        free(key);
        if (failed != 0)
            return didi_fail(error, CLIENT_USAGE, "--header", "headers must be UTF-8");
    }
    return CLIENT_OK;
}

static int run_try(const command_context *context, didi_error *error)
{
    json_t *payload = NULL;
    json_t *report = NULL;
    char *target = NULL;
    json_t *headers = json_object();
    int status = hook_target(context, "/dry-run", &target, error);
    if (status == CLIENT_OK)
        status = read_headers(context->arguments, headers, error);
    if (status == CLIENT_OK)
        status =
            draft_read(arguments_word(context->arguments, 1), context->advice, &payload, error);
    json_t *request = status == CLIENT_OK
                          ? json_pack("{s:O, s:O}", "payload", payload, "headers", headers)
                          : NULL;
    if (status == CLIENT_OK)
        status = service_send(context->service, "POST", target, request, NULL, &report, error);
    json_decref(request);
    json_decref(payload);
    json_decref(headers);
    free(target);
    if (status != CLIENT_OK)
        return status;
    const json_t *why = json_object_get(report, "error");
    bool matches = json_is_string(json_object_get(report, "rule"));
    char detail[DIDI_ERROR_MESSAGE_BYTES_MAX];
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    bool fails = json_is_object(why);
    (void)snprintf(detail, sizeof detail, "%s", record_text(why, "detail"));
    (void)snprintf(pointer, sizeof pointer, "%s", record_text(why, "pointer"));
    status = command_print(context, status, report, "rule", print_document, error);
    if (status == CLIENT_OK && !matches)
        output_note(context->output, "no rule matches: such a delivery starts nothing");
    if (status == CLIENT_OK && fails)
        status = didi_fail(error, CLIENT_FAILURE, pointer, "%s", detail);
    return status;
}

/* ---- deliveries ---- */

static int print_deliveries(const command_context *context, const json_t *deliveries,
                            didi_error *error)
{
    static const table_column columns[] = {{"DELIVERY", false}, {"AGE", true},  {"STATE", false},
                                           {"RULE", false},     {"JOB", false}, {"BY", false},
                                           {"VERSION", false},  {"WHY", false}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(deliveries); i++) {
        const json_t *row = json_array_get(deliveries, i);
        const json_t *registration = json_object_get(row, "registration");
        char age[FORMAT_BYTES_MAX];
        table_add(table, "%s", record_text(row, "id"));
        table_add(table, "%s", format_age(age, record_text(row, "created_at")));
        table_add(table, "%s", record_text(row, "state"));
        table_add(table, "%s", record_text(row, "rule"));
        table_add(table, "%s", record_text(row, "job"));
        table_add(table, "%s", record_text(row, "origin"));
        table_add(table, "%s", record_text(registration, "version"));
        table_add(table, "%s%s", record_text(row, "reason"), record_text(registration, "error"));
    }
    return output_table(context->output, table, error);
}

static int run_deliveries(const command_context *context, didi_error *error)
{
    static const command_number number = {OPTION_LIMIT, "--limit", 1, SERVICE_LIST_ITEMS_MAX,
                                          HOOK_DELIVERIES};
    json_t *deliveries = NULL;
    char *target = NULL;
    long limit = 0;
    bool more = false;
    int status = command_integer(context, &number, &limit, error);
    if (status == CLIENT_OK)
        status = hook_target(context, "/deliveries", &target, error);
    if (status == CLIENT_OK)
        status = service_list(context->service, target, (size_t)limit, &deliveries, &more, error);
    free(target);
    status = command_print(context, status, deliveries, "id", print_deliveries, error);
    if (status == CLIENT_OK && more)
        output_note(context->output, "only the newest %ld deliveries are shown", limit);
    return status;
}

static const option_row add_options[] = {
    {OPTION_SECRET_FILE, 0, "secret-file", "FILE", "the secret is the first line of this file"},
    {OPTION_NEW_SECRET, 0, "new-secret", NULL, "have a secret made, and print it once"},
};

const client_command command_hook_add = {
    .name = "hook add",
    .words = "NAME FILE",
    .summary = "make or replace a hook, by which a registry starts jobs",
    .text = "FILE has the hook's kind and rules as JSON (- is stdin); docs/hooks.md describes it,\n"
            "docs/hooks has an example of each kind. A hook that is replaced keeps its secret if\n"
            "neither option is given.\n",
    .options = COMMAND_OPTIONS(add_options),
    .run = run_add,
};
const client_command command_hook_list = {
    .name = "hook ls",
    .words = "",
    .summary = "list hooks",
    .run = run_list,
};
const client_command command_hook_show = {
    .name = "hook show",
    .words = "NAME",
    .summary = "show a hook and what it polls, without its secret",
    .run = run_show,
};
const client_command command_hook_rm = {
    .name = "hook rm",
    .words = "NAME",
    .summary = "remove a hook and its deliveries; jobs stay",
    .run = run_rm,
};

static const option_row try_options[] = {
    {OPTION_HEADER, 'H', "header", "NAME=VALUE", "a header of the delivery; may be repeated"},
};

const client_command command_hook_try = {
    .name = "hook try",
    .words = "NAME PAYLOAD",
    .summary = "tell what a delivery with this payload would do, and do nothing",
    .text = "PAYLOAD is a file of JSON, - is stdin. Status 1 when the job would be refused.\n",
    .options = COMMAND_OPTIONS(try_options),
    .run = run_try,
};
const client_command command_hook_poll = {
    .name = "hook poll",
    .words = "NAME",
    .summary = "have the server look now at what the hook polls",
    .run = run_poll,
};

static const option_row delivery_options[] = {
    {OPTION_LIMIT, 'n', "limit", "N", "at most so many (default 50)"},
};

const client_command command_hook_deliveries = {
    .name = "hook deliveries",
    .words = "NAME",
    .summary = "list what came for a hook and what became of it, the newest first",
    .options = COMMAND_OPTIONS(delivery_options),
    .run = run_deliveries,
};
