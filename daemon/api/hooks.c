/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks: written by operators, called by registries. */
#include "daemon/api/api_internal.h"
#include "daemon/api/submit.h"
#include "proto/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- what hooks do through the interface ---- */

static int service_submit(void *context, json_t *body, const char *key, const char *trace,
                          char *ret_id, json_t **ret_plan, didi_error *error)
{
    return api_submit_document(context, body, key, trace, ret_id, ret_plan, error);
}

static json_t *service_figures(void *context, const char *job_id)
{
    api *self = context;
    return api_figures_get(self->figures, self->jobs, job_id);
}

int api_start_hooks(api *self, didi_error *error)
{
    const hooks_service service = {
        .context = self, .submit = service_submit, .figures = service_figures};
    return hooks_start(self->hooks, &service, error);
}

/* ---- hooks ---- */

static void reply_error(http_request *request, const didi_error *error)
{
    int status = error->status;
    http_reply_error(request,
                     status == DIDI_NOT_FOUND  ? PROBLEM_UNKNOWN_HOOK
                     : status == DIDI_FORMAT   ? PROBLEM_MALFORMED_JSON
                     : status == DIDI_INVALID  ? PROBLEM_INVALID_REQUEST
                     : status == DIDI_CONFLICT ? PROBLEM_CONFLICT
                                               : problem_from_status(status),
                     error);
}

static json_t *hook_json(const store_hook *row)
{
    return json_pack("{s:s, s:o, s:o, s:o}", "name", row->name, "definition",
                     json_load_own(row->document), "created_at", clock_json(row->created_ms),
                     "updated_at", clock_json(row->updated_ms));
}

void api_hooks_list(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_hook *rows = NULL;
    size_t count = 0;
    bool more = false;
    size_t limit = 0;
    const char *after = NULL;
    if (!api_page_asked(request, name_is_label_key, "after must be a hook's name", &after, &limit))
        return;
    if (store_hook_list(self->records, after, limit, &rows, &count, &more, &error) != DIDI_OK) {
        reply_error(request, &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, hook_json(&rows[i]));
    http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].name : NULL));
    store_hooks_free(rows, count);
}

/* What is known of each source that the hook polls. */
static json_t *polls_json(api *self, const store_hook *row, const json_t *definition)
{
    const json_t *sources = json_object_get(json_object_get(definition, "poll"), "sources");
    json_t *polls = json_array();
    for (size_t i = 0; i < json_array_size(sources); i++) {
        json_t *source = json_array_get(sources, i);
        char *name = json_dumps(source, JSON_COMPACT | JSON_SORT_KEYS);
        store_poll poll = {0};
        didi_error unheard = {0};
        if (name != NULL &&
            store_poll_get(self->records, row->name, name, &poll, &unheard) == DIDI_OK)
            json_array_append_new(
                polls, json_pack("{s:O, s:s?, s:o, s:s?}", "source", source, "seen", poll.seen,
                                 "checked_at", clock_json(poll.checked_ms), "error", poll.error));
        store_poll_clear(&poll);
        free(name);
    }
    return polls;
}

/* `secret` "" is not shown. */
static void hook_reply(api *self, http_request *request, const char *name, int status,
                       const char *secret)
{
    didi_error error = {0};
    store_hook row = {0};
    if (store_hook_get(self->records, name, &row, &error) != DIDI_OK) {
        reply_error(request, &error);
        return;
    }
    json_t *value = hook_json(&row);
    if (value != NULL)
        json_object_set_new(value, "polls",
                            polls_json(self, &row, json_object_get(value, "definition")));
    if (value != NULL && secret[0] != '\0')
        json_object_set_new(value, "secret", json_string(secret));
    http_reply_json(request, status, value);
    store_hook_clear(&row);
}

void api_hooks_get(void *context, http_request *request)
{
    hook_reply(context, request, http_path_part(request, 0), 200, "");
}

void api_hooks_put(void *context, http_request *request)
{
    api *self = context;
    const char *name = http_path_part(request, 0);
    char secret[HOOKS_SECRET_BYTES] = "";
    char location[128];
    json_t *document = NULL;
    didi_error error = {0};
    bool created = false;
    size_t bytes;
    const char *body = http_body(request, &bytes);
    int status = document_parse(body, bytes, bytes, &document, &error);
    if (status == DIDI_OK)
        status = hooks_save(self->hooks, name, document, &created, secret, &error);
    json_decref(document);
    if (status != DIDI_OK) {
        reply_error(request, &error);
        return;
    }
    if (created) {
        snprintf(location, sizeof location, "/v1/hooks/%s", name);
        http_reply_header(request, "Location", location);
    }
    hook_reply(self, request, name, created ? 201 : 200, secret);
    memset(secret, 0, sizeof secret);
}

void api_hooks_delete(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    if (store_hook_delete(self->records, http_path_part(request, 0), &error) == DIDI_OK)
        http_reply_empty(request, 204);
    else
        reply_error(request, &error);
}

void api_hooks_poll(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    if (hooks_poll(self->hooks, http_path_part(request, 0), &error) == DIDI_OK)
        http_reply_empty(request, 204);
    else
        reply_error(request, &error);
}

/* ---- deliveries ---- */

static json_t *registration_json(const store_receipt *row)
{
    if (row->registered == NULL)
        return json_null();
    return json_pack("{s:s, s:s, s:s?, s:s?}", "state", row->registered, "model", row->model,
                     "version", row->version, "error", row->register_error);
}

static json_t *delivery_json(const store_receipt *row)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s?, s:s, s:o, s:o, s:o}", "id",
                     row->id, "origin", row->origin, "sender_id", row->delivery, "state",
                     receipt_state_name(row->state), "rule", row->rule, "job",
                     row->job_id[0] != '\0' ? row->job_id : NULL, "fetch",
                     row->fetch_id[0] != '\0' ? row->fetch_id : NULL, "reason", row->reason,
                     "excerpt", row->excerpt, "registration", registration_json(row), "created_at",
                     clock_json(row->created_ms), "finished_at", clock_json(row->finished_ms));
}

void api_hooks_deliveries(void *context, http_request *request)
{
    api *self = context;
    const char *name = http_path_part(request, 0);
    didi_error error = {0};
    store_hook hook = {0};
    store_receipt *rows = NULL;
    size_t count = 0;
    bool more = false;
    size_t limit = 0;
    const char *after = NULL;
    if (!api_page_asked(request, name_is_job, "after must be a delivery's id", &after, &limit))
        return;
    const store_receipt_page page = {.hook = name, .before = after, .limit = limit};
    int status = store_hook_get(self->records, name, &hook, &error);
    if (status == DIDI_OK)
        status = store_receipt_list(self->records, &page, &rows, &count, &more, &error);
    store_hook_clear(&hook);
    if (status != DIDI_OK) {
        reply_error(request, &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, delivery_json(&rows[i]));
    http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].id : NULL));
    store_receipts_free(rows, count);
}

static const char *header_of_request(void *context, const char *name)
{
    return http_header(context, name);
}

/* Senders are told what became of each event, and no more. */
static void receipt_reply(api *self, http_request *request, const hooks_receipt *receipt)
{
    json_t *data = json_array();
    bool fresh = false;
    for (size_t i = 0; i < receipt->count; i++) {
        store_receipt row = {0};
        didi_error error = {0};
        if (store_receipt_get(self->records, receipt->ids[i], &row, &error) != DIDI_OK) {
            json_decref(data);
            reply_error(request, &error);
            return;
        }
        /* what was taken may have failed since; without an attempt it never was */
        const bool refused = row.state == RECEIPT_FAILED && row.attempts == 0;
        fresh |= !receipt->repeated[i] && row.state != RECEIPT_IGNORED && !refused;
        json_array_append_new(data, json_pack("{s:s, s:s, s:b, s:s?, s:s?, s:s?}", "id", row.id,
                                              "state", receipt_state_name(row.state), "repeated",
                                              receipt->repeated[i], "rule", row.rule, "job",
                                              row.job_id[0] != '\0' ? row.job_id : NULL, "reason",
                                              row.reason));
        store_receipt_clear(&row);
    }
    http_reply_json(request, fresh ? 202 : 200, json_pack("{s:o}", "data", data));
}

void api_hooks_receive(void *context, http_request *request)
{
    api *self = context;
    hook_message message = {.header = header_of_request, .context = request};
    hooks_receipt receipt;
    problem type = PROBLEM_INTERNAL;
    didi_error error = {0};
    char seconds[24];
    message.body = http_body(request, &message.bytes);
    if (hooks_receive(self->hooks, http_path_part(request, 0), http_peer_address(request), &message,
                      &receipt, &type, &error) == DIDI_OK) {
        receipt_reply(self, request, &receipt);
        return;
    }
    if (type == PROBLEM_TOO_MANY_FAILURES) {
        snprintf(seconds, sizeof seconds, "%lld", (long long)receipt.wait_seconds);
        http_reply_header(request, "Retry-After", seconds);
    }
    http_reply_error(request, type, &error);
}

/* ---- dry runs ---- */

static const char *header_of_object(void *context, const char *name)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)context, key, value)
    {
        if (strcasecmp(key, name) == 0)
            return json_string_value(value);
    }
    return NULL;
}

/* {"payload": ..., "headers": {NAME: VALUE}} */
static int try_read(json_t *asked, json_t **ret_payload, json_t **ret_headers, didi_error *error)
{
    const char *key;
    json_t *value;
    if (!json_is_object(asked))
        return field_fail_type("the body", "an object", asked, "", error);
    json_object_foreach(asked, key, value)
    {
        if (strcmp(key, "payload") != 0 && strcmp(key, "headers") != 0)
            return didi_fail(error, DIDI_INVALID, "", "unknown field '%.64s'", key);
    }
    *ret_payload = json_object_get(asked, "payload");
    *ret_headers = json_object_get(asked, "headers");
    if (*ret_payload == NULL)
        return didi_fail(error, DIDI_INVALID, "/payload", "payload is missing");
    if (!json_is_object(*ret_payload))
        return field_fail_type("payload", "an object", *ret_payload, "/payload", error);
    if (*ret_headers != NULL && !json_is_object(*ret_headers))
        return field_fail_type("headers", "an object", *ret_headers, "/headers", error);
    json_object_foreach(*ret_headers, key, value)
    {
        if (!json_is_string(value))
            return field_fail_type("a header", "a string", value, "/headers", error);
    }
    return DIDI_OK;
}

void api_hooks_try(void *context, http_request *request)
{
    api *self = context;
    json_t *asked = NULL;
    json_t *payload = NULL;
    json_t *headers = NULL;
    json_t *report = NULL;
    didi_error error = {0};
    size_t bytes;
    const char *body = http_body(request, &bytes);
    int status = document_parse(body, bytes, bytes, &asked, &error);
    if (status == DIDI_OK)
        status = try_read(asked, &payload, &headers, &error);
    char *text = status == DIDI_OK ? document_render(payload) : NULL;
    if (status == DIDI_OK && text == NULL)
        status = didi_fail(&error, DIDI_NO_MEMORY, NULL, "no memory for a dry run");
    if (status == DIDI_OK) {
        const hook_message message = {
            .header = header_of_object, .context = headers, .body = text, .bytes = strlen(text)};
        status = hooks_try(self->hooks, http_path_part(request, 0), &message, &report, &error);
    }
    if (status == DIDI_OK)
        http_reply_json(request, 200, report);
    else
        reply_error(request, &error);
    free(text);
    json_decref(asked);
}
