/* SPDX-License-Identifier: Apache-2.0 */
/* Exports: rows that say which tasks were asked for in which form and how that went. */
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

#define AT(kind, member) ROW_COLUMN(store_export, kind, member)
/* As export_list and export_claim have them. */
static const row_kind row_of_export = {
    .noun = "export",
    .bytes = sizeof(store_export),
    .states = export_state_names,
    .state_count = EXPORT_STATE_COUNT,
    .columns = {AT(TEXT, id), AT(TEXT, job_id), AT(TEXT, task), AT(TEXT, format),
                AT(INTEGER, max_rank), AT(STATE, state), AT(INTEGER, bytes),
                AT(STRING, error_status), AT(STRING, error_message), AT(INTEGER, created_ms),
                AT(INTEGER, updated_ms), AT(INTEGER, finished_ms)}};

void store_exports_free(store_export *exports, size_t count)
{
    rows_free(&row_of_export, exports, count);
}

typedef struct request_argument {
    const char *job_id, *format;
    uint64_t max_rank;
    const char *const *tasks;
    size_t task_count;
} request_argument;

static int request_one(database *writer, const request_argument *argument, const char *task,
                       didi_error *error)
{
    char id[ID_BYTES];
    bool busy = false;
    int status =
        database_row(writer, QUERY_EXPORT_BUSY,
                     SQL_PARAMETERS(SQL_TEXT(job_id, argument->job_id), SQL_TEXT(task, task),
                                    SQL_TEXT(format, argument->format),
                                    SQL_INTEGER(max_rank, argument->max_rank)),
                     &row_of_id, id, &busy, error);
    if (status == DIDI_OK && busy)
        return didi_fail(error, DIDI_CONFLICT, task,
                         "task %s is being exported with another max_rank; ask when that is done",
                         task);
    if (status == DIDI_OK)
        status = database_new_id(writer, clock_now_ms(), id, error);
    if (status != DIDI_OK)
        return status;
    return database_run(writer, QUERY_EXPORT_UPSERT,
                        SQL_PARAMETERS(SQL_TEXT(id, id), SQL_TEXT(job_id, argument->job_id),
                                       SQL_TEXT(task, task), SQL_TEXT(format, argument->format),
                                       SQL_INTEGER(max_rank, argument->max_rank),
                                       SQL_INTEGER(now, clock_now_ms())),
                        error);
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

int store_export_request(store *self, const char *job_id, const char *format, uint64_t max_rank,
                         const char *const *tasks, size_t task_count, didi_error *error)
{
    request_argument argument = {.job_id = job_id,
                                 .format = format,
                                 .max_rank = max_rank,
                                 .tasks = tasks,
                                 .task_count = task_count};
    return store_write(self, request_operation, &argument, error);
}

enum { EXPORTS_PER_JOB_MAX = 65536 };

int store_export_list(store *self, const char *job_id, store_export **ret_exports,
                      size_t *ret_count, didi_error *error)
{
    const row_list wanted = {.query = QUERY_EXPORT_LIST,
                             .kind = &row_of_export,
                             .parameters = SQL_PARAMETERS(SQL_TEXT(id, job_id)),
                             .limit = EXPORTS_PER_JOB_MAX,
                             .most = EXPORTS_PER_JOB_MAX,
                             .job = job_id};
    return store_rows_read(self, &wanted, ret_exports, ret_count, NULL, error);
}

typedef struct claim_argument {
    store_export export;
    bool found;
} claim_argument;

static int claim_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    claim_argument *argument = context;
    int status =
        database_row(writer, QUERY_EXPORT_CLAIM, SQL_PARAMETERS(SQL_INTEGER(now, clock_now_ms())),
                     &row_of_export, &argument->export, &argument->found, error);
    if (status == DIDI_OK && argument->found)
        store_changes_add(changes, argument->export.job_id);
    return status;
}

int store_export_claim(store *self, store_export *ret_export, bool *ret_found, didi_error *error)
{
    claim_argument argument = {0};
    int status = store_write(self, claim_operation, &argument, error);
    if (status != DIDI_OK) {
        row_clear(&row_of_export, &argument.export);
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
    const bool failed = why != NULL && why->status != DIDI_OK;
    char job_id[ID_BYTES];
    bool found = false;
    int status = database_row(
        writer, QUERY_EXPORT_FINISH,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id),
                       SQL_TEXT(state, export_state_name(argument->state)),
                       SQL_INTEGER(bytes, argument->bytes), SQL_INTEGER(now, clock_now_ms()),
                       SQL_TEXT(error_status, failed ? didi_status_name(why->status) : NULL),
                       SQL_TEXT(error_message, failed ? why->message : NULL)),
        &row_of_id, job_id, &found, error);
    if (status == DIDI_OK && !found)
        return didi_fail(error, DIDI_CONFLICT, argument->id, "the export is not running");
    if (status == DIDI_OK)
        store_changes_add(changes, job_id);
    return status;
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
