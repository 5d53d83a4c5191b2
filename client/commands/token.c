/* SPDX-License-Identifier: Apache-2.0 */
/* token create, ls, rm. */
#include "client/commands/command.h"

#include "proto/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKEN_LIST_ITEMS = 1000 };

static int print_token(const command_context *context, const json_t *token, didi_error *error)
{
    int status = output_text(context->output, record_text(token, "token"), error);
    return status == CLIENT_OK ? output_finish(context->output, error) : status;
}

static int run_create(const command_context *context, didi_error *error)
{
    const char *scope = arguments_value(context->arguments, OPTION_SCOPE);
    token_request asked = {0};
    didi_error wrong = {0};
    json_t *made = NULL;
    if (scope == NULL)
        return didi_fail(error, CLIENT_USAGE, NULL, "--scope is required");
    if (token_request_from_texts(arguments_word(context->arguments, 0), scope,
                                 arguments_value(context->arguments, OPTION_EXPIRES), &asked,
                                 &wrong) != DIDI_OK)
        return didi_fail(error, CLIENT_USAGE, NULL, "%s", wrong.message);
    char *text = token_request_write(&asked);
    json_t *body = json_load_own(text);
    int status = body != NULL ? service_send(context->service, "POST", "/v1/tokens", body, NULL,
                                             &made, error)
                              : client_fail_memory(error);
    json_decref(body);
    free(text);
    token_request_clear(&asked);
    return command_print(context, status, made, "token", print_token, error);
}

static int print_tokens(const command_context *context, const json_t *tokens, didi_error *error)
{
    static const table_column columns[] = {{"TOKEN", false},   {"NAME", false},
                                           {"SCOPE", false},   {"CREATED", false},
                                           {"EXPIRES", false}, {"LAST USED", false}};
    static const char *const keys[] = {"id",         "name",       "scope",
                                       "created_at", "expires_at", "last_used_at"};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(tokens); i++)
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
            const char *text = record_text(json_array_get(tokens, i), keys[k]);
            table_add(table, "%s", text[0] != '\0' ? text : "never");
        }
    return output_table(context->output, table, error);
}

static int run_list(const command_context *context, didi_error *error)
{
    json_t *tokens = NULL;
    bool more = false;
    int status =
        service_list(context->service, "/v1/tokens", TOKEN_LIST_ITEMS, &tokens, &more, error);
    return command_print(context, status, tokens, "id", print_tokens, error);
}

static int run_remove(const command_context *context, didi_error *error)
{
    const char *id = arguments_word(context->arguments, 0);
    json_t *answer = NULL;
    char target[64];
    if (!name_is_job(id))
        return didi_fail(error, CLIENT_USAGE, NULL, "that is no id of a token");
    (void)snprintf(target, sizeof target, "/v1/tokens/%s", id);
    int status = service_send(context->service, "DELETE", target, NULL, NULL, &answer, error);
    json_decref(answer);
    return status;
}

static const option_row create_options[] = {
    {OPTION_SCOPE, 0, "scope", "SCOPE", "read, submit or admin"},
    {OPTION_EXPIRES, 0, "expires", "TIME", "life from now, as 12h or 90d (for ever)"}};

const client_command command_token_create = {
    .name = "token create",
    .words = "NAME",
    .summary = "make a token and print it, once",
    .options = COMMAND_OPTIONS(create_options),
    .run = run_create,
};
const client_command command_token_list = {
    .name = "token ls",
    .words = "",
    .summary = "list tokens, the newest first",
    .run = run_list,
};
const client_command command_token_remove = {
    .name = "token rm",
    .words = "TOKEN",
    .summary = "revoke a token by its id",
    .run = run_remove,
};
