/* SPDX-License-Identifier: Apache-2.0 */
/* Bake-offs: asking for them, and what came out as one table. */
#include "daemon/api/api_internal.h"
#include "daemon/api/standing.h"
#include "daemon/api/submit.h"
#include "proto/proto.h"
#include "src/base/base.h"
#include "src/didi.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void bakeoff_refuse(http_request *request, const didi_error *error)
{
    http_reply_error(request,
                     error->status == DIDI_NOT_FOUND ? PROBLEM_UNKNOWN_BAKEOFF
                                                     : problem_from_status(error->status),
                     error);
}

/* ---- as JSON ---- */

/* What lists show; NULL when out of memory or the row is damaged. */
static json_t *bakeoff_json(const store_bakeoff *row)
{
    json_t *asked = json_load_own(row->request);
    json_t *tasks = json_array();
    json_t *task;
    size_t index;
    json_array_foreach(json_object_get(asked, "tasks"), index, task)
    {
        json_array_append(tasks, json_object_get(task, "name"));
    }
    json_t *value = json_pack(
        "{s:s, s:s, s:s, s:O?, s:o, s:b, s:b, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "id", row->id,
        "name", row->name, "state", job_state_name(row->state), "base",
        json_object_get(asked, "base"), "tasks", tasks, "scored", (int)row->scored,
        "cancel_requested", (int)row->cancel_requested, "model_bytes", (json_int_t)row->model_bytes,
        "members", (json_int_t)row->members, "members_ended", (json_int_t)row->ended, "error",
        api_failure(row->error_status, row->error_message, NULL), "created_at",
        clock_json(row->created_ms), "updated_at", clock_json(row->updated_ms), "finished_at",
        clock_json(row->finished_ms));
    json_decref(asked);
    return value;
}

typedef struct table {
    store_bakeoff row;
    store_member *members;
    size_t member_count;
    store_score *scores;
    size_t score_count;
} table;

static void table_clear(table *self)
{
    store_bakeoff_clear(&self->row);
    store_members_free(self->members, self->member_count);
    store_scores_free(self->scores, self->score_count);
}

static int table_read(api *self, const char *id, table *ret_table, didi_error *error)
{
    table found = {0};
    int status = store_bakeoff_get(self->records, id, &found.row, error);
    if (status == DIDI_OK)
        status =
            store_bakeoff_members(self->records, id, &found.members, &found.member_count, error);
    if (status == DIDI_OK)
        status = store_bakeoff_scores(self->records, id, &found.scores, &found.score_count, error);
    if (status != DIDI_OK)
        table_clear(&found);
    else
        *ret_table = found;
    return status;
}

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *member_json(const table *self, const store_member *one)
{
    const store_result *result = &one->result;
    const bool sized = isfinite(result->ratio);
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:s?, s:b, s:s, s:f, s:o, s:o, s:o, s:o, s:o, s:o}", "label",
        one->label, "role", member_role_name(one->role), "method", one->method, "method_options",
        json_load_own(one->options), "job", one->job_id[0] != '\0' ? one->job_id : NULL,
        "job_exists", (int)one->has_job, "state", one->state, "progress",
        isfinite(one->progress) ? one->progress : 0.0, "bytes",
        sized ? json_integer((json_int_t)result->bytes) : json_null(), "ratio",
        number_or_null(result->ratio), "relative_error", number_or_null(result->error), "seconds",
        one->ended && one->job_id[0] != '\0' ? json_real((double)one->run_ms / 1000) : json_null(),
        "scores", standing_scores(self->scores, self->score_count, one->number), "error",
        api_failure(one->error_status, one->error_message, NULL));
}

static json_t *table_json(const table *self)
{
    json_t *value = bakeoff_json(&self->row);
    json_t *rows = json_array();
    for (size_t i = 0; i < self->member_count; i++)
        json_array_append_new(rows, member_json(self, &self->members[i]));
    if (value == NULL || rows == NULL) {
        json_decref(value);
        json_decref(rows);
        return NULL;
    }
    standing_judge(rows, self->row.scored);
    json_object_set_new(value, "request", json_load_own(self->row.request));
    json_object_set_new(value, "verdict", standing_verdict(rows, self->row.scored));
    json_object_set_new(value, "rows", rows);
    return value;
}

static void bakeoff_reply(api *self, http_request *request, const char *id, int status)
{
    didi_error error = {0};
    table found = {0};
    if (table_read(self, id, &found, &error) != DIDI_OK) {
        bakeoff_refuse(request, &error);
        return;
    }
    http_reply_json(request, status, table_json(&found));
    table_clear(&found);
}

/* ---- handlers ---- */

void api_bakeoffs_get(void *context, http_request *request)
{
    bakeoff_reply(context, request, http_path_part(request, 0), 200);
}

void api_bakeoffs_list(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_bakeoff *rows = NULL;
    size_t count = 0;
    bool more = false;
    size_t limit = 0;
    const char *after = NULL;
    if (!api_page_asked(request, name_is_job, "after must be a bake-off's id", &after, &limit))
        return;
    if (store_bakeoff_list(self->records, after, limit, &rows, &count, &more, &error) != DIDI_OK) {
        http_reply_error(request, problem_from_status(error.status), &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, bakeoff_json(&rows[i]));
    http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].id : NULL));
    store_bakeoffs_free(rows, count);
}

void api_bakeoffs_cancel(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    const char *id = http_path_part(request, 0);
    if (scheduler_bakeoff_cancel(self->jobs, id, &error) == DIDI_OK)
        bakeoff_reply(self, request, id, 200);
    else
        bakeoff_refuse(request, &error);
}

void api_bakeoffs_delete(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    if (scheduler_bakeoff_delete(self->jobs, http_path_part(request, 0), &error) == DIDI_OK)
        http_reply_empty(request, 204);
    else
        bakeoff_refuse(request, &error);
}

/* ---- asking for one ---- */

static void create_answer(api *self, http_request *request, const char *id,
                          store_submit_outcome outcome)
{
    char location[64];
    if (outcome == STORE_SUBMIT_KEY_REUSED) {
        api_reply_key_reused(request);
        return;
    }
    (void)snprintf(location, sizeof location, "/v1/bakeoffs/%s", id);
    http_reply_header(request, "Location", location);
    bakeoff_reply(self, request, id, outcome == STORE_SUBMIT_CREATED ? 201 : 200);
}

static int create_read(const char *body, size_t bytes, json_t **ret_request, didi_error *error)
{
    json_t *document = NULL;
    char *text = didi_methods_json();
    json_t *known = text != NULL ? json_load_own(text) : NULL;
    int status = document_parse(body, bytes, bytes, &document, error);
    if (status == DIDI_OK)
        status =
            bakeoff_request_read(document, json_object_get(known, "methods"), ret_request, error);
    json_decref(document);
    json_decref(known);
    free(text);
    return status;
}

static problem create_problem(const api *self, const didi_error *error, bool read)
{
    didi_error why = {0};
    if (!read && error->status == DIDI_FORMAT)
        return PROBLEM_MALFORMED_JSON;
    return store_check(self->records, &why) != DIDI_OK ? PROBLEM_UNAVAILABLE
           : store_artifacts_over(error)               ? PROBLEM_ARTIFACT_LIMIT
           : error->status == DIDI_CONFLICT            ? PROBLEM_QUEUE_FULL
                                                       : problem_from_status(error->status);
}

void api_bakeoffs_create(void *context, http_request *request)
{
    api *self = context;
    api_idempotency known = {0};
    didi_error error = {0};
    json_t *asked = NULL;
    char id[ID_BYTES] = "";
    bool found = false;
    store_submit_outcome outcome = STORE_SUBMIT_CREATED;
    size_t bytes;
    const char *body = http_body(request, &bytes);
    if (!api_idempotency_read(request, &known))
        return;
    const store_submission row = {.idempotency_key = known.keyed ? known.key : NULL,
                                  .body_digest = known.digest};
    int status = file_sha256_bytes(body, bytes, known.digest, &error);
    if (status == DIDI_OK && known.keyed)
        status = store_bakeoff_find_submission(self->records, &row, &found, id, &outcome, &error);
    if (status == DIDI_OK && !found)
        status = create_read(body, bytes, &asked, &error);
    const bakeoff_order order = {.request = asked,
                                 .traceparent = http_traceparent(request),
                                 .idempotency_key = row.idempotency_key,
                                 .body_digest = row.body_digest};
    if (status == DIDI_OK && !found)
        status = scheduler_bakeoff_create(self->jobs, &order, id, &outcome, &error);
    if (status == DIDI_OK)
        create_answer(self, request, id, outcome);
    else
        http_reply_error(request, create_problem(self, &error, asked != NULL), &error);
    json_decref(asked);
}
