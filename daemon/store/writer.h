/* SPDX-License-Identifier: Apache-2.0 */
/* How the parts of the store write and read. Internal to the store. */
#pragma once

#include "daemon/store/database.h"
#include "daemon/store/store.h"

#include <math.h>

enum { STORE_CHANGES_MAX = 256 };

/* Jobs a commit changed, for the listener. */
typedef struct store_changes {
    char ids[STORE_CHANGES_MAX][ID_BYTES];
    size_t count;
    bool deliveries; /* there are new ones to send */
    bool more;       /* than have room: the listener is told of all */
} store_changes;

void store_changes_add(store_changes *changes, const char *job_id);

/* Runs on the writer thread inside a transaction; a failure undoes what it did and nothing else. */
typedef int store_operation(database *writer, void *argument, store_changes *changes,
                            didi_error *error);

/* Waits for the operation (NULL: none) and its commit. `argument` is used until then. */
int store_write(store *self, store_operation *operation, void *argument, didi_error *error);

/* `operation` on the job of this id, which it gets a copy of. DIDI_NOT_FOUND. */
int store_write_job(store *self, store_operation *operation, const char *id, didi_error *error);

/* Does not wait for the operation; frees `argument` with free() afterwards. When the mailbox is
 * full: dropped if it may be, else waits for room. */
void store_post(store *self, store_operation *operation, void *argument, bool may_be_dropped);

/* A read-only connection; waits while all are lent. */
int store_reader_borrow(store *self, database **ret_database, didi_error *error);
void store_reader_return(store *self, database *reader);

extern const row_kind row_of_job;
extern const char *const job_state_names[];

/* The job, read over any connection. DIDI_NOT_FOUND. */
int job_select(database *connection, const char *id, store_job *ret_job, didi_error *error);

/* What came with an idempotency key before. */
typedef struct replay {
    bool found;
    char id[ID_BYTES];
    store_submit_outcome outcome;
} replay;
/* *ret_replay is untouched when the key is new. */
int replay_find(database *connection, store_query query, const char *key, const char *digest,
                replay *ret_replay, didi_error *error);

/* The same over a reader's connection, of the key and digest of a submission. */
int store_find_replay(store *self, store_query query, const store_submission *submission,
                      bool *ret_found, char ret_id[ID_BYTES], store_submit_outcome *ret_outcome,
                      didi_error *error);

/* Accepts a job, as store_job_submit does once its key is known to be new. */
int job_add(database *writer, const store_submission *submission, char ret_id[ID_BYTES],
            store_changes *changes, didi_error *error);
/* As store_job_cancel. */
int job_cancel(database *writer, const char *id, store_changes *changes, didi_error *error);

/* The parameters of what a job gave: none of them where it is not known. */
#define SQL_RESULT(result)                                                                         \
    SQL_REAL(result_error, (result)->error), SQL_REAL(result_ratio, (result)->ratio),              \
        SQL_REAL(result_bytes, isnan((result)->ratio) ? NAN : (double)(result)->bytes)

/* Appends an event with its number, its time and its attempt. */
int event_insert(database *writer, const char *job_id, const store_event *event, didi_error *error);

/* After a job became unfinished, in its transaction: the limit of artifacts (0: none).
 * DIDI_CONFLICT. */
int artifacts_check_room(database *writer, uint64_t bytes_max, didi_error *error);

/* Queues a delivery of "job.STATE" for each endpoint that hears of it. After the move, in its
 * transaction. */
int notice_job(database *writer, const char *id, store_changes *changes, didi_error *error);

/* The same of a model that is new or has another state or revision than `before`, which is empty
 * where there was no such model. */
typedef struct model_past {
    model_state state;
    char revision[128];
} model_past;
int notice_model(database *writer, const store_model *model, const model_past *before,
                 store_changes *changes, didi_error *error);

/* True in *ret_any when any endpoint may hear of anything. */
int notice_any(database *writer, bool *ret_any, didi_error *error);

/* Whether a delivery may be queued for this endpoint. Errors: DIDI_NOT_FOUND; DIDI_CONFLICT (it is
 * disabled, its queue is full). */
int webhook_check_open(database *writer, const char *id, didi_error *error);

/* A delivery of an event for one endpoint; `id` is made here. `body` is a JSON document; without a
 * subject it waits for no other. */
typedef struct new_delivery {
    const char *webhook_id, *type, *subject, *body;
    const char *traceparent; /* NULL for none */
    char id[ID_BYTES];
} new_delivery;
int delivery_insert(database *writer, new_delivery *made, store_changes *changes,
                    didi_error *error);

/* The first row of a query, over a reader's connection; as database_row. */
int store_row_read(store *self, store_query query, const sql_parameter *parameters,
                   const row_kind *kind, void *ret_row, bool *ret_found, didi_error *error);

/* A list that is asked for. */
/* SQL's limit of pages: reading stops after a page, and damaged rows do not count in it. */
enum { ROWS_ALL = -1 };

typedef struct row_list {
    store_query query;
    const row_kind *kind;
    const sql_parameter *parameters; /* `limit` of a page is ROWS_ALL */
    size_t limit, most;              /* rows wanted; that may be */
    const char *job;                 /* must exist; NULL for none */
} row_list;

/* Reads at most `limit` rows. `ret_rows` is the address of a pointer to the first; the caller frees
 * them with rows_free. *ret_more (may be NULL): there are more than that. Errors: DIDI_INVALID (the
 * limit is outside 1 .. most), DIDI_NOT_FOUND (the job), those of row_read. */
int store_rows_read(store *self, const row_list *wanted, void *ret_rows, size_t *ret_count,
                    bool *ret_more, didi_error *error);
/* Of a query with parameters `after` and `limit` that reads ids: at most STORE_PAGE_MAX of them. */
int store_ids_read(store *self, store_query query, const char *after, size_t limit,
                   char (**ret_ids)[ID_BYTES], size_t *ret_count, didi_error *error);
void rows_free(const row_kind *kind, void *rows, size_t count);

/* Calls visit for the id in every row of a query, until it is not 0. */
int store_each_id(store *self, store_query query, int (*visit)(void *context, const char *id),
                  void *context, didi_error *error);
