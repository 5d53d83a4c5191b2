/* SPDX-License-Identifier: Apache-2.0 */
/* The states of jobs: claiming, ending, cancelling, and the one function that moves them. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { ATTEMPT_ANY = -1 };

/* States a move may start from, as the JSON arrays job_move takes. */
#define FROM_QUEUED "[\"queued\"]"
#define FROM_RUNNING "[\"running\"]"
#define FROM_SUCCEEDED "[\"succeeded\"]"
#define FROM_STOPPED "[\"failed\",\"cancelled\"]"

typedef struct job_move {
    const char *id;
    const char *from; /* one of FROM_* */
    job_state to;
    int64_t attempt; /* or ATTEMPT_ANY */
    int attempt_change;
    const didi_error *why;
    const store_result *result; /* of a success; NULL: none */
} job_move;

static const row_kind row_of_moved = {.bytes = sizeof(store_job),
                                      .columns = {ROW_COLUMN(store_job, INTEGER, attempt),
                                                  ROW_COLUMN(store_job, INTEGER, event_count)}};

/* Why a job was not moved. */
static int move_refused(database *writer, const char *id, didi_error *error)
{
    store_job job = {0};
    int status = job_select(writer, id, &job, error);
    if (status == DIDI_OK)
        status = didi_fail(error, DIDI_CONFLICT, id, "the job is %s, attempt %u",
                           job_state_name(job.state), job.attempt);
    store_job_clear(&job);
    return status;
}

static bool state_is_final(job_state state)
{
    return state != JOB_QUEUED && state != JOB_RUNNING;
}

/* The only function that changes a job's state. DIDI_CONFLICT when it is not in a state of `from`,
 * or not in that attempt; DIDI_NOT_FOUND. */
static int job_move_state(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    const job_move *move = context;
    const didi_error *why = move->why;
    const bool failed = why != NULL && why->status != DIDI_OK;
    const int64_t now = clock_now_ms();
    const char *to = job_state_name(move->to);
    const store_result unknown = {.error = NAN, .ratio = NAN};
    const store_result *result = move->result != NULL ? move->result : &unknown;
    store_job moved = {0};
    bool found = false;
    int status = database_row(
        writer, QUERY_JOB_MOVE,
        SQL_PARAMETERS(
            SQL_TEXT(id, move->id), SQL_TEXT(from, move->from), SQL_TEXT(to, to),
            SQL_INTEGER(attempt, move->attempt), SQL_INTEGER(attempt_change, move->attempt_change),
            SQL_INTEGER(now, now), SQL_TEXT(boot_id, writer->boot_id),
            SQL_TEXT(error_status, failed ? didi_status_name(why->status) : NULL),
            SQL_TEXT(error_subject, failed && why->subject[0] != '\0' ? why->subject : NULL),
            SQL_TEXT(error_message, failed ? why->message : NULL), SQL_RESULT(result),
            SQL_INTEGER(artifact_bytes, move->result != NULL ? move->result->artifact_bytes : -1)),
        &row_of_moved, &moved, &found, error);
    if (status != DIDI_OK)
        return status;
    if (!found)
        return move_refused(writer, move->id, error);
    store_changes_add(changes, move->id);
    if (state_is_final(move->to))
        metric_add(METRIC_JOBS_FINISHED, METRIC_LABELS(to), 1);
    const store_event event = {.number = moved.event_count,
                               .at_ms = now,
                               .attempt = moved.attempt,
                               .kind = "state",
                               .loss = NAN,
                               .relative_error = NAN,
                               .ratio = NAN,
                               .ratio_target = NAN,
                               .seconds = NAN,
                               .text = (char *)to}; /* not written to */
    status = event_insert(writer, move->id, &event, error);
    return status == DIDI_OK ? notice_job(writer, move->id, changes, error) : status;
}

int store_job_finish(store *self, const char *id, unsigned attempt, job_state state,
                     const didi_error *why, didi_error *error)
{
    job_move move = {.id = id, .from = FROM_RUNNING, .to = state, .attempt = attempt, .why = why};
    assert(state == JOB_SUCCEEDED || state == JOB_FAILED || state == JOB_CANCELLED);
    return store_write(self, job_move_state, &move, error);
}

int store_job_succeed(store *self, const char *id, unsigned attempt, const store_result *result,
                      didi_error *error)
{
    job_move move = {
        .id = id, .from = FROM_RUNNING, .to = JOB_SUCCEEDED, .attempt = attempt, .result = result};
    return store_write(self, job_move_state, &move, error);
}

int store_job_release(store *self, const char *id, unsigned attempt, didi_error *error)
{
    job_move move = {
        .id = id, .from = FROM_RUNNING, .to = JOB_QUEUED, .attempt = attempt, .attempt_change = -1};
    return store_write(self, job_move_state, &move, error);
}

int store_job_fail_lost(store *self, const char *id, const char *message, didi_error *error)
{
    didi_error why = {0};
    job_move move = {
        .id = id, .from = FROM_SUCCEEDED, .to = JOB_FAILED, .attempt = ATTEMPT_ANY, .why = &why};
    didi_fail(&why, DIDI_NOT_FOUND, "artifacts", "%s", message);
    return store_write(self, job_move_state, &move, error);
}

typedef struct retry_argument {
    const char *id;
    uint64_t artifact_bytes_max;
} retry_argument;

static int retry_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    const retry_argument *argument = context;
    job_move move = {
        .id = argument->id, .from = FROM_STOPPED, .to = JOB_QUEUED, .attempt = ATTEMPT_ANY};
    int status = job_move_state(writer, &move, changes, error);
    if (status == DIDI_CONFLICT)
        return didi_fail(error, status, argument->id,
                         "only a failed or cancelled job can be retried");
    return status == DIDI_OK ? artifacts_check_room(writer, argument->artifact_bytes_max, error)
                             : status;
}

int store_job_retry(store *self, const char *id, uint64_t artifact_bytes_max, didi_error *error)
{
    retry_argument argument = {id, artifact_bytes_max};
    return store_write(self, retry_operation, &argument, error);
}

typedef struct claim_argument {
    int priority;
    store_job job;
    bool found;
} claim_argument;

/* A damaged row would be claimed again and again, before all others: it fails instead. */
static int claim_damaged(database *writer, const char *id, const didi_error *why,
                         store_changes *changes, didi_error *error)
{
    job_move move = {
        .id = id, .from = FROM_RUNNING, .to = JOB_FAILED, .attempt = ATTEMPT_ANY, .why = why};
    bool damaged = why->status == DIDI_FORMAT || why->status == DIDI_NOT_FOUND;
    return damaged ? job_move_state(writer, &move, changes, error)
                   : didi_fail(error, why->status, id, "%s", why->message);
}

static int claim_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    claim_argument *argument = context;
    char id[ID_BYTES];
    job_move move = {.id = id,
                     .from = FROM_QUEUED,
                     .to = JOB_RUNNING,
                     .attempt = ATTEMPT_ANY,
                     .attempt_change = 1};
    int status = database_row(writer, QUERY_JOB_NEXT_QUEUED,
                              SQL_PARAMETERS(SQL_INTEGER(priority, argument->priority)), &row_of_id,
                              id, &argument->found, error);
    if (status != DIDI_OK || !argument->found)
        return status;
    status = fault_check(FAULT_CLAIM, "didid.db", error);
    if (status == DIDI_OK)
        status = job_move_state(writer, &move, changes, error);
    didi_error damage = {0};
    if (status == DIDI_OK)
        status = job_select(writer, id, &argument->job, &damage);
    return damage.status == DIDI_OK ? status : claim_damaged(writer, id, &damage, changes, error);
}

int store_job_claim(store *self, int priority, store_job *ret_job, bool *ret_found,
                    didi_error *error)
{
    claim_argument argument = {.priority = priority};
    int status = store_write(self, claim_operation, &argument, error);
    if (status != DIDI_OK) {
        store_job_clear(&argument.job);
        return status;
    }
    if (argument.found)
        *ret_job = argument.job;
    *ret_found = argument.found;
    return DIDI_OK;
}

int job_cancel(database *writer, const char *id, store_changes *changes, didi_error *error)
{
    store_job job = {0};
    int status = job_select(writer, id, &job, error);
    if (status != DIDI_OK)
        return status;
    if (job.state == JOB_QUEUED) {
        job_move move = {
            .id = job.id, .from = FROM_QUEUED, .to = JOB_CANCELLED, .attempt = ATTEMPT_ANY};
        status = job_move_state(writer, &move, changes, error);
    } else if (job.state == JOB_RUNNING) {
        status =
            database_run(writer, QUERY_JOB_REQUEST_CANCEL,
                         SQL_PARAMETERS(SQL_TEXT(id, id), SQL_INTEGER(now, clock_now_ms())), error);
        store_changes_add(changes, id);
    } else {
        status =
            didi_fail(error, DIDI_CONFLICT, id, "the job has %s already",
                      job.state == JOB_CANCELLED ? "been cancelled" : job_state_name(job.state));
    }
    store_job_clear(&job);
    return status;
}

static int cancel_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    return job_cancel(writer, context, changes, error);
}

int store_job_cancel(store *self, const char *id, didi_error *error)
{
    return store_write_job(self, cancel_operation, id, error);
}

/* Why a job was not deleted. */
static int delete_refused(database *writer, const char *id, job_state state, didi_error *error)
{
    char later[ID_BYTES];
    bool found = false;
    int status = database_row(writer, QUERY_JOB_EXTENDED_BY, SQL_PARAMETERS(SQL_TEXT(id, id)),
                              &row_of_id, later, &found, error);
    if (status != DIDI_OK)
        return status;
    if (found && state_is_final(state))
        return didi_fail(error, DIDI_CONFLICT, id,
                         "job %s extends this one and has not finished; wait for it or cancel it",
                         later);
    return didi_fail(error, DIDI_CONFLICT, id,
                     state_is_final(state) ? "the job has %s, but an export of it is running"
                                           : "the job is %s; cancel it first",
                     job_state_name(state));
}

static int delete_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const char *id = context;
    store_job job = {0};
    int status = job_select(writer, id, &job, error);
    const job_state state = job.state;
    store_job_clear(&job);
    if (status != DIDI_OK)
        return status;
    status = database_run(writer, QUERY_JOB_DELETE, SQL_PARAMETERS(SQL_TEXT(id, id)), error);
    if (status != DIDI_OK)
        return status;
    if (sqlite3_changes(writer->connection) == 0)
        return delete_refused(writer, id, state, error);
    store_changes_add(changes, id);
    return database_run(writer, QUERY_DELETED_INSERT, SQL_PARAMETERS(SQL_TEXT(id, id)), error);
}

int store_job_delete(store *self, const char *id, didi_error *error)
{
    return store_write_job(self, delete_operation, id, error);
}

/* ---- starting ---- */

typedef struct boot_argument {
    const char *boot_id;
    size_t count;
} boot_argument;

static int boot_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    boot_argument *argument = context;
    bool found = true;
    int status = DIDI_OK;
    memcpy(writer->boot_id, argument->boot_id, ID_BYTES);
    while (status == DIDI_OK) {
        char id[ID_BYTES];
        store_job job;
        status = database_row(writer, QUERY_JOB_OF_OTHER_BOOT,
                              SQL_PARAMETERS(SQL_TEXT(boot_id, argument->boot_id)), &row_of_id, id,
                              &found, error);
        if (status == DIDI_OK && found)
            status = job_select(writer, id, &job, error);
        if (status != DIDI_OK || !found)
            break;
        job_move move = {.id = id,
                         .from = FROM_RUNNING,
                         .to = job.cancel_requested ? JOB_CANCELLED : JOB_QUEUED,
                         .attempt = ATTEMPT_ANY};
        store_job_clear(&job);
        status = job_move_state(writer, &move, changes, error);
        argument->count++;
    }
    if (status != DIDI_OK)
        return status;
    return database_run(writer, QUERY_EXPORT_BOOT, SQL_PARAMETERS(SQL_INTEGER(now, clock_now_ms())),
                        error);
}

int store_boot(store *self, const char *boot_id, size_t *ret_count, didi_error *error)
{
    boot_argument argument = {.boot_id = boot_id};
    int status = store_write(self, boot_operation, &argument, error);
    if (status == DIDI_OK)
        *ret_count = argument.count;
    return status;
}
