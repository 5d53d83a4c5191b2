/* SPDX-License-Identifier: Apache-2.0 */
/* Exports: rows that say which full checkpoints were asked for and how that went. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const export_state_names[] = {EXPORT_STATE_TABLE(TEXT_WORD)};

const char *export_state_name(export_state state)
{
    assert((unsigned)state < EXPORT_STATE_COUNT);
    return export_state_names[state];
}

static void export_clear(store_export *export)
{
    free(export->error_status);
    free(export->error_message);
    memset(export, 0, sizeof *export);
}

/* Columns in the order of export_list. */
static int export_read(sqlite3_stmt *statement, store_export *ret_export, didi_error *error)
{
    store_export export = {0};
    char state[16];
    column_text(statement, 0, export.id, sizeof export.id);
    column_text(statement, 1, export.job_id, sizeof export.job_id);
    column_text(statement, 2, export.task, sizeof export.task);
    column_text(statement, 3, export.format, sizeof export.format);
    column_text(statement, 4, state, sizeof state);
    export.state = (export_state)text_find(export_state_names, EXPORT_STATE_COUNT, state);
    if (export.state == EXPORT_STATE_COUNT)
        return didi_fail(error, DIDI_FORMAT, "didid.db", "export %s has state '%s'", export.id,
                         state);
    export.bytes = (uint64_t)sqlite3_column_int64(statement, 5);
    int status = column_copy(statement, 6, &export.error_status, error);
    if (status == DIDI_OK)
        status = column_copy(statement, 7, &export.error_message, error);
    export.created_ms = sqlite3_column_int64(statement, 8);
    export.updated_ms = sqlite3_column_int64(statement, 9);
    export.finished_ms = sqlite3_column_int64(statement, 10);
    if (status == DIDI_OK)
        *ret_export = export;
    else
        export_clear(&export);
    return status;
}

typedef struct request_argument {
    const char *job_id, *format;
    const char *const *tasks;
    size_t task_count;
} request_argument;

static int request_one(database *writer, const request_argument *argument, const char *task,
                       didi_error *error)
{
    char id[ID_BYTES];
    int status = database_new_id(writer, id, error);
    if (status != DIDI_OK)
        return status;
    sqlite3_stmt *statement = database_statement(writer, QUERY_EXPORT_UPSERT, error);
    bind_text(writer, statement, ":id", id);
    bind_text(writer, statement, ":job_id", argument->job_id);
    bind_text(writer, statement, ":task", task);
    bind_text(writer, statement, ":format", argument->format);
    bind_integer(writer, statement, ":now", clock_now_ms());
    return database_run(writer, statement, error);
}

static int request_operation(database *writer, void *context, store_changes *changes,
                             didi_error *error)
{
    const request_argument *argument = context;
    store_job job = {0};
    int status = job_select(writer, argument->job_id, &job, error);
    const job_state state = job.state;
    store_job_clear(&job);
    if (status != DIDI_OK)
        return status;
    if (state != JOB_SUCCEEDED)
        return didi_fail(error, DIDI_CONFLICT, argument->job_id,
                         "the job is %s; only a succeeded one can be exported",
                         job_state_name(state));
    for (size_t i = 0; i < argument->task_count && status == DIDI_OK; i++)
        status = request_one(writer, argument, argument->tasks[i], error);
    store_changes_add(changes, argument->job_id);
    return status;
}

int store_export_request(store *self, const char *job_id, const char *format,
                         const char *const *tasks, size_t task_count, didi_error *error)
{
    request_argument argument = {
        .job_id = job_id, .format = format, .tasks = tasks, .task_count = task_count};
    return store_write(self, request_operation, &argument, error);
}

enum { EXPORTS_PER_JOB_MAX = 65536 };

static int read_row(sqlite3_stmt *statement, void *ret_row, didi_error *error)
{
    return export_read(statement, ret_row, error);
}

static void clear_row(void *row)
{
    export_clear(row);
}

static void bind_job(database *reader, sqlite3_stmt *statement, const void *job_id, int64_t limit)
{
    (void)limit;
    bind_text(reader, statement, ":id", job_id);
}

static const row_kind export_rows = {
    QUERY_EXPORT_LIST, sizeof(store_export), EXPORTS_PER_JOB_MAX, bind_job, read_row, clear_row,
};

int store_export_list(store *self, const char *job_id, store_export **ret_exports,
                      size_t *ret_count, didi_error *error)
{
    row_list found = {0};
    int status =
        store_rows_read(self, &export_rows, job_id, job_id, EXPORTS_PER_JOB_MAX, &found, error);
    if (status != DIDI_OK)
        return status;
    *ret_exports = found.rows;
    *ret_count = found.count;
    return DIDI_OK;
}

void store_exports_free(store_export *exports, size_t count)
{
    store_rows_free(&export_rows, exports, count);
}

typedef struct claim_argument {
    store_export export;
    bool found;
} claim_argument;

static int claim_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    claim_argument *argument = context;
    sqlite3_stmt *statement = database_statement(writer, QUERY_EXPORT_CLAIM, error);
    bind_integer(writer, statement, ":now", clock_now_ms());
    int status = database_step(writer, statement, &argument->found, error);
    if (status != DIDI_OK || !argument->found)
        return status;
    status = export_read(statement, &argument->export, error);
    if (status != DIDI_OK)
        return status;
    store_changes_add(changes, argument->export.job_id);
    return database_run(writer, statement, error);
}

int store_export_claim(store *self, store_export *ret_export, bool *ret_found, didi_error *error)
{
    claim_argument argument = {0};
    int status = store_write(self, claim_operation, &argument, error);
    if (status != DIDI_OK) {
        export_clear(&argument.export);
        return status;
    }
    if (argument.found)
        *ret_export = argument.export;
    *ret_found = argument.found;
    return DIDI_OK;
}

typedef struct finish_argument {
    const char *id;
    export_state state;
    uint64_t bytes;
    const didi_error *why;
} finish_argument;

static int finish_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const finish_argument *argument = context;
    const didi_error *why = argument->why;
    char job_id[ID_BYTES];
    bool row = false;
    sqlite3_stmt *statement = database_statement(writer, QUERY_EXPORT_FINISH, error);
    bind_text(writer, statement, ":id", argument->id);
    bind_text(writer, statement, ":state", export_state_name(argument->state));
    bind_integer(writer, statement, ":bytes", (int64_t)argument->bytes);
    bind_integer(writer, statement, ":now", clock_now_ms());
    if (why != NULL && why->status != DIDI_OK) {
        bind_text(writer, statement, ":error_status", didi_status_name(why->status));
        bind_text(writer, statement, ":error_message", why->message);
    }
    int status = database_step(writer, statement, &row, error);
    if (status != DIDI_OK)
        return status;
    if (!row)
        return didi_fail(error, DIDI_CONFLICT, argument->id, "the export is not running");
    column_text(statement, 0, job_id, sizeof job_id);
    store_changes_add(changes, job_id);
    return database_run(writer, statement, error);
}

int store_export_finish(store *self, const char *id, export_state state, uint64_t bytes,
                        const didi_error *why, didi_error *error)
{
    assert(state != EXPORT_RUNNING);
    finish_argument argument = {.id = id, .state = state, .bytes = bytes, .why = why};
    return store_write(self, finish_operation, &argument, error);
}

int store_export_release(store *self, const char *id, didi_error *error)
{
    return store_export_finish(self, id, EXPORT_QUEUED, 0, NULL, error);
}
