/* SPDX-License-Identifier: Apache-2.0 */
/* One job as the client handles it: finding, checking, following to its end. */
#include "client/commands/job.h"

#include "proto/proto.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    JOB_EVENTS_LOOKED_BACK = 100, /* to know the newest figures of a job under way */
    JOB_PAUSE_MILLISECONDS = 200, /* between two looks at a busy job */
    JOB_RECONNECT_MILLISECONDS = 1000,
    JOB_WAIT_SECONDS_LIVE = 1, /* longest time between two looks, for a bar */
    JOB_WAIT_SECONDS_CALM = 20,
};

static const char *const state_names[] = {JOB_STATE_TABLE(TEXT_WORD)};

char *job_target(const char *id, const char *rest)
{
    return memory_format("/v1/jobs/%s%s", id, rest);
}

int job_check(const json_t *job, didi_error *error)
{
    const char *state = record_text(job, "state");
    if (!record_is_word(record_text(job, "id"), JOB_ID_BYTES_MAX, "_-"))
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server sent a job without an id");
    if (text_find(state_names, JOB_STATE_COUNT, state) < JOB_STATE_COUNT)
        return CLIENT_OK;
    return didi_fail(error, CLIENT_FAILURE, NULL, "the server sent a job in the state '%s'", state);
}

int job_read(client_service *service, const char *id, const char *rest, json_t **ret_document,
             didi_error *error)
{
    return service_get(service, 0, ret_document, error, "/v1/jobs/%s%s", id, rest);
}

int job_get(client_service *service, const char *id, json_t **ret_job, didi_error *error)
{
    json_t *job = NULL;
    int status = job_read(service, id, "", &job, error);
    status = status != CLIENT_OK ? status : job_check(job, error);
    if (status != CLIENT_OK)
        json_decref(job);
    else
        *ret_job = job;
    return status;
}

static int pick_latest(client_service *service, const char **ret_id, json_t **ret_jobs,
                       didi_error *error)
{
    bool more = false;
    int status = service_list(service, "/v1/jobs", 1, ret_jobs, &more, error);
    if (status != CLIENT_OK)
        return status;
    if (json_array_size(*ret_jobs) == 0)
        return didi_fail(error, CLIENT_FAILURE, NULL, "there are no jobs");
    const json_t *job = json_array_get(*ret_jobs, 0);
    *ret_id = record_text(job, "id");
    return job_check(job, error);
}

static int pick_prefix(client_service *service, const char *prefix, const char **ret_id,
                       json_t **ret_jobs, didi_error *error)
{
    bool more = false;
    int status = service_list(service, "/v1/jobs", SERVICE_LIST_ITEMS_MAX, ret_jobs, &more, error);
    if (status != CLIENT_OK)
        return status;
    size_t found = 0;
    for (size_t i = 0; i < json_array_size(*ret_jobs); i++) {
        const json_t *job = json_array_get(*ret_jobs, i);
        const char *id = record_text(job, "id");
        if (strcmp(id, prefix) == 0) {
            *ret_id = id;
            return job_check(job, error);
        }
        if (strncmp(id, prefix, strlen(prefix)) == 0) {
            found++;
            *ret_id = id;
        }
    }
    if (found != 1)
        return didi_fail(error, CLIENT_FAILURE, prefix, "%s",
                         found == 0 ? "no job has such an id"
                                    : "more than one job begins like this");
    return record_is_word(*ret_id, JOB_ID_BYTES_MAX, "_-")
               ? CLIENT_OK
               : didi_fail(error, CLIENT_FAILURE, NULL, "the server sent a job without an id");
}

int job_resolve(client_service *service, const char *reference, char **ret_id, didi_error *error)
{
    const char *id = reference;
    json_t *jobs = NULL;
    int status = CLIENT_OK;
    if (strcmp(reference, "@latest") == 0)
        status = pick_latest(service, &id, &jobs, error);
    else if (!record_is_word(reference, JOB_ID_BYTES_MAX, "_-"))
        status = didi_fail(error, CLIENT_USAGE, reference, "this is not the id of a job");
    else if (strlen(reference) < LIMIT_JOB_ID_CHARACTERS)
        status = pick_prefix(service, reference, &id, &jobs, error);
    if (status == CLIENT_OK && (*ret_id = memory_string(id)) == NULL)
        status = client_fail_memory(error);
    json_decref(jobs);
    return status;
}

int job_named(const command_context *context, char **ret_id, didi_error *error)
{
    return job_resolve(context->service, arguments_word(context->arguments, 0), ret_id, error);
}

int job_read_named(const command_context *context, const char *rest, json_t **ret_document,
                   didi_error *error)
{
    char *id = NULL;
    int status = job_named(context, &id, error);
    if (status == CLIENT_OK)
        status = job_read(context->service, id, rest, ret_document, error);
    free(id);
    return status;
}

bool job_is_over(const json_t *job)
{
    const char *state = record_text(job, "state");
    return strcmp(state, state_names[JOB_QUEUED]) != 0 &&
           strcmp(state, state_names[JOB_RUNNING]) != 0;
}

int job_outcome(const json_t *job, didi_error *error)
{
    const char *state = record_text(job, "state");
    if (strcmp(state, state_names[JOB_SUCCEEDED]) == 0)
        return CLIENT_OK;
    const json_t *reason = json_object_get(job, "error");
    const char *title = record_text(reason, "title");
    const char *detail = record_text(reason, "detail");
    const char *subject = record_text(reason, "subject");
    bool place = subject[0] != '\0' && strstr(detail, subject) == NULL;
    return didi_fail(error, CLIENT_JOB_FAILED, NULL, "job %s %s%s%s%s%s%s%s%s",
                     record_text(job, "id"), state, title[0] != '\0' ? ": " : "", title,
                     detail[0] != '\0' ? ": " : "", detail, place ? " (" : "", place ? subject : "",
                     place ? ")" : "");
}

/* A job being followed, and how that is shown. */
typedef struct follower {
    const command_context *context;
    const char *id;
    follow_style style;
    client_progress *progress; /* of FOLLOW_BAR and FOLLOW_LINES */
    json_t *line;              /* the last of FOLLOW_JSON */
    progress_moment moment;
    int64_t after;
    json_t *job;
    bool fresh; /* the job was read since it was last shown */
    bool lost;  /* the connection was, and we said so */
    char label[64];
    char stage[32]; /* of the last event: the job's own lags behind */
} follower;

static void take_number(double *target, const json_t *event, const char *key)
{
    double number = record_number(event, key);
    *target = isnan(number) ? *target : number;
}

static void take_events(follower *self, const json_t *page)
{
    const json_t *events = json_object_get(page, "data");
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);
        int64_t number = record_integer(event, "number");
        if (number <= self->after)
            continue;
        self->after = number;
        if (strcmp(record_text(event, "kind"), "stage") == 0)
            self->moment.loss = NAN; /* the objective of another stage */
        snprintf(self->stage, sizeof self->stage, "%s", record_text(event, "stage"));
        take_number(&self->moment.loss, event, "loss");
        take_number(&self->moment.relative_error, event, "relative_error");
        take_number(&self->moment.ratio, event, "ratio");
        take_number(&self->moment.ratio_target, event, "ratio_target");
    }
}

static int read_events(follower *self, int wait_seconds, didi_error *error)
{
    json_t *page = NULL;
    int status = service_get(self->context->service, wait_seconds, &page, error,
                             "/v1/jobs/%s/events?after=%lld&limit=1000&wait=%d", self->id,
                             (long long)self->after, wait_seconds);
    if (status == CLIENT_OK)
        take_events(self, page);
    json_decref(page);
    return status;
}

static int read_job(follower *self, didi_error *error)
{
    json_t *job = NULL;
    int status = job_get(self->context->service, self->id, &job, error);
    if (status != CLIENT_OK)
        return status;
    bool first = self->job == NULL;
    json_decref(self->job);
    self->job = job;
    self->fresh = true;
    const char *stage = self->stage[0] != '\0' ? self->stage : record_text(job, "stage");
    const char *state = record_text(job, "state");
    bool running = strcmp(state, state_names[JOB_RUNNING]) == 0;
    const char *label = running && record_true(job, "cancel_requested") ? "cancelling"
                        : running && stage[0] != '\0'                   ? stage
                                                                        : state;
    strncpy(self->label, label, sizeof self->label - 1);
    self->moment.label = self->label;
    self->moment.ratio_counts = budget_text_counted(json_object_get(job, "specification"));
    self->moment.fraction = record_number(job, "progress");
    self->moment.ended = job_is_over(job);
    int64_t newest = record_integer(job, "last_event");
    if (first && newest > JOB_EVENTS_LOOKED_BACK)
        self->after = newest - JOB_EVENTS_LOOKED_BACK;
    return first ? read_events(self, 0, error) : CLIENT_OK;
}

static json_t *number_or_null(double number)
{
    return isfinite(number) ? json_real(number) : json_null();
}

static int show_json(follower *self, didi_error *error)
{
    const progress_moment *moment = &self->moment;
    json_t *line = json_pack(
        "{s:O?, s:O?, s:O?, s:o, s:o, s:o, s:o, s:o}", "id", json_object_get(self->job, "id"),
        "state", json_object_get(self->job, "state"), "stage", json_object_get(self->job, "stage"),
        "progress", number_or_null(moment->fraction), "loss", number_or_null(moment->loss),
        "relative_error", number_or_null(moment->relative_error), "ratio",
        number_or_null(moment->ratio), "ratio_target", number_or_null(moment->ratio_target));
    if (line == NULL)
        return client_fail_memory(error);
    int status = CLIENT_OK;
    if (!json_equal(line, self->line))
        status = output_line(self->context->output, line, error);
    json_decref(self->line);
    self->line = line;
    return status;
}

static int show(follower *self, didi_error *error)
{
    self->fresh = false;
    self->lost = false;
    if (self->style == FOLLOW_JSON)
        return show_json(self, error);
    progress_show(self->progress, &self->moment);
    return CLIENT_OK;
}

/* The connection was lost and is being tried again: said once. */
static void tell_lost(follower *self, const didi_error *reason)
{
    if (!self->lost) {
        progress_clear(self->progress);
        output_note(self->context->output, "connection lost (%s: %s), trying again",
                    reason->subject, reason->message);
    }
    self->lost = true;
}

/* One round: show, and unless the job is over, wait for news and read it. */
static int follow_round(follower *self, didi_error *error)
{
    if (self->job == NULL)
        return read_job(self, error);
    int status = self->fresh ? show(self, error) : CLIENT_OK;
    if (status != CLIENT_OK || job_is_over(self->job))
        return status;
    status = interrupt_sleep(self->context->interrupt, JOB_PAUSE_MILLISECONDS, error);
    if (status == CLIENT_OK)
        status = read_events(
            self, self->style == FOLLOW_BAR ? JOB_WAIT_SECONDS_LIVE : JOB_WAIT_SECONDS_CALM, error);
    return status != CLIENT_OK ? status : read_job(self, error);
}

/* An interrupted connection is retried until the server was silent for the timeout. */
static int follow_to_end(follower *self, didi_error *error)
{
    const command_context *context = self->context;
    time_t heard = time(NULL);
    bool over = false;
    int status = CLIENT_OK;
    while (!over) {
        bool known = self->job != NULL;
        bool ends = known && job_is_over(self->job);
        status = follow_round(self, error);
        if (status == CLIENT_OK) {
            heard = time(NULL);
            over = ends;
        } else if (status == CLIENT_UNREACHABLE && known &&
                   time(NULL) - heard < context->settings->timeout_seconds) {
            tell_lost(self, error);
            status = interrupt_sleep(context->interrupt, JOB_RECONNECT_MILLISECONDS, error);
            over = status != CLIENT_OK;
        } else {
            over = true;
        }
    }
    return status;
}

int job_follow(const command_context *context, const char *id, FILE *stream, follow_style style,
               json_t **ret_job, didi_error *error)
{
    follower self = {
        .context = context, .id = id, .style = style, .moment = progress_unknown(NULL)};
    if (style == FOLLOW_BAR || style == FOLLOW_LINES)
        self.progress = progress_create(stream, style == FOLLOW_BAR, context->settings->color);
    int status = follow_to_end(&self, error);
    progress_free(self.progress);
    json_decref(self.line);
    if (status != CLIENT_OK)
        json_decref(self.job);
    else
        *ret_job = self.job;
    return status;
}
