/* SPDX-License-Identifier: Apache-2.0 */
/* Events of jobs: appended, numbered without holes, never changed, thinned out when old. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* Points stop below the limit so that stages and notes of later attempts still have room. */
    EVENT_POINTS_MAX = STORE_EVENTS_PER_JOB_MAX - 400,
    EVENT_OTHERS_MAX = STORE_EVENTS_PER_JOB_MAX - 100,
    EVENT_TEXT_BYTES = 512,
};

typedef struct event_argument {
    char job_id[ID_BYTES];
    store_event event;
    char text[EVENT_TEXT_BYTES];
} event_argument;

int event_insert(database *writer, const char *job_id, const store_event *event, didi_error *error)
{
    return database_run(
        writer, QUERY_EVENT_INSERT,
        SQL_PARAMETERS(
            SQL_TEXT(id, job_id), SQL_INTEGER(number, event->number),
            SQL_INTEGER(now, event->at_ms), SQL_INTEGER(attempt, event->attempt),
            SQL_TEXT(kind, event->kind), SQL_TEXT(stage, event->stage),
            SQL_INTEGER(step, event->step), SQL_REAL(loss, event->loss),
            SQL_REAL(relative_error, event->relative_error), SQL_REAL(ratio, event->ratio),
            SQL_REAL(ratio_target, event->ratio_target), SQL_INTEGER(items_done, event->items_done),
            SQL_INTEGER(items_total, event->items_total), SQL_REAL(seconds, event->seconds),
            SQL_INTEGER(bytes_read, event->bytes_read), SQL_TEXT(text, event->text)),
        error);
}

static int event_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    event_argument *argument = context;
    store_event *event = &argument->event;
    bool point = strcmp(event->kind, "point") == 0;
    bool found = false;
    event->at_ms = clock_now_ms();
    event->text = argument->text[0] != '\0' ? argument->text : NULL;
    int status = database_row(
        writer, QUERY_EVENT_COUNT_UP,
        SQL_PARAMETERS(SQL_TEXT(id, argument->job_id), SQL_INTEGER(attempt, event->attempt),
                       SQL_INTEGER(now, event->at_ms),
                       SQL_INTEGER(event_limit, point ? EVENT_POINTS_MAX : EVENT_OTHERS_MAX)),
        &row_of_integer, &event->number, &found, error);
    if (status != DIDI_OK || !found)
        return status;
    store_changes_add(changes, argument->job_id);
    return event_insert(writer, argument->job_id, event, error);
}

void store_event_post(store *self, const char *job_id, unsigned attempt, const store_event *event)
{
    event_argument *argument = memory_zeroed(1, sizeof *argument);
    assert(event->kind[0] != '\0');
    if (argument == NULL)
        return; /* telemetry only */
    sqlite3_snprintf(sizeof argument->job_id, argument->job_id, "%s", job_id);
    argument->event = *event;
    argument->event.attempt = attempt;
    if (event->text != NULL)
        sqlite3_snprintf(sizeof argument->text, argument->text, "%s", event->text);
    store_post(self, event_operation, argument, strcmp(event->kind, "point") == 0);
}

typedef struct progress_argument {
    char job_id[ID_BYTES];
    char stage[16];
    unsigned attempt;
    double progress, ends_ms;
} progress_argument;

static int progress_operation(database *writer, void *context, store_changes *changes,
                              didi_error *error)
{
    const progress_argument *argument = context;
    store_changes_add(changes, argument->job_id);
    return database_run(
        writer, QUERY_JOB_PROGRESS,
        SQL_PARAMETERS(SQL_TEXT(id, argument->job_id), SQL_INTEGER(attempt, argument->attempt),
                       SQL_TEXT(stage, argument->stage), SQL_REAL(progress, argument->progress),
                       SQL_REAL(ends, argument->ends_ms), SQL_INTEGER(now, clock_now_ms())),
        error);
}

void store_progress_post(store *self, const char *job_id, unsigned attempt,
                         const store_progress *progress)
{
    progress_argument *argument = memory_zeroed(1, sizeof *argument);
    if (argument == NULL)
        return;
    sqlite3_snprintf(sizeof argument->job_id, argument->job_id, "%s", job_id);
    sqlite3_snprintf(sizeof argument->stage, argument->stage, "%s", progress->stage);
    argument->attempt = attempt;
    argument->progress = fmin(fmax(progress->share, 0), 1);
    argument->ends_ms = floor((double)clock_now_ms() + 1000 * progress->seconds_left);
    store_post(self, progress_operation, argument, true);
}

#define AT(kind, member) ROW_COLUMN(store_event, kind, member)
/* As event_list has them. */
static const row_kind row_of_event = {
    .noun = "event",
    .bytes = sizeof(store_event),
    .columns = {AT(INTEGER, number), AT(INTEGER, at_ms), AT(INTEGER, attempt), AT(TEXT, kind),
                AT(TEXT, stage), AT(INTEGER, step), AT(REAL, loss), AT(REAL, relative_error),
                AT(REAL, ratio), AT(REAL, ratio_target), AT(INTEGER, items_done),
                AT(INTEGER, items_total), AT(REAL, seconds), AT(INTEGER, bytes_read),
                AT(STRING, text), AT(TEXT, traceparent)}};

int store_event_list(store *self, const char *job_id, int64_t after, size_t limit,
                     store_event **ret_events, size_t *ret_count, didi_error *error)
{
    const row_list wanted = {.query = QUERY_EVENT_LIST,
                             .kind = &row_of_event,
                             .parameters =
                                 SQL_PARAMETERS(SQL_TEXT(id, job_id), SQL_INTEGER(after, after),
                                                SQL_INTEGER(limit, ROWS_ALL)),
                             .limit = limit,
                             .most = STORE_PAGE_MAX,
                             .job = job_id};
    return store_rows_read(self, &wanted, ret_events, ret_count, NULL, error);
}

int store_event_reach_get(store *self, const char *job_id, store_event_reach *ret_reach,
                          didi_error *error)
{
    const row_kind row_of_reach = {.noun = "job",
                                   .bytes = sizeof(store_event_reach),
                                   .states = row_of_job.states,
                                   .state_count = row_of_job.state_count,
                                   .columns = {ROW_COLUMN(store_event_reach, STATE, state),
                                               ROW_COLUMN(store_event_reach, INTEGER, number)}};
    bool found = false;
    int status = store_row_read(self, QUERY_EVENT_REACH, SQL_PARAMETERS(SQL_TEXT(id, job_id)),
                                &row_of_reach, ret_reach, &found, error);
    return status == DIDI_OK && !found ? store_job_unknown(job_id, error) : status;
}

typedef struct thin_argument {
    int64_t before_ms;
    char id[ID_BYTES];
    bool found;
} thin_argument;

static int thin_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    thin_argument *argument = context;
    (void)changes;
    int status = database_row(writer, QUERY_EVENT_JOB_TO_THIN,
                              SQL_PARAMETERS(SQL_INTEGER(before, argument->before_ms)), &row_of_id,
                              argument->id, &argument->found, error);
    if (status != DIDI_OK || !argument->found)
        return status;
    status =
        database_run(writer, QUERY_EVENT_THIN, SQL_PARAMETERS(SQL_TEXT(id, argument->id)), error);
    return status != DIDI_OK ? status
                             : database_run(writer, QUERY_EVENT_THINNED,
                                            SQL_PARAMETERS(SQL_TEXT(id, argument->id)), error);
}

int store_events_thin(store *self, int64_t before_ms, char ret_id[ID_BYTES], bool *ret_found,
                      didi_error *error)
{
    thin_argument argument = {.before_ms = before_ms};
    int status = store_write(self, thin_operation, &argument, error);
    if (status == DIDI_OK && argument.found)
        memcpy(ret_id, argument.id, ID_BYTES);
    *ret_found = status == DIDI_OK && argument.found;
    return status;
}

void store_events_free(store_event *events, size_t count)
{
    rows_free(&row_of_event, events, count);
}
