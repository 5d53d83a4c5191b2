/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens, and who a client is. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"

#include <stdio.h>
#include <string.h>

static void reply_token_error(http_request *request, const didi_error *error)
{
    http_reply_error(request,
                     error->status == DIDI_NOT_FOUND ? PROBLEM_UNKNOWN_TOKEN
                                                     : problem_from_status(error->status),
                     error);
}

void api_whoami(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    access_client client;
    store_token token = {0};
    const char *name = http_client(request);
    access_client_of(self->access, name, &client);
    bool with_token = client.id[0] != '\0';
    if (with_token && store_token_get(self->records, client.id, &token, &error) != DIDI_OK) {
        access_refuse_ended(request);
        return;
    }
    const char *by = with_token ? "token" : name[0] != '\0' ? "socket" : "local";
    http_reply_json(request, 200,
                    json_pack("{s:s, s:s?, s:s?, s:s, s:o}", "authenticated_by", by, "id",
                              with_token ? client.id : NULL, "name", token.name, "scope",
                              token_scope_name(client.scope), "expires_at",
                              clock_json(token.expires_ms)));
    store_token_clear(&token);
}

void api_tokens_list(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_token *rows = NULL;
    size_t count = 0;
    bool more = false;
    size_t limit = 0;
    const char *after = NULL;
    if (!api_page_asked(request, name_is_job, "after must be a token's id", &after, &limit))
        return;
    if (store_token_list(self->records, after, limit, &rows, &count, &more, &error) != DIDI_OK) {
        reply_token_error(request, &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, access_token_json(&rows[i]));
    http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].id : NULL));
    store_tokens_free(rows, count);
}

void api_tokens_get(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_token row = {0};
    if (store_token_get(self->records, http_path_part(request, 0), &row, &error) == DIDI_OK)
        http_reply_json(request, 200, access_token_json(&row));
    else
        reply_token_error(request, &error);
    store_token_clear(&row);
}

/* The audit line names whoever asked. */
static const char *client_name(const http_request *request)
{
    const char *client = http_client(request);
    return client[0] != '\0' ? client : "local";
}

static void reply_created(api *self, http_request *request, const char *id, const char *text)
{
    didi_error error = {0};
    store_token row = {0};
    char location[64];
    if (store_token_get(self->records, id, &row, &error) != DIDI_OK) {
        reply_token_error(request, &error);
        return;
    }
    json_t *value = access_token_json(&row);
    if (value != NULL && json_object_set_new(value, "token", json_string(text)) != 0) {
        json_decref(value);
        value = NULL;
    }
    (void)snprintf(location, sizeof location, "/v1/tokens/%s", id);
    http_reply_header(request, "Location", location);
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply_json(request, 201, value);
    store_token_clear(&row);
}

void api_tokens_create(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    token_request asked = {0};
    char id[ID_BYTES];
    char text[TOKEN_TEXT_BYTES];
    size_t bytes;
    const char *body = http_body(request, &bytes);
    int status = token_request_parse(body, bytes, bytes, &asked, &error);
    if (status != DIDI_OK) {
        http_reply_error(request,
                         status == DIDI_FORMAT    ? PROBLEM_MALFORMED_JSON
                         : status == DIDI_INVALID ? PROBLEM_INVALID_REQUEST
                                                  : problem_from_status(status),
                         &error);
        return;
    }
    status = access_token_create(self->access, &asked, client_name(request), id, text, &error);
    if (status == DIDI_OK)
        reply_created(self, request, id, text);
    else
        reply_token_error(request, &error);
    explicit_bzero(text, sizeof text);
    token_request_clear(&asked);
}

void api_tokens_delete(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    if (access_token_revoke(self->access, http_path_part(request, 0), client_name(request),
                            &error) == DIDI_OK)
        http_reply_empty(request, 204);
    else
        reply_token_error(request, &error);
}
