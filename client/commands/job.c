/* SPDX-License-Identifier: Apache-2.0 */
/* One job as the client handles it: finding, checking, following to its end. */
#include "client/commands/job.h"

#include "client/commands/advise.h"

#include "proto/proto.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    JOB_LISTED_MAX = 10000,       /* of which one may have been meant */
    JOB_EVENTS_LOOKED_BACK = 100, /* to know the newest figures of a job under way */
    JOB_PAUSE_MILLISECONDS = 200, /* between two looks at a busy job */
    JOB_RECONNECT_MILLISECONDS = 1000,
    JOB_WAIT_SECONDS_LIVE = 1, /* longest time between two looks, for a bar */
    JOB_WAIT_SECONDS_CALM = 20,
    KEY_RANDOM_BYTES = 16,
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

/* No job has the id, or none begins so: another was mistyped, or this is a name. */
static int fail_unknown(const command_context *context, const char *reference, const json_t *jobs,
                        didi_error *error)
{
    char meant[NEAREST_TEXT_BYTES] = "";
    nearest near = nearest_begin(reference);
    for (size_t i = 0; i < json_array_size(jobs); i++) {
        const json_t *job = json_array_get(jobs, i);
        const char *id = record_text(job, "id");
        if (strcmp(record_text(job, "name"), reference) == 0) { /* the newest of this name */
            snprintf(meant, sizeof meant, "; did you mean %.64s, which has this name?", id);
            break;
        }
        nearest_try(&near, id);
    }
    if (meant[0] == '\0')
        nearest_text(&near, "", "", meant);
    advice_give(context->advice, "didictl jobs --all shows the jobs there are");
    return didi_fail(error, CLIENT_FAILURE, reference, "no job has such an id%s", meant);
}

static int pick_prefix(const command_context *context, const char *prefix, const char **ret_id,
                       json_t **ret_jobs, didi_error *error)
{
    bool more = false;
    int status =
        service_list(context->service, "/v1/jobs", SERVICE_LIST_ITEMS_MAX, ret_jobs, &more, error);
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
    if (found == 0)
        return fail_unknown(context, prefix, *ret_jobs, error);
    if (found > 1) {
        advice_give(context->advice, "more characters of the id; didictl jobs --all shows all ids");
        return didi_fail(error, CLIENT_FAILURE, prefix, "more than one job begins like this");
    }
    return record_is_word(*ret_id, JOB_ID_BYTES_MAX, "_-")
               ? CLIENT_OK
               : didi_fail(error, CLIENT_FAILURE, NULL, "the server sent a job without an id");
}

int job_resolve(const command_context *context, const char *reference, char **ret_id,
                didi_error *error)
{
    const char *id = reference;
    json_t *jobs = NULL;
    int status = CLIENT_OK;
    if (strcmp(reference, "@latest") == 0)
        status = pick_latest(context->service, &id, &jobs, error);
    else if (!record_is_word(reference, JOB_ID_BYTES_MAX, "_-"))
        status = didi_fail(error, CLIENT_USAGE, reference,
                           "this is not the id of a job, the beginning of one, or @latest");
    else if (strlen(reference) < LIMIT_JOB_ID_CHARACTERS)
        status = pick_prefix(context, reference, &id, &jobs, error);
    if (status == CLIENT_OK && (*ret_id = memory_string(id)) == NULL)
        status = client_fail_memory(error);
    if (status == CLIENT_OK)
        snprintf(context->advice->job, sizeof context->advice->job, "%s", id);
    json_decref(jobs);
    return status;
}

void job_advise_unknown(const command_context *context, didi_error *error)
{
    const service_problem told = *service_last_problem(context->service);
    const char *id = context->advice->job;
    json_t *jobs = NULL;
    bool more = false;
    didi_error ignored = {0};
    if (strcmp(told.type, PROBLEM_TYPE_PREFIX "unknown-job") == 0 && id[0] != '\0' &&
        service_list(context->service, "/v1/jobs", JOB_LISTED_MAX, &jobs, &more, &ignored) ==
            CLIENT_OK)
        (void)fail_unknown(context, id, jobs, error);
    json_decref(jobs);
}

int job_named(const command_context *context, char **ret_id, didi_error *error)
{
    return job_resolve(context, arguments_word(context->arguments, 0), ret_id, error);
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

int job_choose_key(const command_context *context, char ret_key[LIMIT_IDEMPOTENCY_KEY_BYTES + 1],
                   didi_error *error)
{
    const char *given = arguments_value(context->arguments, OPTION_KEY);
    if (given != NULL) {
        if (!record_is_word(given, LIMIT_IDEMPOTENCY_KEY_BYTES, "._~:+/=-"))
            return didi_fail(error, CLIENT_USAGE, "--idempotency-key",
                             "1 to %d letters, digits and ._~:+/=-", LIMIT_IDEMPOTENCY_KEY_BYTES);
        memcpy(ret_key, given, strlen(given) + 1);
        return CLIENT_OK;
    }
    unsigned char random[KEY_RANDOM_BYTES];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return didi_fail(error, CLIENT_FAILURE, NULL, "no random bytes: %s", strerror(errno));
    file_hex(random, sizeof random, ret_key);
    return CLIENT_OK;
}

bool job_is_over(const json_t *job)
{
    const char *state = record_text(job, "state");
    return strcmp(state, state_names[JOB_QUEUED]) != 0 &&
           strcmp(state, state_names[JOB_RUNNING]) != 0;
}

int job_outcome(const command_context *context, const json_t *job, didi_error *error)
{
    const char *state = record_text(job, "state");
    if (strcmp(state, state_names[JOB_SUCCEEDED]) == 0)
        return CLIENT_OK;
    const json_t *reason = json_object_get(job, "error");
    const char *title = record_text(reason, "title");
    const char *detail = record_text(reason, "detail");
    const char *subject = record_text(reason, "subject");
    bool place = subject[0] != '\0' && strstr(detail, subject) == NULL;
    snprintf(context->advice->job, sizeof context->advice->job, "%s", record_text(job, "id"));
    advise_type(context, record_text(reason, "type"), subject);
    advice_give(context->advice,
                "didictl events JOB shows how far it came, didictl retry JOB goes on from there");
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
    bool fresh;           /* the job was read since it was last shown */
    bool lost;            /* the connection was, and we said so */
    bool polls;           /* the server has no streams */
    bool broken;          /* the last stream was, before it told its end */
    bool moved;           /* events came since the job was last read */
    client_service *news; /* the stream's own way to the server */
    time_t heard;         /* when the server last said something */
    time_t looked;        /* when the job was last read */
    char label[64];
    char stage[32]; /* of the last event: the job's own lags behind */
} follower;

static void take_number(double *target, const json_t *event, const char *key)
{
    double number = record_number(event, key);
    *target = isnan(number) ? *target : number;
}

static void take_event(follower *self, const json_t *event)
{
    if (strcmp(record_text(event, "kind"), "stage") == 0)
        self->moment.loss = NAN; /* the objective of another stage */
    snprintf(self->stage, sizeof self->stage, "%s", record_text(event, "stage"));
    take_number(&self->moment.loss, event, "loss");
    progress_add_loss(self->progress, self->stage, record_number(event, "loss"));
    take_number(&self->moment.relative_error, event, "relative_error");
    take_number(&self->moment.ratio, event, "ratio");
    take_number(&self->moment.ratio_target, event, "ratio_target");
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
        take_event(self, event);
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
    self->looked = time(NULL);
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
    self->moment.seconds_left = record_number(job, "eta_seconds");
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

static int take_streamed(void *context, const json_t *event, didi_error *error)
{
    follower *self = context;
    take_event(self, event);
    self->heard = time(NULL);
    self->moved = true;
    (void)error;
    return CLIENT_OK;
}

/* While a stream lasts: reads the job, which alone knows how far it is, and shows it. */
static int look(void *context, didi_error *error)
{
    follower *self = context;
    int seconds = self->moved ? 1 : JOB_WAIT_SECONDS_CALM;
    if (self->style == FOLLOW_BAR)
        seconds = JOB_WAIT_SECONDS_LIVE;
    if (time(NULL) - self->looked < seconds) {
        progress_resize(self->progress);
        return CLIENT_OK;
    }
    self->moved = false;
    int status = read_job(self, error);
    if (status != CLIENT_OK)
        return status;
    self->heard = time(NULL);
    return job_is_over(self->job) ? CLIENT_OK : show(self, error);
}

/* Follows by a stream. One that the server ends before the job is over is taken up again in the
 * next round; a server without streams is asked for pages from now on. */
static int stream_events(follower *self, didi_error *error)
{
    const command_context *context = self->context;
    const event_viewer viewer = {self, take_streamed, look};
    event_stream_end end = EVENT_STREAM_REFUSED;
    int status = CLIENT_OK;
    if (self->news == NULL)
        status = service_open(context->settings, context->interrupt, &self->news, error);
    if (status == CLIENT_OK)
        status = event_stream_follow(self->news, self->id, &self->after, &viewer, &end, error);
    if (status == CLIENT_OK && end == EVENT_STREAM_BROKEN)
        status = interrupt_sleep(context->interrupt, EVENT_STREAM_PAUSE_MILLISECONDS, error);
    self->polls = status == CLIENT_OK && end == EVENT_STREAM_REFUSED;
    self->broken = status != CLIENT_OK || end == EVENT_STREAM_BROKEN;
    return status;
}

/* Over, and nothing is left to be told of it. */
static bool is_done(const follower *self)
{
    return job_is_over(self->job) && !self->broken;
}

/* One round: show, and unless the job is over, wait for news and read it. */
static int follow_round(follower *self, didi_error *error)
{
    if (self->job == NULL)
        return read_job(self, error);
    int status = self->fresh ? show(self, error) : CLIENT_OK;
    if (status != CLIENT_OK || is_done(self))
        return status;
    if (!self->polls) {
        status = stream_events(self, error);
        status = status != CLIENT_OK ? status : read_job(self, error);
        /* Not over yet: it was retried, or the server has no streams. */
        return status != CLIENT_OK || is_done(self)
                   ? status
                   : interrupt_sleep(self->context->interrupt, JOB_PAUSE_MILLISECONDS, error);
    }
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
    bool over = false;
    int status = CLIENT_OK;
    while (!over) {
        bool known = self->job != NULL;
        bool ends = known && is_done(self);
        status = follow_round(self, error);
        if (status == CLIENT_OK) {
            self->heard = time(NULL);
            over = ends;
        } else if (status == CLIENT_UNREACHABLE && known &&
                   time(NULL) - self->heard < context->settings->timeout_seconds) {
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
    service_close(self.news);
    progress_free(self.progress);
    if (status == CLIENT_INTERRUPTED) {
        didi_fail(error, status, NULL, "interrupted; job %s goes on", id);
        advice_give(context->advice,
                    "didictl watch %s shows its progress again, didictl cancel %s stops it", id,
                    id);
    }
    json_decref(self.line);
    if (status != CLIENT_OK)
        json_decref(self.job);
    else
        *ret_job = self.job;
    return status;
}
