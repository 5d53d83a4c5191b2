/* SPDX-License-Identifier: Apache-2.0 */
/* Bake-offs: rows of what is compared, and of what came out. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const role_names[] = {MEMBER_ROLE_TABLE(TEXT_WORD)};

const char *member_role_name(member_role role)
{
    assert((unsigned)role < MEMBER_ROLE_COUNT);
    return role_names[role];
}

#define AT(kind, member) ROW_COLUMN(store_bakeoff, kind, member)
/* As {bakeoff_row} of queries.sql has them. */
static const row_kind row_of_bakeoff = {
    .noun = "bake-off",
    .bytes = sizeof(store_bakeoff),
    .states = job_state_names,
    .state_count = JOB_STATE_COUNT,
    .columns = {AT(TEXT, id), AT(GIVEN, name), AT(JSON, request), AT(STATE, state),
                AT(INTEGER, sized), AT(INTEGER, scored), AT(INTEGER, model_bytes),
                AT(INTEGER, cancel_requested), AT(STRING, error_status), AT(STRING, error_message),
                AT(INTEGER, created_ms), AT(INTEGER, updated_ms), AT(INTEGER, finished_ms),
                AT(INTEGER, members), AT(INTEGER, ended)}};
#undef AT

#define AT(kind, member) ROW_COLUMN(store_member, kind, member)
static const row_kind row_of_member = {
    .noun = "member of a bake-off",
    .bytes = sizeof(store_member),
    .states = role_names,
    .state_count = MEMBER_ROLE_COUNT,
    .columns = {AT(INTEGER, number), AT(STATE, role), AT(GIVEN, label), AT(GIVEN, method),
                AT(JSON, options), AT(TEXT, job_id), AT(TEXT, state), AT(INTEGER, ended),
                AT(INTEGER, has_job), AT(REAL, progress), AT(REAL, result.error),
                AT(REAL, result.ratio), AT(INTEGER, result.bytes), AT(INTEGER, run_ms),
                AT(STRING, error_status), AT(STRING, error_message), AT(INTEGER, kept_bytes)}};
#undef AT

#define AT(kind, member) ROW_COLUMN(store_score, kind, member)
static const row_kind row_of_score = {
    .noun = "score",
    .bytes = sizeof(store_score),
    .columns = {AT(INTEGER, number), AT(GIVEN, task), AT(REAL, score), AT(REAL, cosine),
                AT(REAL, length), AT(STRING, error), AT(INTEGER, run_ms)}};
#undef AT

void store_bakeoff_clear(store_bakeoff *bakeoff)
{
    row_clear(&row_of_bakeoff, bakeoff);
}

void store_bakeoffs_free(store_bakeoff *bakeoffs, size_t count)
{
    rows_free(&row_of_bakeoff, bakeoffs, count);
}

void store_members_free(store_member *members, size_t count)
{
    rows_free(&row_of_member, members, count);
}

void store_scores_free(store_score *scores, size_t count)
{
    rows_free(&row_of_score, scores, count);
}

static int bakeoff_unknown(const char *id, didi_error *error)
{
    return didi_fail(error, DIDI_NOT_FOUND, id, "no bake-off has the id '%.64s'", id);
}

/* ---- creating, growing ---- */

static int member_insert(database *writer, const char *id, const store_new_member *made,
                         store_changes *changes, didi_error *error)
{
    store_submission job = made->job;
    char job_id[ID_BYTES] = "";
    int status = DIDI_OK;
    job.bakeoff = id;
    const bool has_job = made->refused == NULL && made->role != MEMBER_BASE;
    if (has_job)
        status = job_add(writer, &job, job_id, changes, error);
    if (status != DIDI_OK)
        return status;
    const didi_error *why = made->refused;
    return database_run(
        writer, QUERY_BAKEOFF_INSERT_MEMBER,
        SQL_PARAMETERS(SQL_TEXT(id, id), SQL_TEXT(role, role_names[made->role]),
                       SQL_TEXT(label, made->label), SQL_TEXT(method, made->method),
                       SQL_TEXT(options, made->options), SQL_TEXT(job_id, has_job ? job_id : NULL),
                       SQL_TEXT(error_status, why != NULL ? didi_status_name(why->status) : NULL),
                       SQL_TEXT(error_message, why != NULL ? why->message : NULL)),
        error);
}

typedef struct create_argument {
    const store_new_bakeoff *made;
    replay known;
} create_argument;

static int create_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    create_argument *argument = context;
    const store_new_bakeoff *made = argument->made;
    const char *key = made->idempotency_key;
    const int64_t now = clock_now_ms();
    char *id = argument->known.id;
    int status = DIDI_OK;
    if (key != NULL)
        status = replay_find(writer, QUERY_BAKEOFF_BY_IDEMPOTENCY_KEY, key, made->body_digest,
                             &argument->known, error);
    if (status != DIDI_OK || argument->known.found)
        return status;
    argument->known.outcome = STORE_SUBMIT_CREATED;
    status = database_new_id(writer, now, id, error);
    if (status == DIDI_OK)
        status = database_run(
            writer, QUERY_BAKEOFF_INSERT,
            SQL_PARAMETERS(SQL_TEXT(id, id), SQL_TEXT(name, made->name),
                           SQL_TEXT(request, made->request), SQL_INTEGER(scored, made->scored),
                           SQL_INTEGER(model_bytes, made->model_bytes),
                           SQL_TEXT(idempotency_key, key),
                           SQL_TEXT(body_digest, key != NULL ? made->body_digest : NULL),
                           SQL_INTEGER(now, now)),
            error);
    for (size_t i = 0; i < made->member_count && status == DIDI_OK; i++)
        status = member_insert(writer, id, &made->members[i], changes, error);
    if (status == DIDI_OK)
        status = database_run(writer, QUERY_BAKEOFF_TRIM,
                              SQL_PARAMETERS(SQL_INTEGER(most, STORE_BAKEOFFS_KEPT_MAX)), error);
    return status;
}

static size_t count_jobs(const store_new_member *members, size_t count)
{
    size_t jobs = 0;
    for (size_t i = 0; i < count; i++)
        jobs += members[i].refused == NULL && members[i].role != MEMBER_BASE;
    return jobs;
}

int store_bakeoff_create(store *self, const store_new_bakeoff *made, char ret_id[ID_BYTES],
                         store_submit_outcome *ret_outcome, didi_error *error)
{
    create_argument argument = {.made = made};
    assert(made->idempotency_key == NULL || made->body_digest != NULL);
    int status = store_write(self, create_operation, &argument, error);
    if (status != DIDI_OK)
        return status;
    memcpy(ret_id, argument.known.id, ID_BYTES);
    *ret_outcome = argument.known.outcome;
    if (!argument.known.found)
        metric_add(METRIC_JOBS_SUBMITTED, NULL,
                   (double)count_jobs(made->members, made->member_count));
    return DIDI_OK;
}

int store_bakeoff_find_submission(store *self, const store_submission *submission, bool *ret_found,
                                  char ret_id[ID_BYTES], store_submit_outcome *ret_outcome,
                                  didi_error *error)
{
    assert(submission->idempotency_key != NULL && submission->body_digest != NULL);
    return store_find_replay(self, QUERY_BAKEOFF_BY_IDEMPOTENCY_KEY, submission, ret_found, ret_id,
                             ret_outcome, error);
}

typedef struct size_argument {
    const char *id;
    const store_new_member *members;
    size_t count;
} size_argument;

static int size_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    const size_argument *argument = context;
    char id[ID_BYTES];
    bool found = false;
    int status =
        database_row(writer, QUERY_BAKEOFF_SIZE,
                     SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_INTEGER(now, clock_now_ms())),
                     &row_of_id, id, &found, error);
    if (status == DIDI_OK && !found)
        return didi_fail(error, DIDI_CONFLICT, argument->id, "the bake-off takes no more members");
    for (size_t i = 0; i < argument->count && status == DIDI_OK; i++)
        status = member_insert(writer, argument->id, &argument->members[i], changes, error);
    return status;
}

int store_bakeoff_size(store *self, const char *id, const store_new_member *members, size_t count,
                       didi_error *error)
{
    size_argument argument = {id, members, count};
    int status = store_write(self, size_operation, &argument, error);
    if (status == DIDI_OK)
        metric_add(METRIC_JOBS_SUBMITTED, NULL, (double)count_jobs(members, count));
    return status;
}

/* ---- reading ---- */

int store_bakeoff_get(store *self, const char *id, store_bakeoff *ret_bakeoff, didi_error *error)
{
    bool found = false;
    int status = store_row_read(self, QUERY_BAKEOFF_SELECT, SQL_PARAMETERS(SQL_TEXT(id, id)),
                                &row_of_bakeoff, ret_bakeoff, &found, error);
    return status == DIDI_OK && !found ? bakeoff_unknown(id, error) : status;
}

int store_bakeoff_list(store *self, const char *before, size_t limit, store_bakeoff **ret_bakeoffs,
                       size_t *ret_count, bool *ret_more, didi_error *error)
{
    const row_list wanted = {
        .query = QUERY_BAKEOFF_LIST,
        .kind = &row_of_bakeoff,
        .parameters = SQL_PARAMETERS(SQL_TEXT(before, before), SQL_INTEGER(limit, ROWS_ALL)),
        .limit = limit,
        .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_bakeoffs, ret_count, ret_more, error);
}

int store_bakeoff_unfinished(store *self, const char *after, size_t limit,
                             char (**ret_ids)[ID_BYTES], size_t *ret_count, didi_error *error)
{
    return store_ids_read(self, QUERY_BAKEOFF_UNFINISHED, after, limit, ret_ids, ret_count, error);
}

int store_bakeoff_members(store *self, const char *id, store_member **ret_members,
                          size_t *ret_count, didi_error *error)
{
    const row_list wanted = {.query = QUERY_BAKEOFF_MEMBER_LIST,
                             .kind = &row_of_member,
                             .parameters =
                                 SQL_PARAMETERS(SQL_TEXT(id, id), SQL_INTEGER(limit, ROWS_ALL)),
                             .limit = LIMIT_BAKEOFF_MEMBERS,
                             .most = LIMIT_BAKEOFF_MEMBERS};
    return store_rows_read(self, &wanted, ret_members, ret_count, NULL, error);
}

int store_bakeoff_scores(store *self, const char *id, store_score **ret_scores, size_t *ret_count,
                         didi_error *error)
{
    const size_t most = (size_t)LIMIT_BAKEOFF_MEMBERS * LIMIT_TASKS;
    const row_list wanted = {.query = QUERY_BAKEOFF_SCORE_LIST,
                             .kind = &row_of_score,
                             .parameters =
                                 SQL_PARAMETERS(SQL_TEXT(id, id), SQL_INTEGER(limit, ROWS_ALL)),
                             .limit = most,
                             .most = most};
    return store_rows_read(self, &wanted, ret_scores, ret_count, NULL, error);
}

/* ---- what came out ---- */

static int record_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const sql_parameter *id = SQL_PARAMETERS(SQL_TEXT(id, context));
    (void)changes;
    int status = database_run(writer, QUERY_BAKEOFF_RECORD, id, error);
    return status == DIDI_OK ? database_run(writer, QUERY_BAKEOFF_RECORD_GONE, id, error) : status;
}

int store_bakeoff_record(store *self, const char *id, didi_error *error)
{
    return store_write(self, record_operation, (void *)id, error);
}

typedef struct score_argument {
    const char *id;
    const store_score *score;
} score_argument;

static int score_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    const score_argument *argument = context;
    const store_score *score = argument->score;
    (void)changes;
    return database_run(
        writer, QUERY_BAKEOFF_SCORE_PUT,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_INTEGER(number, score->number),
                       SQL_TEXT(task, score->task), SQL_REAL(score, score->score),
                       SQL_REAL(cosine, score->cosine), SQL_REAL(length, score->length),
                       SQL_TEXT(error, score->error), SQL_INTEGER(run_ms, score->run_ms)),
        error);
}

int store_bakeoff_score(store *self, const char *id, const store_score *score, didi_error *error)
{
    score_argument argument = {id, score};
    return store_write(self, score_operation, &argument, error);
}

typedef struct move_argument {
    const char *id;
    job_state state;
    const didi_error *why;
} move_argument;

static int move_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    const move_argument *argument = context;
    const didi_error *why = argument->why;
    (void)changes;
    return database_run(
        writer, QUERY_BAKEOFF_MOVE,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_TEXT(to, job_state_name(argument->state)),
                       SQL_INTEGER(now, clock_now_ms()),
                       SQL_TEXT(error_status, why != NULL ? didi_status_name(why->status) : NULL),
                       SQL_TEXT(error_message, why != NULL ? why->message : NULL)),
        error);
}

int store_bakeoff_move(store *self, const char *id, job_state state, const didi_error *why,
                       didi_error *error)
{
    move_argument argument = {id, state, why};
    return store_write(self, move_operation, &argument, error);
}

/* ---- ending before it ends, removing ---- */

/* The query gives the id where the bake-off is in a state to be changed so. */
static int end_operation(database *writer, const char *id, store_query query,
                         const sql_parameter *parameters, const char *refusal, didi_error *error)
{
    store_bakeoff known = {0};
    char changed[ID_BYTES];
    bool found = false;
    int status = database_row(writer, query, parameters, &row_of_id, changed, &found, error);
    if (status != DIDI_OK || found)
        return status;
    status = database_row(writer, QUERY_BAKEOFF_SELECT, SQL_PARAMETERS(SQL_TEXT(id, id)),
                          &row_of_bakeoff, &known, &found, error);
    if (status == DIDI_OK)
        status = found ? didi_fail(error, DIDI_CONFLICT, id, "the bake-off is %s%s",
                                   job_state_name(known.state), refusal)
                       : bakeoff_unknown(id, error);
    store_bakeoff_clear(&known);
    return status;
}

static int cancel_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const char *id = context;
    char job_id[ID_BYTES];
    bool found = true;
    int status = end_operation(writer, id, QUERY_BAKEOFF_REQUEST_CANCEL,
                               SQL_PARAMETERS(SQL_TEXT(id, id), SQL_INTEGER(now, clock_now_ms())),
                               " already", error);
    while (status == DIDI_OK && found) {
        status = database_row(writer, QUERY_BAKEOFF_JOB_UNFINISHED,
                              SQL_PARAMETERS(SQL_TEXT(id, id)), &row_of_id, job_id, &found, error);
        if (status == DIDI_OK && found)
            status = job_cancel(writer, job_id, changes, error);
    }
    return status;
}

int store_bakeoff_cancel(store *self, const char *id, didi_error *error)
{
    return store_write(self, cancel_operation, (void *)id, error);
}

static int delete_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    (void)changes;
    return end_operation(writer, context, QUERY_BAKEOFF_DELETE,
                         SQL_PARAMETERS(SQL_TEXT(id, context)), "; cancel it first", error);
}

int store_bakeoff_delete(store *self, const char *id, didi_error *error)
{
    return store_write(self, delete_operation, (void *)id, error);
}
