/* SPDX-License-Identifier: Apache-2.0 */
/* Fetches of models: asking for them and seeing how they stand. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"

#include <stdio.h>

static json_t *fetch_json(const store_fetch *row)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "id", row->id, "name",
                     row->name, "source", row->source, "state", fetch_state_name(row->state),
                     "bytes_done", (json_int_t)row->bytes_done, "bytes_total",
                     (json_int_t)row->bytes_total, "error",
                     api_failure(row->error_status, row->error_message, NULL), "created_at",
                     clock_json(row->created_ms), "updated_at", clock_json(row->updated_ms),
                     "finished_at", clock_json(row->finished_ms));
}

static void fetch_refuse(http_request *request, const didi_error *error)
{
    http_reply_error(request,
                     error->status == DIDI_NOT_FOUND ? PROBLEM_UNKNOWN_FETCH
                                                     : problem_from_status(error->status),
                     error);
}

static void fetch_reply(api *self, http_request *request, const char *id, int status)
{
    didi_error error = {0};
    store_fetch row = {0};
    if (store_fetch_get(self->records, id, &row, &error) == DIDI_OK)
        http_reply_json(request, status, fetch_json(&row));
    else
        fetch_refuse(request, &error);
    store_fetch_clear(&row);
}

void api_fetches_get(void *context, http_request *request)
{
    fetch_reply(context, request, http_path_part(request, 0), 200);
}

void api_fetches_cancel(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    const char *id = http_path_part(request, 0);
    if (fetcher_cancel(self->fetcher, id, &error) == DIDI_OK)
        fetch_reply(self, request, id, 200);
    else
        fetch_refuse(request, &error);
}

void api_fetches_delete(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    if (fetcher_delete(self->fetcher, http_path_part(request, 0), &error) == DIDI_OK)
        http_reply_empty(request, 204);
    else
        fetch_refuse(request, &error);
}

void api_fetches_list(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_fetch *rows = NULL;
    size_t count = 0;
    bool more = false;
    size_t limit = 0;
    const char *after = NULL;
    if (!api_page_asked(request, name_is_job, "after must be a fetch's id", &after, &limit))
        return;
    if (store_fetch_list(self->records, after, limit, &rows, &count, &more, &error) != DIDI_OK) {
        http_reply_error(request, problem_from_status(error.status), &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, fetch_json(&rows[i]));
    http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].id : NULL));
    store_fetches_free(rows, count);
}

void api_models_add(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    fetch_request asked = {0};
    char id[ID_BYTES];
    char location[64];
    size_t bytes;
    const char *body = http_body(request, &bytes);
    int status = fetch_request_parse(body, bytes, bytes, &asked, &error);
    if (status == DIDI_OK)
        status = fetcher_request(self->fetcher, asked.name, asked.source, id, &error);
    if (status == DIDI_OK) {
        snprintf(location, sizeof location, "/v1/fetches/%s", id);
        http_reply_header(request, "Location", location);
        fetch_reply(self, request, id, 202);
    } else {
        http_reply_error(request,
                         status == DIDI_FORMAT    ? PROBLEM_MALFORMED_JSON
                         : status == DIDI_INVALID ? PROBLEM_INVALID_REQUEST
                                                  : problem_from_status(status),
                         &error);
    }
    fetch_request_clear(&asked);
}
