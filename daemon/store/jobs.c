/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: accepting, reading, listing. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const job_state_names[] = {JOB_STATE_TABLE(TEXT_WORD)};

const char *job_state_name(job_state state)
{
    assert((unsigned)state < JOB_STATE_COUNT);
    return job_state_names[state];
}

bool job_state_parse(const char *name, job_state *ret_state)
{
    size_t found = text_find(job_state_names, JOB_STATE_COUNT, name);
    if (found < JOB_STATE_COUNT)
        *ret_state = (job_state)found;
    return found < JOB_STATE_COUNT;
}

void store_job_clear(store_job *job)
{
    free(job->name);
    free(job->base);
    free(job->specification);
    free(job->labels);
    free(job->error_status);
    free(job->error_subject);
    free(job->error_message);
    memset(job, 0, sizeof *job);
}

/* Columns in the order of job_select. */
static int job_read(sqlite3_stmt *statement, store_job *ret_job, didi_error *error)
{
    store_job job = {0};
    int status = DIDI_OK;
    char state[16];
    char **const texts[] = {&job.name, &job.base, &job.specification, &job.labels};
    column_text(statement, 0, job.id, sizeof job.id);
    column_text(statement, 1, state, sizeof state);
    if (!job_state_parse(state, &job.state))
        return didi_fail(error, DIDI_FORMAT, "didid.db", "job %s has state '%s'", job.id, state);
    job.priority = sqlite3_column_int(statement, 2);
    for (int i = 0; i < 4 && status == DIDI_OK; i++)
        status = column_copy(statement, 3 + i, texts[i], error);
    job.attempt = (unsigned)sqlite3_column_int(statement, 7);
    job.cancel_requested = sqlite3_column_int(statement, 8) != 0;
    column_text(statement, 9, job.stage, sizeof job.stage);
    job.progress = sqlite3_column_double(statement, 10);
    if (status == DIDI_OK)
        status = column_copy(statement, 11, &job.error_status, error);
    if (status == DIDI_OK)
        status = column_copy(statement, 12, &job.error_subject, error);
    if (status == DIDI_OK)
        status = column_copy(statement, 13, &job.error_message, error);
    job.created_ms = sqlite3_column_int64(statement, 14);
    job.updated_ms = sqlite3_column_int64(statement, 15);
    job.started_ms = sqlite3_column_int64(statement, 16);
    job.finished_ms = sqlite3_column_int64(statement, 17);
    job.event_count = sqlite3_column_int64(statement, 18);
    column_text(statement, 19, job.from_job, sizeof job.from_job);
    job.kept_bytes = (uint64_t)sqlite3_column_int64(statement, 20);
    if (status == DIDI_OK)
        *ret_job = job;
    else
        store_job_clear(&job);
    return status;
}

int store_job_unknown(const char *id, didi_error *error)
{
    return didi_fail(error, DIDI_NOT_FOUND, id, "no job has the id '%.64s'", id);
}

int job_select(database *connection, const char *id, store_job *ret_job, didi_error *error)
{
    sqlite3_stmt *statement = database_statement(connection, QUERY_JOB_SELECT, error);
    bool row = false;
    bind_text(connection, statement, ":id", id);
    int status = database_step(connection, statement, &row, error);
    if (status != DIDI_OK)
        return status;
    if (!row)
        return store_job_unknown(id, error);
    status = job_read(statement, ret_job, error);
    sqlite3_reset(statement);
    return status;
}

/* ---- submitting ---- */

typedef struct submit_argument {
    const store_submission *submission;
    char id[ID_BYTES];
    store_submit_outcome outcome;
} submit_argument;

static int submit_find_replay(database *writer, submit_argument *argument, bool *ret_found,
                              didi_error *error)
{
    sqlite3_stmt *statement = database_statement(writer, QUERY_JOB_BY_IDEMPOTENCY_KEY, error);
    char digest[65];
    bind_text(writer, statement, ":idempotency_key", argument->submission->idempotency_key);
    int status = database_step(writer, statement, ret_found, error);
    if (status != DIDI_OK || !*ret_found)
        return status;
    column_text(statement, 0, argument->id, sizeof argument->id);
    column_text(statement, 1, digest, sizeof digest);
    sqlite3_reset(statement);
    argument->outcome = strcmp(digest, argument->submission->body_digest) == 0
                            ? STORE_SUBMIT_REPLAYED
                            : STORE_SUBMIT_KEY_REUSED;
    return DIDI_OK;
}

static int submit_check_room(database *writer, size_t active_max, didi_error *error)
{
    sqlite3_stmt *statement = database_statement(writer, QUERY_JOB_COUNT_ACTIVE, error);
    bool row = false;
    int status = database_step(writer, statement, &row, error);
    if (status != DIDI_OK)
        return status;
    int64_t active = sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
    if (active_max != 0 && active >= (int64_t)active_max)
        return didi_fail(error, DIDI_CONFLICT, "queued_jobs_max",
                         "%zu jobs are queued or running already", active_max);
    return DIDI_OK;
}

/* In the transaction that inserts the row which from then on holds on to what it needs. */
static int submit_check_source(database *writer, const char *from_job, didi_error *error)
{
    store_job source = {0};
    didi_error missing = {0};
    if (from_job == NULL)
        return DIDI_OK;
    int status = job_select(writer, from_job, &source, &missing);
    const bool reusable =
        status == DIDI_OK && source.state == JOB_SUCCEEDED && source.kept_bytes > 0;
    store_job_clear(&source);
    if (reusable)
        return DIDI_OK;
    if (status != DIDI_OK && status != DIDI_NOT_FOUND) {
        *error = missing;
        return status;
    }
    return didi_fail(error, DIDI_NOT_FOUND, "/from_job",
                     "job %s keeps nothing to start from; leave from_job out to merge afresh",
                     from_job);
}

static int submit_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    submit_argument *argument = context;
    const store_submission *submission = argument->submission;
    bool found = false;
    int status = DIDI_OK;
    if (submission->idempotency_key != NULL)
        status = submit_find_replay(writer, argument, &found, error);
    if (status != DIDI_OK || found)
        return status;
    status = submit_check_room(writer, submission->active_max, error);
    if (status == DIDI_OK)
        status = submit_check_source(writer, submission->from_job, error);
    if (status == DIDI_OK)
        status = database_new_id(writer, argument->id, error);
    if (status != DIDI_OK)
        return status;
    sqlite3_stmt *statement = database_statement(writer, QUERY_JOB_INSERT, error);
    bind_text(writer, statement, ":id", argument->id);
    bind_integer(writer, statement, ":priority", submission->priority);
    bind_text(writer, statement, ":name", submission->name);
    bind_text(writer, statement, ":base", submission->base);
    bind_text(writer, statement, ":specification", submission->specification);
    bind_text(writer, statement, ":labels", submission->labels);
    bind_text(writer, statement, ":idempotency_key", submission->idempotency_key);
    bind_text(writer, statement, ":body_digest",
              submission->idempotency_key != NULL ? submission->body_digest : NULL);
    bind_text(writer, statement, ":from_job", submission->from_job);
    bind_integer(writer, statement, ":now", clock_now_ms());
    argument->outcome = STORE_SUBMIT_CREATED;
    store_changes_add(changes, argument->id);
    return database_run(writer, statement, error);
}

int store_job_submit(store *self, const store_submission *submission, char ret_id[ID_BYTES],
                     store_submit_outcome *ret_outcome, didi_error *error)
{
    submit_argument argument = {.submission = submission};
    assert(submission->idempotency_key == NULL || submission->body_digest != NULL);
    if (submission->idempotency_key != NULL &&
        strlen(submission->idempotency_key) > STORE_IDEMPOTENCY_KEY_MAX)
        return didi_fail(error, DIDI_INVALID, "Idempotency-Key", "longer than %d bytes",
                         STORE_IDEMPOTENCY_KEY_MAX);
    int status = store_write(self, submit_operation, &argument, error);
    if (status != DIDI_OK)
        return status;
    memcpy(ret_id, argument.id, ID_BYTES);
    *ret_outcome = argument.outcome;
    return DIDI_OK;
}

/* ---- reading ---- */

int store_job_find_submission(store *self, const store_submission *submission, bool *ret_found,
                              char ret_id[ID_BYTES], store_submit_outcome *ret_outcome,
                              didi_error *error)
{
    submit_argument argument = {.submission = submission};
    database *reader = NULL;
    assert(submission->idempotency_key != NULL && submission->body_digest != NULL);
    bool found = false;
    int status = store_reader_borrow(self, &reader, error);
    if (status != DIDI_OK)
        return status;
    status = submit_find_replay(reader, &argument, &found, error);
    store_reader_return(self, reader);
    if (status != DIDI_OK)
        return status;
    if (found) {
        memcpy(ret_id, argument.id, ID_BYTES);
        *ret_outcome = argument.outcome;
    }
    *ret_found = found;
    return DIDI_OK;
}

int store_job_get(store *self, const char *id, store_job *ret_job, didi_error *error)
{
    database *reader = NULL;
    int status = store_reader_borrow(self, &reader, error);
    if (status != DIDI_OK)
        return status;
    status = job_select(reader, id, ret_job, error);
    store_reader_return(self, reader);
    return status;
}

static int read_row(sqlite3_stmt *statement, void *ret_row, didi_error *error)
{
    return job_read(statement, ret_row, error);
}

static void clear_row(void *row)
{
    store_job_clear(row);
}

static void bind_filter(database *reader, sqlite3_stmt *statement, const void *context,
                        int64_t limit)
{
    const store_job_filter *filter = context;
    bind_text(reader, statement, ":before_id", filter->before_id);
    bind_text(reader, statement, ":state",
              filter->state != NULL ? job_state_name(*filter->state) : NULL);
    bind_text(reader, statement, ":label_key", filter->label_key);
    bind_text(reader, statement, ":label_value", filter->label_value);
    bind_integer(reader, statement, ":limit", limit);
}

static const row_kind job_rows = {
    QUERY_JOB_LIST, sizeof(store_job), STORE_PAGE_MAX, bind_filter, read_row, clear_row,
};

int store_job_list(store *self, const store_job_filter *filter, size_t limit, store_job **ret_jobs,
                   size_t *ret_count, bool *ret_more, didi_error *error)
{
    row_list found = {0};
    int status = store_rows_read(self, &job_rows, NULL, filter, limit, &found, error);
    if (status != DIDI_OK)
        return status;
    *ret_jobs = found.rows;
    *ret_count = found.count;
    *ret_more = found.more;
    return DIDI_OK;
}

void store_jobs_free(store_job *jobs, size_t count)
{
    store_rows_free(&job_rows, jobs, count);
}

int store_each_succeeded_job(store *self, int (*visit)(void *context, const char *id),
                             void *context, didi_error *error)
{
    return store_each_id(self, QUERY_JOB_EACH_SUCCEEDED, visit, context, error);
}
