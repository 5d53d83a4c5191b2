/* SPDX-License-Identifier: Apache-2.0 */
/* context ls, use, show, rm. */
#include "client/commands/command.h"

#include <stdio.h>
#include <string.h>

typedef struct context_list {
    const char *current;
    json_t *rows;
} context_list;

static void add_row(void *context, const char *name, const char *host, bool has_token)
{
    context_list *self = context;
    bool current = self->current != NULL && strcmp(self->current, name) == 0;
    json_array_append_new(self->rows, json_pack("{s:s, s:s, s:b, s:b}", "name", name, "host", host,
                                                "token", has_token, "current", current));
}

static int print_rows(const command_context *context, const json_t *rows, didi_error *error)
{
    static const table_column columns[] = {
        {"CONTEXT", false}, {"HOST", false}, {"TOKEN", false}, {"IN USE", false}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        table_add(table, "%s", record_text(row, "name"));
        table_add(table, "%s", record_text(row, "host"));
        table_add(table, "%s", record_true(row, "token") ? "yes" : "no");
        table_add(table, "%s", record_true(row, "current") ? "yes" : "");
    }
    return output_table(context->output, table, error);
}

static int run_list(const command_context *context, didi_error *error)
{
    context_list list = {.current = context->settings->context, .rows = json_array()};
    int status = list.rows != NULL ? contexts_each(context->settings->path, add_row, &list, error)
                                   : client_fail_memory(error);
    return command_print(context, status, list.rows, "name", print_rows, error);
}

static int run_use(const command_context *context, didi_error *error)
{
    return contexts_use(context->settings->path, arguments_word(context->arguments, 0), error);
}

static int print_one(const command_context *context, const json_t *row, didi_error *error)
{
    client_table *table = table_create_facts();
    table_add_fact(table, "Context", record_text(row, "name"));
    table_add_fact(table, "Host", record_text(row, "host"));
    table_add_fact(table, "Authorities", record_text(row, "ca_file"));
    table_add_fact(table, "Token", record_true(row, "token") ? "yes" : "no");
    return output_table(context->output, table, error);
}

/* What a command would use now, wherever it comes from. */
static int run_show(const command_context *context, didi_error *error)
{
    const client_settings *settings = context->settings;
    json_t *row =
        json_pack("{s:s?, s:s, s:s?, s:b}", "name", settings->context, "host", settings->host,
                  "ca_file", settings->ca_file, "token", settings->token != NULL);
    return command_print(context, row != NULL ? CLIENT_OK : client_fail_memory(error), row, "name",
                         print_one, error);
}

static int run_remove(const command_context *context, didi_error *error)
{
    const char *name = arguments_word(context->arguments, 0);
    const char *current = context->settings->context;
    bool is_current = current != NULL && strcmp(current, name) == 0;
    return contexts_remove(context->settings->path, name, is_current, error);
}

const client_command command_context_list = {
    .name = "context ls",
    .words = "",
    .summary = "list the servers that are known by name",
    .run = run_list,
};
const client_command command_context_use = {
    .name = "context use",
    .words = "NAME",
    .summary = "use this server from now on",
    .run = run_use,
};
const client_command command_context_show = {
    .name = "context show",
    .words = "",
    .summary = "show which server would be used now",
    .run = run_show,
};
const client_command command_context_remove = {
    .name = "context rm",
    .words = "NAME",
    .summary = "forget a server and its token",
    .run = run_remove,
};
