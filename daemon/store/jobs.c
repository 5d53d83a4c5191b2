/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: accepting, reading, listing. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const job_state_names[] = {JOB_STATE_TABLE(TEXT_WORD)};

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

#define AT(kind, member) ROW_COLUMN(store_job, kind, member)
/* As {job_row} of queries.sql has them. */
#define LISTED_COLUMNS                                                                             \
    AT(TEXT, id), AT(STATE, state), AT(INTEGER, priority), AT(GIVEN, name), AT(GIVEN, base),       \
        AT(JSON, labels), AT(INTEGER, attempt), AT(INTEGER, cancel_requested), AT(TEXT, stage),    \
        AT(REAL, progress), AT(STRING, error_status), AT(STRING, error_subject),                   \
        AT(STRING, error_message), AT(INTEGER, created_ms), AT(INTEGER, updated_ms),               \
        AT(INTEGER, started_ms), AT(INTEGER, finished_ms), AT(INTEGER, event_count),               \
        AT(TEXT, from_job), AT(INTEGER, kept_bytes), AT(TEXT, method), AT(INTEGER, task_count),    \
        AT(STRING, budget), AT(TEXT, dtype), AT(INTEGER, survey), AT(REAL, result.error),          \
        AT(REAL, result.ratio), AT(INTEGER, result.bytes), AT(INTEGER, ends_ms),                   \
        AT(TEXT, traceparent), AT(TEXT, bakeoff)

static const row_kind row_of_listed = {.noun = "job",
                                       .bytes = sizeof(store_job),
                                       .states = job_state_names,
                                       .state_count = JOB_STATE_COUNT,
                                       .columns = {LISTED_COLUMNS}};

const row_kind row_of_job = {.noun = "job",
                             .bytes = sizeof(store_job),
                             .states = job_state_names,
                             .state_count = JOB_STATE_COUNT,
                             .columns = {LISTED_COLUMNS, AT(JSON, specification)}};

void store_job_clear(store_job *job)
{
    row_clear(&row_of_job, job);
}

void store_jobs_free(store_job *jobs, size_t count)
{
    rows_free(&row_of_job, jobs, count);
}

int store_job_unknown(const char *id, didi_error *error)
{
    return didi_fail(error, DIDI_NOT_FOUND, id, "no job has the id '%.64s'", id);
}

int job_select(database *connection, const char *id, store_job *ret_job, didi_error *error)
{
    bool found = false;
    int status = database_row(connection, QUERY_JOB_SELECT, SQL_PARAMETERS(SQL_TEXT(id, id)),
                              &row_of_job, ret_job, &found, error);
    return status == DIDI_OK && !found ? store_job_unknown(id, error) : status;
}

int store_write_job(store *self, store_operation *operation, const char *id, didi_error *error)
{
    char copy[ID_BYTES] = {0};
    if (!id_is_valid(id))
        return store_job_unknown(id, error);
    memcpy(copy, id, ID_CHARACTERS);
    return store_write(self, operation, copy, error);
}

/* ---- submitting ---- */

typedef struct known_submission {
    char id[ID_BYTES];
    char digest[65];
} known_submission;

static const row_kind row_of_known = {.bytes = sizeof(known_submission),
                                      .columns = {ROW_COLUMN(known_submission, TEXT, id),
                                                  ROW_COLUMN(known_submission, TEXT, digest)}};

int replay_find(database *connection, store_query query, const char *key, const char *digest,
                replay *ret_replay, didi_error *error)
{
    known_submission known;
    bool found = false;
    int status = database_row(connection, query, SQL_PARAMETERS(SQL_TEXT(idempotency_key, key)),
                              &row_of_known, &known, &found, error);
    if (status != DIDI_OK || !found)
        return status;
    *ret_replay = (replay){.found = true,
                           .outcome = strcmp(known.digest, digest) == 0 ? STORE_SUBMIT_REPLAYED
                                                                        : STORE_SUBMIT_KEY_REUSED};
    memcpy(ret_replay->id, known.id, ID_BYTES);
    return DIDI_OK;
}

static int submit_check_room(database *writer, size_t active_max, didi_error *error)
{
    int64_t active = 0;
    int status =
        database_row(writer, QUERY_JOB_COUNT_ACTIVE, NULL, &row_of_integer, &active, NULL, error);
    if (status == DIDI_OK && active_max != 0 && active >= (int64_t)active_max)
        return didi_fail(error, DIDI_CONFLICT, "queued_jobs_max",
                         "%zu jobs are queued or running already", active_max);
    return status;
}

/* In the transaction that inserts the row which from then on holds on to what it needs. */
static int submit_check_source(database *writer, const char *from_job, didi_error *error)
{
    store_job source = {0};
    if (from_job == NULL)
        return DIDI_OK;
    int status = job_select(writer, from_job, &source, error);
    const bool reusable =
        status == DIDI_OK && source.state == JOB_SUCCEEDED && source.kept_bytes > 0;
    store_job_clear(&source);
    if (reusable || (status != DIDI_OK && status != DIDI_NOT_FOUND))
        return status;
    return didi_fail(error, DIDI_NOT_FOUND, "/from_job",
                     "job %s keeps nothing to start from; leave from_job out to merge afresh",
                     from_job);
}

static int job_insert(database *writer, const char *id, const store_submission *submission,
                      int64_t now_ms, didi_error *error)
{
    const char *key = submission->idempotency_key;
    int status = database_run(
        writer, QUERY_JOB_INSERT,
        SQL_PARAMETERS(
            SQL_TEXT(id, id), SQL_INTEGER(priority, submission->priority),
            SQL_TEXT(name, submission->name), SQL_TEXT(base, submission->base),
            SQL_TEXT(specification, submission->specification),
            SQL_TEXT(labels, submission->labels), SQL_TEXT(idempotency_key, key),
            SQL_TEXT(body_digest, key != NULL ? submission->body_digest : NULL),
            SQL_TEXT(from_job, submission->from_job),
            SQL_TEXT(traceparent, submission->traceparent), SQL_TEXT(bakeoff, submission->bakeoff),
            SQL_INTEGER(now, now_ms),
            SQL_INTEGER(artifact_bytes, smaller(submission->artifact_bytes, LIMIT_SAFE_INTEGER))),
        error);
    if (status == DIDI_OK)
        status = database_run(
            writer, QUERY_JOB_INSERT_SPECIFICATION,
            SQL_PARAMETERS(SQL_TEXT(id, id), SQL_TEXT(specification, submission->specification)),
            error);
    if (status == DIDI_OK)
        status =
            database_run(writer, QUERY_JOB_INSERT_LABELS, SQL_PARAMETERS(SQL_TEXT(id, id)), error);
    return status;
}

int job_add(database *writer, const store_submission *submission, char ret_id[ID_BYTES],
            store_changes *changes, didi_error *error)
{
    const int64_t now_ms = clock_now_ms(); /* the id tells it too */
    int status = submit_check_room(writer, submission->active_max, error);
    if (status == DIDI_OK)
        status = submit_check_source(writer, submission->from_job, error);
    if (status == DIDI_OK)
        status = database_new_id(writer, now_ms, ret_id, error);
    if (status == DIDI_OK)
        status = fault_check(FAULT_SUBMIT, "didid.db", error);
    if (status != DIDI_OK)
        return status;
    store_changes_add(changes, ret_id);
    status = job_insert(writer, ret_id, submission, now_ms, error);
    if (status == DIDI_OK)
        status = artifacts_check_room(writer, submission->artifact_bytes_max, error);
    return status == DIDI_OK ? notice_job(writer, ret_id, changes, error) : status;
}

typedef struct submit_argument {
    const store_submission *submission;
    replay made;
} submit_argument;

static int submit_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    submit_argument *argument = context;
    const store_submission *submission = argument->submission;
    const char *key = submission->idempotency_key;
    int status = DIDI_OK;
    if (key != NULL)
        status = replay_find(writer, QUERY_JOB_BY_IDEMPOTENCY_KEY, key, submission->body_digest,
                             &argument->made, error);
    if (status != DIDI_OK || argument->made.found)
        return status;
    argument->made.outcome = STORE_SUBMIT_CREATED;
    return job_add(writer, submission, argument->made.id, changes, error);
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
    memcpy(ret_id, argument.made.id, ID_BYTES);
    *ret_outcome = argument.made.outcome;
    metric_add(METRIC_JOBS_SUBMITTED, NULL, argument.made.outcome == STORE_SUBMIT_CREATED);
    return DIDI_OK;
}

/* ---- reading ---- */

int store_find_replay(store *self, store_query query, const store_submission *submission,
                      bool *ret_found, char ret_id[ID_BYTES], store_submit_outcome *ret_outcome,
                      didi_error *error)
{
    database *reader = NULL;
    replay known = {0};
    int status = store_reader_borrow(self, &reader, error);
    if (status != DIDI_OK)
        return status;
    status = replay_find(reader, query, submission->idempotency_key, submission->body_digest,
                         &known, error);
    store_reader_return(self, reader);
    if (status == DIDI_OK && known.found) {
        memcpy(ret_id, known.id, ID_BYTES);
        *ret_outcome = known.outcome;
    }
    if (status == DIDI_OK)
        *ret_found = known.found;
    return status;
}

int store_job_find_submission(store *self, const store_submission *submission, bool *ret_found,
                              char ret_id[ID_BYTES], store_submit_outcome *ret_outcome,
                              didi_error *error)
{
    assert(submission->idempotency_key != NULL && submission->body_digest != NULL);
    return store_find_replay(self, QUERY_JOB_BY_IDEMPOTENCY_KEY, submission, ret_found, ret_id,
                             ret_outcome, error);
}

int store_job_get(store *self, const char *id, store_job *ret_job, didi_error *error)
{
    database *reader = NULL;
    if (!id_is_valid(id))
        return store_job_unknown(id, error);
    int status = store_reader_borrow(self, &reader, error);
    if (status != DIDI_OK)
        return status;
    status = job_select(reader, id, ret_job, error);
    store_reader_return(self, reader);
    return status;
}

int store_job_list(store *self, const store_job_filter *filter, size_t limit, store_job **ret_jobs,
                   size_t *ret_count, bool *ret_more, didi_error *error)
{
    static const store_query queries[2][2][2] = {
        {{QUERY_JOB_LIST, QUERY_JOB_LIST_METHOD},
         {QUERY_JOB_LIST_STATE, QUERY_JOB_LIST_STATE_METHOD}},
        {{QUERY_JOB_LIST_LABEL, QUERY_JOB_LIST_LABEL_METHOD},
         {QUERY_JOB_LIST_LABEL_STATE, QUERY_JOB_LIST_LABEL_STATE_METHOD}}};
    const bool by_label = filter->label_key != NULL;
    const bool by_state = filter->state != NULL;
    const bool by_method = filter->method != NULL;
    assert(by_label == (filter->label_value != NULL));
    sql_parameter parameters[7] = {
        SQL_TEXT(before_id, filter->before_id != NULL ? filter->before_id : "~"),
        SQL_INTEGER(limit, ROWS_ALL)};
    size_t count = 2;
    if (by_label) {
        parameters[count++] = (sql_parameter)SQL_TEXT(label_key, filter->label_key);
        parameters[count++] = (sql_parameter)SQL_TEXT(label_value, filter->label_value);
    }
    if (by_state)
        parameters[count++] = (sql_parameter)SQL_TEXT(state, job_state_name(*filter->state));
    if (by_method)
        parameters[count] = (sql_parameter)SQL_TEXT(method, filter->method);
    const row_list wanted = {.query = queries[by_label][by_state][by_method],
                             .kind = &row_of_listed,
                             .parameters = parameters,
                             .limit = limit,
                             .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_jobs, ret_count, ret_more, error);
}

int store_job_ids(store *self, job_state state, const char *after, size_t limit,
                  char (**ret_ids)[ID_BYTES], size_t *ret_count, didi_error *error)
{
    const row_list wanted = {.query = QUERY_JOB_STATE_AFTER,
                             .kind = &row_of_id,
                             .parameters =
                                 SQL_PARAMETERS(SQL_TEXT(state, job_state_name(state)),
                                                SQL_TEXT(after, after), SQL_INTEGER(limit, limit)),
                             .limit = limit,
                             .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_ids, ret_count, NULL, error);
}

typedef struct known_argument {
    const char *id;
    store_knowledge known;
} known_argument;

/* On the writer's connection: after every commit before it. */
static int known_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    known_argument *argument = context;
    int64_t known = 0;
    (void)changes;
    int status = database_row(writer, QUERY_JOB_KNOWN, SQL_PARAMETERS(SQL_TEXT(id, argument->id)),
                              &row_of_integer, &known, NULL, error);
    argument->known = (store_knowledge)known;
    return status;
}

int store_job_known(store *self, const char *id, store_knowledge *ret_known, didi_error *error)
{
    known_argument argument = {.id = id};
    int64_t known = 0;
    int status = store_row_read(self, QUERY_JOB_KNOWN, SQL_PARAMETERS(SQL_TEXT(id, id)),
                                &row_of_integer, &known, NULL, error);
    argument.known = (store_knowledge)known;
    if (status == DIDI_OK && argument.known != STORE_JOB_KNOWN)
        status = store_write(self, known_operation, &argument, error);
    if (status == DIDI_OK)
        *ret_known = argument.known;
    return status;
}

int store_each_cancelled_run(store *self, int (*visit)(void *context, const char *id),
                             void *context, didi_error *error)
{
    return store_each_id(self, QUERY_JOB_CANCELLED_RUNNING, visit, context, error);
}

int store_each_deleted_job(store *self, int (*visit)(void *context, const char *id), void *context,
                           didi_error *error)
{
    return store_each_id(self, QUERY_DELETED_LIST, visit, context, error);
}

static int forget_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    (void)changes;
    return database_run(writer, QUERY_DELETED_FORGET, SQL_PARAMETERS(SQL_TEXT(id, context)), error);
}

void store_deleted_job_forget(store *self, const char *id)
{
    char *copy = memory_string(id);
    if (copy != NULL)
        store_post(self, forget_operation, copy, false);
}

/* ---- rebuilding ---- */

static int rebuilt_event(database *writer, const store_rebuilt_job *job, int64_t number,
                         const char *kind, const char *text, didi_error *error)
{
    store_event event = {.number = number,
                         .at_ms = number == 1 ? job->finished_ms : clock_now_ms(),
                         .attempt = 1,
                         .loss = NAN,
                         .relative_error = NAN,
                         .ratio = NAN,
                         .ratio_target = NAN,
                         .seconds = NAN,
                         .text = (char *)text}; /* not written to */
    (void)snprintf(event.kind, sizeof event.kind, "%s", kind);
    return event_insert(writer, job->id, &event, error);
}

static int rebuild_operation(database *writer, void *context, store_changes *changes,
                             didi_error *error)
{
    const store_rebuilt_job *job = context;
    const store_submission submission = {.name = job->name,
                                         .base = job->base,
                                         .specification = job->specification,
                                         .labels = job->labels,
                                         .priority = job->priority};
    known_argument known = {.id = job->id};
    int status = known_operation(writer, &known, changes, error);
    if (status == DIDI_OK && known.known == STORE_JOB_KNOWN)
        return didi_fail(error, DIDI_CONFLICT, job->id, "there is a job %s", job->id);
    if (status == DIDI_OK)
        status = job_insert(writer, job->id, &submission, job->created_ms, error);
    if (status == DIDI_OK)
        status = database_run(
            writer, QUERY_JOB_REBUILD,
            SQL_PARAMETERS(SQL_TEXT(id, job->id), SQL_INTEGER(started, job->started_ms),
                           SQL_INTEGER(finished, job->finished_ms),
                           SQL_INTEGER(now, clock_now_ms()), SQL_RESULT(&job->result)),
            error);
    if (status == DIDI_OK)
        status = rebuilt_event(writer, job, 1, "state", job_state_name(JOB_SUCCEEDED), error);
    if (status == DIDI_OK)
        status = rebuilt_event(writer, job, 2, "note", job->note, error);
    return status;
}

int store_job_rebuild(store *self, const store_rebuilt_job *job, didi_error *error)
{
    store_rebuilt_job copy = *job;
    assert(id_is_valid(job->id));
    return store_write(self, rebuild_operation, &copy, error);
}

int store_job_to_expire(store *self, int64_t before_ms, uint64_t most, char ret_id[ID_BYTES],
                        bool *ret_found, didi_error *error)
{
    int64_t finished = 0;
    int status = store_row_read(self, QUERY_JOB_COUNT_FINISHED, NULL, &row_of_integer, &finished,
                                NULL, error);
    if (status != DIDI_OK)
        return status;
    bool all = most > 0 && (uint64_t)finished > most;
    return store_row_read(self, QUERY_JOB_TO_EXPIRE,
                          SQL_PARAMETERS(SQL_INTEGER(all, all), SQL_INTEGER(before, before_ms)),
                          &row_of_id, ret_id, ret_found, error);
}
