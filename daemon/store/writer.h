/* SPDX-License-Identifier: Apache-2.0 */
/* How the parts of the store write and read. Internal to the store. */
#pragma once

#include "daemon/store/database.h"
#include "daemon/store/store.h"

enum { STORE_CHANGES_MAX = 256 };

/* Jobs a commit changed, for the listener. Overflow is dropped: waiting readers also have
 * deadlines. */
typedef struct store_changes {
    char ids[STORE_CHANGES_MAX][ID_BYTES];
    size_t count;
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

/* The job, read over any connection. DIDI_NOT_FOUND. */
int job_select(database *connection, const char *id, store_job *ret_job, didi_error *error);

/* Appends an event with its number, its time and its attempt. */
int event_insert(database *writer, const char *job_id, const store_event *event, didi_error *error);

/* The first row of a query, over a reader's connection; as database_row. */
int store_row_read(store *self, store_query query, const sql_parameter *parameters,
                   const row_kind *kind, void *ret_row, bool *ret_found, didi_error *error);

/* A list that is asked for. */
typedef struct row_list {
    store_query query;
    const row_kind *kind;
    const sql_parameter *parameters; /* `limit` of them is one more than the list's */
    size_t limit, most;              /* rows wanted; that may be */
    const char *job;                 /* must exist; NULL for none */
} row_list;

/* Reads at most `limit` rows. `ret_rows` is the address of a pointer to the first; the caller frees
 * them with rows_free. *ret_more (may be NULL): there are more than that. Errors: DIDI_INVALID (the
 * limit is outside 1 .. most), DIDI_NOT_FOUND (the job), those of row_read. */
int store_rows_read(store *self, const row_list *wanted, void *ret_rows, size_t *ret_count,
                    bool *ret_more, didi_error *error);
void rows_free(const row_kind *kind, void *rows, size_t count);

/* Calls visit for the id in every row of a query, until it is not 0. */
int store_each_id(store *self, store_query query, int (*visit)(void *context, const char *id),
                  void *context, didi_error *error);
