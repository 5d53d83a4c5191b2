/* SPDX-License-Identifier: Apache-2.0 */
/* model add, model fetches, model cancel, model forget. */
#include "client/commands/command.h"

#include "proto/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FETCH_POLL_MILLISECONDS = 500, FETCH_LIST_ITEMS = 1000 };

static void add_amount(client_table *table, const json_t *fetch)
{
    char done[FORMAT_BYTES_MAX];
    char total[FORMAT_BYTES_MAX];
    long long bytes = record_integer(fetch, "bytes_total");
    if (bytes > 0)
        table_add(table, "%s of %s", format_bytes(done, record_integer(fetch, "bytes_done")),
                  format_bytes(total, bytes));
    else
        table_add(table, "-");
}

static int print_fetches(const command_context *context, const json_t *fetches, didi_error *error)
{
    static const table_column columns[] = {{"FETCH", false}, {"MODEL", false},  {"STATE", false},
                                           {"BYTES", true},  {"SOURCE", false}, {"ERROR", false}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(fetches); i++) {
        const json_t *fetch = json_array_get(fetches, i);
        table_add(table, "%s", record_text(fetch, "id"));
        table_add(table, "%s", record_text(fetch, "name"));
        table_add(table, "%s", record_text(fetch, "state"));
        add_amount(table, fetch);
        table_add(table, "%s", record_text(fetch, "source"));
        table_add(table, "%s", record_text(json_object_get(fetch, "error"), "detail"));
    }
    return output_table(context->output, table, error);
}

static int run_fetches(const command_context *context, didi_error *error)
{
    json_t *fetches = NULL;
    bool more = false;
    int status =
        service_list(context->service, "/v1/fetches", FETCH_LIST_ITEMS, &fetches, &more, error);
    status = command_print(context, status, fetches, "id", print_fetches, error);
    if (more)
        output_note(context->output, "only the newest %d fetches are shown", FETCH_LIST_ITEMS);
    return status;
}

/* Replaces *fetch until it ended. */
static int wait_for(const command_context *context, json_t **fetch, didi_error *error)
{
    char id[LIMIT_JOB_ID_CHARACTERS + 1];
    (void)snprintf(id, sizeof id, "%s", record_text(*fetch, "id"));
    if (!name_is_job(id))
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server sent no fetch");
    int status = CLIENT_OK;
    for (;;) {
        const char *state = record_text(*fetch, "state");
        if (strcmp(state, "queued") != 0 && strcmp(state, "running") != 0)
            break;
        status = interrupt_sleep(context->interrupt, FETCH_POLL_MILLISECONDS, error);
        if (status == CLIENT_INTERRUPTED)
            output_note(context->output, "fetch %s goes on; see didictl model fetches", id);
        json_t *next = NULL;
        if (status == CLIENT_OK)
            status = service_get(context->service, 0, &next, error, "/v1/fetches/%s", id);
        if (status != CLIENT_OK)
            return status;
        json_decref(*fetch);
        *fetch = next;
    }
    if (strcmp(record_text(*fetch, "state"), "succeeded") == 0)
        return CLIENT_OK;
    if (strcmp(record_text(*fetch, "state"), "cancelled") == 0)
        return didi_fail(error, CLIENT_FAILURE, record_text(*fetch, "name"),
                         "the fetch was cancelled");
    return didi_fail(error, CLIENT_FAILURE, record_text(*fetch, "name"), "%s",
                     record_text(json_object_get(*fetch, "error"), "detail"));
}

static int print_fetch(const command_context *context, const json_t *fetch, didi_error *error)
{
    int status = output_text(context->output, record_text(fetch, "id"), error);
    return status != CLIENT_OK ? status : output_finish(context->output, error);
}

static int run_add(const command_context *context, didi_error *error)
{
    json_t *fetch = NULL;
    json_t *request = json_pack("{s:s, s:s}", "name", arguments_word(context->arguments, 0),
                                "source", arguments_word(context->arguments, 1));
    if (request == NULL)
        return didi_fail(error, CLIENT_USAGE, NULL, "name and source must be UTF-8");
    int status = service_send(context->service, "POST", "/v1/models", request, NULL, &fetch, error);
    json_decref(request);
    if (status == CLIENT_OK && arguments_has(context->arguments, OPTION_WAIT))
        status = wait_for(context, &fetch, error);
    if (status != CLIENT_OK) {
        json_decref(fetch);
        return status;
    }
    return command_print(context, status, fetch, "id", print_fetch, error);
}

static int run_cancel(const command_context *context, didi_error *error)
{
    return command_change_each(context, "/v1/fetches", "a fetch", "POST", "/cancel", error);
}

static int run_forget(const command_context *context, didi_error *error)
{
    return command_change_each(context, "/v1/fetches", "a fetch", "DELETE", "", error);
}

static const option_row add_options[] = {
    {OPTION_WAIT, 'w', "wait", NULL, "stay until the model is there, or cannot be fetched"}};

const client_command command_model_add = {
    .name = "model add",
    .words = "MODEL SOURCE",
    .summary = "make the server fetch a model",
    .text =
        "SOURCE is hf:ORG/NAME or hf:ORG/NAME@REVISION (MODEL is then called the same), the\n"
        "https URL of a safetensors file, s3://BUCKET/PREFIX with the files of a model, or the\n"
        "path of a directory that lies below one of the server's model directories.\n",
    .options = COMMAND_OPTIONS(add_options),
    .run = run_add,
};
const client_command command_model_fetches = {
    .name = "model fetches",
    .words = "",
    .summary = "list what the server fetches and fetched, the newest first",
    .run = run_fetches,
};
const client_command command_model_cancel = {
    .name = "model cancel",
    .words = "FETCH...",
    .summary = "stop queued or running fetches",
    .run = run_cancel,
};
const client_command command_model_forget = {
    .name = "model forget",
    .words = "FETCH...",
    .summary = "remove fetches that ended from the list, not their models",
    .run = run_forget,
};
