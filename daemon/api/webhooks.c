/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks: endpoints, and the log of what was sent to them. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `unknown` is what DIDI_NOT_FOUND means here. */
static void reply_error(http_request *request, problem unknown, const didi_error *error)
{
    http_reply_error(request,
                     error->status == DIDI_NOT_FOUND ? unknown
                     : error->status == DIDI_FORMAT  ? PROBLEM_MALFORMED_JSON
                     : error->status == DIDI_INVALID ? PROBLEM_INVALID_REQUEST
                                                     : problem_from_status(error->status),
                     error);
}

/* ---- endpoints ---- */

/* `secret` is shown once, when it is new. */
static json_t *webhook_json(const store_webhook *row, const char *secret)
{
    json_t *value = json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:b, s:s?, s:I, s:I, s:o, s:o, s:o, s:o}", "id", row->id, "url",
        row->url, "description", row->description, "events", json_load_own(row->events), "labels",
        json_load_own(row->labels), "enabled", row->enabled, "disabled_reason",
        row->disabled_reason, "queued", (json_int_t)row->queued, "dropped",
        (json_int_t)row->dropped, "failing_since", clock_json(row->failing_since_ms),
        "old_secret_until",
        clock_json(row->old_secret_until_ms > clock_now_ms() ? row->old_secret_until_ms : 0),
        "created_at", clock_json(row->created_ms), "updated_at", clock_json(row->updated_ms));
    if (value != NULL && secret != NULL)
        json_object_set_new(value, "secret", json_string(secret));
    return value;
}

static void webhook_reply(api *self, http_request *request, const char *id, int status,
                          const char *secret)
{
    didi_error error = {0};
    store_webhook row = {0};
    if (store_webhook_get(self->records, id, &row, &error) == DIDI_OK)
        http_reply_json(request, status, webhook_json(&row, secret));
    else
        reply_error(request, PROBLEM_UNKNOWN_WEBHOOK, &error);
    store_webhook_clear(&row);
}

void api_webhooks_get(void *context, http_request *request)
{
    webhook_reply(context, request, http_path_part(request, 0), 200, NULL);
}

void api_webhooks_list(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_webhook *rows = NULL;
    size_t count = 0;
    size_t limit = 0;
    bool more = false;
    const char *after = NULL;
    if (!api_page_asked(request, name_is_job, "after must be a webhook's id", &after, &limit))
        return;
    if (store_webhook_list(self->records, after, limit, &rows, &count, &more, &error) != DIDI_OK) {
        reply_error(request, PROBLEM_UNKNOWN_WEBHOOK, &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, webhook_json(&rows[i], NULL));
    http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].id : NULL));
    store_webhooks_free(rows, count);
}

static int read_body(http_request *request, webhook_request_kind kind, webhook_request *ret_asked,
                     didi_error *error)
{
    size_t bytes;
    const char *body = http_body(request, &bytes);
    return webhook_request_parse(kind, body, bytes, ret_asked, error);
}

static int create(api *self, const webhook_request *asked, webhook_secret *secret,
                  char ret_id[ID_BYTES], didi_error *error)
{
    char *events = webhook_request_events(asked);
    store_new_webhook wanted = {.url = asked->url,
                                .description = asked->description != NULL ? asked->description : "",
                                .events = events,
                                .labels = asked->labels != NULL ? asked->labels : "{}",
                                .enabled = asked->enabled};
    int status = events != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        status = webhooks_check_url(self->webhooks, asked->url, error);
    if (status == DIDI_OK)
        status = webhooks_make_secret(self->webhooks, asked->secret, secret, error);
    wanted.secret = secret->sealed;
    if (status == DIDI_OK)
        status = store_webhook_create(self->records, &wanted, ret_id, error);
    free(events);
    return status;
}

void api_webhooks_create(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    webhook_request asked = {0};
    webhook_secret secret = {0};
    char id[ID_BYTES];
    char location[64];
    int status = read_body(request, WEBHOOK_REQUEST_CREATE, &asked, &error);
    if (status == DIDI_OK)
        status = create(self, &asked, &secret, id, &error);
    if (status == DIDI_OK) {
        snprintf(location, sizeof location, "/v1/webhooks/%s", id);
        http_reply_header(request, "Location", location);
        webhook_reply(self, request, id, 201, secret.text);
    } else {
        reply_error(request, PROBLEM_UNKNOWN_WEBHOOK, &error);
    }
    webhook_secret_clear(&secret);
    webhook_request_clear(&asked);
}

void api_webhooks_update(void *context, http_request *request)
{
    api *self = context;
    const char *id = http_path_part(request, 0);
    didi_error error = {0};
    webhook_request asked = {0};
    char *events = NULL;
    int status = read_body(request, WEBHOOK_REQUEST_UPDATE, &asked, &error);
    if (status == DIDI_OK && asked.url != NULL)
        status = webhooks_check_url(self->webhooks, asked.url, &error);
    if (status == DIDI_OK && asked.has_events && (events = webhook_request_events(&asked)) == NULL)
        status = didi_fail(&error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK) {
        const store_webhook_change change = {.url = asked.url,
                                             .description = asked.description,
                                             .events = events,
                                             .labels = asked.labels,
                                             .enabled = asked.has_enabled ? asked.enabled : -1};
        status = store_webhook_update(self->records, id, &change, &error);
    }
    if (status == DIDI_OK)
        webhook_reply(self, request, id, 200, NULL);
    else
        reply_error(request, PROBLEM_UNKNOWN_WEBHOOK, &error);
    free(events);
    webhook_request_clear(&asked);
}

void api_webhooks_rotate(void *context, http_request *request)
{
    api *self = context;
    const char *id = http_path_part(request, 0);
    didi_error error = {0};
    webhook_request asked = {0};
    webhook_secret secret = {0};
    int status = read_body(request, WEBHOOK_REQUEST_ROTATE, &asked, &error);
    if (status == DIDI_OK)
        status = webhooks_make_secret(self->webhooks, asked.secret, &secret, &error);
    if (status == DIDI_OK)
        status = store_webhook_rotate(self->records, id, secret.sealed,
                                      clock_now_ms() + asked.overlap_seconds * 1000, &error);
    if (status == DIDI_OK)
        webhook_reply(self, request, id, 200, secret.text);
    else
        reply_error(request, PROBLEM_UNKNOWN_WEBHOOK, &error);
    webhook_secret_clear(&secret);
    webhook_request_clear(&asked);
}

void api_webhooks_delete(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    if (store_webhook_delete(self->records, http_path_part(request, 0), &error) == DIDI_OK)
        http_reply_empty(request, 204);
    else
        reply_error(request, PROBLEM_UNKNOWN_WEBHOOK, &error);
}

/* ---- deliveries ---- */

/* With `whole`, what is sent and what was answered too. */
static json_t *delivery_json(const store_delivery *row, bool whole)
{
    json_t *value = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:s?}", "id", row->id,
        "webhook", row->webhook_id, "type", row->type, "subject", row->subject, "state",
        delivery_state_name(row->state), "attempts", (int)row->attempts_all, "created_at",
        clock_json(row->created_ms), "next_attempt_at",
        clock_json(row->state == DELIVERY_QUEUED ? row->due_ms : 0), "sent_at",
        clock_json(row->sent_ms), "finished_at", clock_json(row->finished_ms), "seconds",
        row->sent_ms != 0 ? json_real((double)row->duration_ms / 1000) : json_null(), "http_status",
        row->http_status != 0 ? json_integer(row->http_status) : json_null(), "error", row->error);
    if (value != NULL && whole) {
        json_object_set_new(value, "request", json_load_own(row->body));
        json_object_set_new(value, "answer",
                            row->answer != NULL ? json_string(row->answer) : json_null());
    }
    return value;
}

static void delivery_reply(api *self, http_request *request, const char *id, int status)
{
    const char *webhook = http_path_part(request, 0);
    didi_error error = {0};
    store_delivery row = {0};
    char location[128];
    if (store_delivery_get(self->records, webhook, id, &row, &error) == DIDI_OK) {
        snprintf(location, sizeof location, "/v1/webhooks/%s/deliveries/%s", webhook, id);
        http_reply_header(request, "Location", location);
        http_reply_json(request, status, delivery_json(&row, true));
    } else {
        reply_error(request, PROBLEM_UNKNOWN_DELIVERY, &error);
    }
    store_delivery_clear(&row);
}

void api_webhooks_test(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    char id[ID_BYTES];
    if (store_delivery_test(self->records, http_path_part(request, 0), id, &error) == DIDI_OK)
        delivery_reply(self, request, id, 202);
    else
        reply_error(request, PROBLEM_UNKNOWN_WEBHOOK, &error);
}

/* False: a reply was made. */
static bool find_webhook(api *self, http_request *request)
{
    didi_error error = {0};
    store_webhook row = {0};
    int status = store_webhook_get(self->records, http_path_part(request, 0), &row, &error);
    store_webhook_clear(&row);
    if (status != DIDI_OK)
        reply_error(request, PROBLEM_UNKNOWN_WEBHOOK, &error);
    return status == DIDI_OK;
}

void api_deliveries_list(void *context, http_request *request)
{
    api *self = context;
    const char *state_name = http_query(request, "state");
    delivery_state state = DELIVERY_QUEUED;
    store_delivery_filter filter = {.webhook_id = http_path_part(request, 0)};
    didi_error error = {0};
    store_delivery *rows = NULL;
    size_t count = 0;
    size_t limit = 0;
    bool more = false;
    if (!api_page_asked(request, name_is_job, "after must be a delivery's id", &filter.before,
                        &limit))
        return;
    if (state_name != NULL && !delivery_state_parse(state_name, &state)) {
        http_refuse_parameter(request, "state", "state must be queued, succeeded or failed");
        return;
    }
    filter.state = state_name != NULL ? &state : NULL;
    if (!find_webhook(self, request))
        return;
    if (store_delivery_list(self->records, &filter, limit, &rows, &count, &more, &error) !=
        DIDI_OK) {
        reply_error(request, PROBLEM_UNKNOWN_WEBHOOK, &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, delivery_json(&rows[i], false));
    http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].id : NULL));
    store_deliveries_free(rows, count);
}

void api_deliveries_get(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_delivery row = {0};
    long long wait = 0;
    if (!http_query_number(request, "wait", 0, LIMIT_WAIT_SECONDS, &wait))
        return;
    http_watch(request, http_path_part(request, 1));
    if (!find_webhook(self, request))
        return;
    if (store_delivery_get(self->records, http_path_part(request, 0), http_path_part(request, 1),
                           &row, &error) != DIDI_OK)
        reply_error(request, PROBLEM_UNKNOWN_DELIVERY, &error);
    else if (row.state == DELIVERY_QUEUED && wait > 0 && !http_wait_is_over(request))
        http_wait(request, wait * 1000);
    else
        http_reply_json(request, 200, delivery_json(&row, true));
    store_delivery_clear(&row);
}

void api_deliveries_again(void *context, http_request *request)
{
    api *self = context;
    const char *id = http_path_part(request, 1);
    didi_error error = {0};
    if (!find_webhook(self, request))
        return;
    if (store_delivery_again(self->records, http_path_part(request, 0), id, &error) == DIDI_OK)
        delivery_reply(self, request, id, 202);
    else
        reply_error(request, PROBLEM_UNKNOWN_DELIVERY, &error);
}
