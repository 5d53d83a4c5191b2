/* SPDX-License-Identifier: Apache-2.0 */
/* What endpoints hear of: events of jobs and models become deliveries, in the transaction of the
 * change itself, so that neither is there without the other. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DROPS_A_LINE = 1000 }; /* events lost between two lines of the log */

int notice_any(database *writer, bool *ret_any, didi_error *error)
{
    int64_t any = 0;
    int status =
        database_row(writer, QUERY_WEBHOOK_ANY_ENABLED, NULL, &row_of_integer, &any, NULL, error);
    if (status == DIDI_OK)
        *ret_any = any != 0;
    return status;
}

/* ---- what is told ---- */

/* {"type", "timestamp", "data": {kind: data}}, which is taken. NULL: no memory. */
static char *event_body(const char *type, const char *kind, json_t *data)
{
    json_t *document = json_pack("{s:s, s:o, s:{s:o}}", "type", type, "timestamp",
                                 clock_json(clock_now_ms()), "data", kind, data);
    char *text = document != NULL ? document_render(document) : NULL;
    json_decref(document);
    return text;
}

static json_t *job_error_json(const store_job *job)
{
    if (job->error_status == NULL)
        return json_null();
    const problem type = problem_from_status_name(job->error_status);
    return json_pack("{s:s, s:s, s:s}", "type", problem_type(type), "title", problem_title(type),
                     "detail", job->error_message != NULL ? job->error_message : "");
}

static json_t *job_json(const store_job *job)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:b}", "id", job->id,
                     "name", job->name, "state", job_state_name(job->state), "attempt",
                     (int)job->attempt, "base", job->base, "labels", json_load_own(job->labels),
                     "error", job_error_json(job), "created_at", clock_json(job->created_ms),
                     "started_at", clock_json(job->started_ms), "finished_at",
                     clock_json(job->finished_ms), "survey", (int)job->survey);
}

static json_t *model_json(const store_model *model)
{
    return json_pack("{s:s, s:s, s:s, s:s?, s:I, s:I, s:I}", "name", model->name, "revision",
                     model->revision, "state", model_state_name(model->state), "reason",
                     model->reason, "tensor_count", (json_int_t)model->tensor_count, "parameters",
                     (json_int_t)model->parameters, "bytes", (json_int_t)model->bytes);
}

/* ---- who is told ---- */

typedef struct hearer {
    char id[ID_BYTES];
    int64_t queued;
} hearer;

static const row_kind row_of_hearer = {
    .bytes = sizeof(hearer),
    .columns = {ROW_COLUMN(hearer, TEXT, id), ROW_COLUMN(hearer, INTEGER, queued)}};

/* At most LIMIT_WEBHOOKS of them. */
static int hearers_read(database *writer, const char *type, const char *labels,
                        hearer ret_hearers[LIMIT_WEBHOOKS], size_t *ret_count, didi_error *error)
{
    sqlite3_stmt *statement = NULL;
    bool row = true;
    int status = database_statement(writer, QUERY_WEBHOOK_HEARING,
                                    SQL_PARAMETERS(SQL_TEXT(type, type), SQL_TEXT(labels, labels)),
                                    &statement, error);
    for (*ret_count = 0; status == DIDI_OK && *ret_count < LIMIT_WEBHOOKS;) {
        status = database_step(writer, statement, &row, error);
        if (status != DIDI_OK || !row)
            break;
        status = row_read(&row_of_hearer, statement, &ret_hearers[*ret_count], error);
        *ret_count += status == DIDI_OK;
    }
    if (statement != NULL)
        sqlite3_reset(statement);
    return status;
}

/* The queue is full: the event is lost to this endpoint, which its row and the log tell. */
static int event_drop(database *writer, const char *webhook_id, const char *type, didi_error *error)
{
    int64_t dropped = 0;
    bool found = false;
    int status = database_row(writer, QUERY_WEBHOOK_DROP, SQL_PARAMETERS(SQL_TEXT(id, webhook_id)),
                              &row_of_integer, &dropped, &found, error);
    if (status == DIDI_OK && dropped % DROPS_A_LINE == 1)
        log_emit(LOG_LEVEL_WARNING, "event not queued: too many deliveries wait",
                 LOG_TEXT("webhook", webhook_id), LOG_TEXT("type", type),
                 LOG_INTEGER("queued_max", STORE_DELIVERIES_QUEUED_MAX),
                 LOG_INTEGER("dropped", dropped));
    return status;
}

/* Queues it for one endpoint. A damaged row that cannot be counted in costs the endpoint its
 * events, not the job its change of state. */
static int event_give(database *writer, const hearer *to, new_delivery *made,
                      store_changes *changes, didi_error *error)
{
    didi_error why = {0};
    if (to->queued >= STORE_DELIVERIES_QUEUED_MAX)
        return event_drop(writer, to->id, made->type, error);
    int status = delivery_insert(writer, made, changes, &why);
    if (status == DIDI_OK)
        return status;
    if (status != DIDI_INTERNAL)
        return didi_fail(error, status, why.subject, "%s", why.message);
    log_emit(LOG_LEVEL_ERROR, "event not queued", LOG_TEXT("webhook", to->id),
             LOG_TEXT("error", why.message));
    return DIDI_OK;
}

/* Queues the event for all that hear of it. `data` is taken. */
static int event_queue(database *writer, const new_delivery *event, const char *labels,
                       const char *kind, json_t *data, store_changes *changes, didi_error *error)
{
    hearer hearers[LIMIT_WEBHOOKS];
    size_t count = 0;
    char *body = NULL;
    int status = hearers_read(writer, event->type, labels, hearers, &count, error);
    if (status == DIDI_OK && count > 0) {
        body = event_body(event->type, kind, json_incref(data));
        if (body == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an event");
    }
    for (size_t i = 0; status == DIDI_OK && i < count; i++) {
        new_delivery made = {.webhook_id = hearers[i].id,
                             .type = event->type,
                             .subject = event->subject,
                             .body = body,
                             .traceparent = event->traceparent};
        status = event_give(writer, &hearers[i], &made, changes, error);
    }
    json_decref(data);
    free(body);
    return status;
}

static webhook_event job_event(job_state state)
{
    switch (state) {
    case JOB_RUNNING:
        return WEBHOOK_EVENT_JOB_STARTED;
    case JOB_SUCCEEDED:
        return WEBHOOK_EVENT_JOB_SUCCEEDED;
    case JOB_FAILED:
        return WEBHOOK_EVENT_JOB_FAILED;
    case JOB_CANCELLED:
        return WEBHOOK_EVENT_JOB_CANCELLED;
    default:
        return WEBHOOK_EVENT_JOB_QUEUED;
    }
}

int notice_job(database *writer, const char *id, store_changes *changes, didi_error *error)
{
    store_job job = {0};
    char subject[64];
    bool any = false;
    int status = notice_any(writer, &any, error);
    if (status != DIDI_OK || !any)
        return status;
    didi_error damage = {0};
    status = job_select(writer, id, &job, &damage);
    if (status == DIDI_FORMAT ||
        status == DIDI_NOT_FOUND) { /* there is nothing to tell, and the job goes on */
        log_emit(LOG_LEVEL_ERROR, "webhooks are not told of a job", LOG_TEXT("job", id),
                 LOG_TEXT("error", damage.message));
        return DIDI_OK;
    }
    if (status != DIDI_OK)
        return didi_fail(error, status, id, "%s", damage.message);
    (void)snprintf(subject, sizeof subject, "job:%s", id);
    const new_delivery event = {.type = webhook_event_name(job_event(job.state)),
                                .subject = subject,
                                .traceparent = job.traceparent[0] != '\0' ? job.traceparent : NULL};
    status = event_queue(writer, &event, job.labels, "job", job_json(&job), changes, error);
    store_job_clear(&job);
    return status;
}

int notice_model(database *writer, const store_model *model, const model_past *before,
                 store_changes *changes, didi_error *error)
{
    char subject[LIMIT_MODEL_NAME_BYTES + 8];
    const new_delivery event = {.type = webhook_event_name(model->state == MODEL_READY
                                                               ? WEBHOOK_EVENT_MODEL_READY
                                                               : WEBHOOK_EVENT_MODEL_BROKEN),
                                .subject = subject};
    if (before->state == model->state && strcmp(before->revision, model->revision) == 0)
        return DIDI_OK;
    (void)snprintf(subject, sizeof subject, "model:%s", model->name);
    return event_queue(writer, &event, "{}", "model", model_json(model), changes, error);
}

/* ---- tests ---- */

typedef struct test_argument {
    const char *webhook_id;
    char id[ID_BYTES];
} test_argument;

static int test_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    test_argument *argument = context;
    int open = webhook_check_open(writer, argument->webhook_id, error);
    if (open != DIDI_OK)
        return open;
    char *body =
        event_body(WEBHOOK_TEST_EVENT, "webhook", json_pack("{s:s}", "id", argument->webhook_id));
    new_delivery made = {
        .webhook_id = argument->webhook_id, .type = WEBHOOK_TEST_EVENT, .body = body};
    int status = body != NULL ? delivery_insert(writer, &made, changes, error)
                              : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an event");
    memcpy(argument->id, made.id, ID_BYTES);
    free(body);
    return status;
}

int store_delivery_test(store *self, const char *webhook_id, char ret_id[ID_BYTES],
                        didi_error *error)
{
    test_argument argument = {.webhook_id = webhook_id};
    int status = store_write(self, test_operation, &argument, error);
    if (status == DIDI_OK)
        memcpy(ret_id, argument.id, ID_BYTES);
    return status;
}
