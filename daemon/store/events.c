/* SPDX-License-Identifier: Apache-2.0 */
/* Events of jobs: appended, numbered without holes, never changed. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
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
    unsigned attempt;
    store_event event;
    char text[EVENT_TEXT_BYTES];
} event_argument;

static int event_number(database *writer, const event_argument *argument, int64_t now,
                        bool *ret_row, int64_t *ret_number, didi_error *error)
{
    bool point = strcmp(argument->event.kind, "point") == 0;
    sqlite3_stmt *statement = database_statement(writer, QUERY_EVENT_COUNT_UP, error);
    bind_text(writer, statement, ":id", argument->job_id);
    bind_integer(writer, statement, ":attempt", argument->attempt);
    bind_integer(writer, statement, ":now", now);
    bind_integer(writer, statement, ":event_limit", point ? EVENT_POINTS_MAX : EVENT_OTHERS_MAX);
    int status = database_step(writer, statement, ret_row, error);
    if (status != DIDI_OK || !*ret_row)
        return status;
    *ret_number = sqlite3_column_int64(statement, 0);
    return database_run(writer, statement, error);
}

static int event_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    const event_argument *argument = context;
    const store_event *event = &argument->event;
    int64_t now = clock_now_ms();
    int64_t number = 0;
    bool row = false;
    int status = event_number(writer, argument, now, &row, &number, error);
    if (status != DIDI_OK || !row)
        return status;
    sqlite3_stmt *statement = database_statement(writer, QUERY_EVENT_INSERT, error);
    bind_text(writer, statement, ":id", argument->job_id);
    bind_integer(writer, statement, ":number", number);
    bind_integer(writer, statement, ":now", now);
    bind_integer(writer, statement, ":attempt", argument->attempt);
    bind_text(writer, statement, ":kind", event->kind);
    bind_text(writer, statement, ":stage", event->stage);
    bind_integer(writer, statement, ":step", (int64_t)event->step);
    bind_real(writer, statement, ":loss", event->loss);
    bind_real(writer, statement, ":relative_error", event->relative_error);
    bind_real(writer, statement, ":ratio", event->ratio);
    bind_real(writer, statement, ":ratio_target", event->ratio_target);
    bind_integer(writer, statement, ":items_done", (int64_t)event->items_done);
    bind_integer(writer, statement, ":items_total", (int64_t)event->items_total);
    bind_real(writer, statement, ":seconds", event->seconds);
    bind_integer(writer, statement, ":bytes_read", (int64_t)event->bytes_read);
    bind_text(writer, statement, ":text", argument->text[0] != '\0' ? argument->text : NULL);
    store_changes_add(changes, argument->job_id);
    return database_run(writer, statement, error);
}

void store_event_post(store *self, const char *job_id, unsigned attempt, const store_event *event)
{
    event_argument *argument = memory_zeroed(1, sizeof *argument);
    assert(event->kind[0] != '\0');
    if (argument == NULL)
        return; /* telemetry only */
    sqlite3_snprintf(sizeof argument->job_id, argument->job_id, "%s", job_id);
    argument->attempt = attempt;
    argument->event = *event;
    argument->event.text = NULL;
    if (event->text != NULL)
        sqlite3_snprintf(sizeof argument->text, argument->text, "%s", event->text);
    store_post(self, event_operation, argument, strcmp(event->kind, "point") == 0);
}

typedef struct progress_argument {
    char job_id[ID_BYTES];
    char stage[16];
    unsigned attempt;
    double progress;
} progress_argument;

static int progress_operation(database *writer, void *context, store_changes *changes,
                              didi_error *error)
{
    const progress_argument *argument = context;
    sqlite3_stmt *statement = database_statement(writer, QUERY_JOB_PROGRESS, error);
    bind_text(writer, statement, ":id", argument->job_id);
    bind_integer(writer, statement, ":attempt", argument->attempt);
    bind_text(writer, statement, ":stage", argument->stage);
    bind_real(writer, statement, ":progress", argument->progress);
    bind_integer(writer, statement, ":now", clock_now_ms());
    store_changes_add(changes, argument->job_id);
    return database_run(writer, statement, error);
}

void store_progress_post(store *self, const char *job_id, unsigned attempt, const char *stage,
                         double progress)
{
    progress_argument *argument = memory_zeroed(1, sizeof *argument);
    if (argument == NULL)
        return;
    sqlite3_snprintf(sizeof argument->job_id, argument->job_id, "%s", job_id);
    sqlite3_snprintf(sizeof argument->stage, argument->stage, "%s", stage);
    argument->attempt = attempt;
    argument->progress = progress >= 0 ? progress : 0;
    if (argument->progress > 1)
        argument->progress = 1;
    store_post(self, progress_operation, argument, true);
}

/* Columns in the order of event_list. */
static int event_read(sqlite3_stmt *statement, void *ret_row, didi_error *error)
{
    store_event *event = ret_row;
    event->number = sqlite3_column_int64(statement, 0);
    event->at_ms = sqlite3_column_int64(statement, 1);
    event->attempt = (unsigned)sqlite3_column_int(statement, 2);
    column_text(statement, 3, event->kind, sizeof event->kind);
    column_text(statement, 4, event->stage, sizeof event->stage);
    event->step = (uint64_t)sqlite3_column_int64(statement, 5);
    event->loss = column_real(statement, 6);
    event->relative_error = column_real(statement, 7);
    event->ratio = column_real(statement, 8);
    event->ratio_target = column_real(statement, 9);
    event->items_done = (uint64_t)sqlite3_column_int64(statement, 10);
    event->items_total = (uint64_t)sqlite3_column_int64(statement, 11);
    event->seconds = column_real(statement, 12);
    event->bytes_read = (uint64_t)sqlite3_column_int64(statement, 13);
    return column_copy(statement, 14, &event->text, error);
}

static void event_clear(void *row)
{
    free(((store_event *)row)->text);
}

typedef struct event_filter {
    const char *job_id;
    int64_t after;
} event_filter;

static void bind_filter(database *reader, sqlite3_stmt *statement, const void *context,
                        int64_t limit)
{
    const event_filter *filter = context;
    bind_text(reader, statement, ":id", filter->job_id);
    bind_integer(reader, statement, ":after", filter->after);
    bind_integer(reader, statement, ":limit", limit);
}

static const row_kind event_rows = {
    QUERY_EVENT_LIST, sizeof(store_event), STORE_PAGE_MAX, bind_filter, event_read, event_clear,
};

int store_event_list(store *self, const char *job_id, int64_t after, size_t limit,
                     store_event **ret_events, size_t *ret_count, didi_error *error)
{
    row_list found = {0};
    event_filter filter = {job_id, after};
    int status = store_rows_read(self, &event_rows, job_id, &filter, limit, &found, error);
    if (status != DIDI_OK)
        return status;
    *ret_events = found.rows;
    *ret_count = found.count;
    return DIDI_OK;
}

void store_events_free(store_event *events, size_t count)
{
    store_rows_free(&event_rows, events, count);
}
