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

/* Waits for the operation and its commit. `argument` is used until then. */
int store_write(store *self, store_operation *operation, void *argument, didi_error *error);

/* Does not wait for the operation; frees `argument` with free() afterwards. When the mailbox is
 * full: dropped if it may be, else waits for room. */
void store_post(store *self, store_operation *operation, void *argument, bool may_be_dropped);

/* A read-only connection; waits while all are lent. */
int store_reader_borrow(store *self, database **ret_database, didi_error *error);
void store_reader_return(store *self, database *reader);

/* The job, read over any connection. DIDI_NOT_FOUND. */
int job_select(database *connection, const char *id, store_job *ret_job, didi_error *error);

/* How the rows of a list are asked for and read. */
typedef struct row_kind {
    store_query query;
    size_t bytes, most; /* of one; at once */
    /* `limit` rows are enough. */
    void (*bind)(database *reader, sqlite3_stmt *statement, const void *filter, int64_t limit);
    int (*read)(sqlite3_stmt *statement, void *ret_row, didi_error *error);
    void (*clear)(void *row);
} row_kind;

typedef struct row_list {
    void *rows;
    size_t count;
    bool more; /* than were asked for */
} row_list;

/* Reads at most `limit` rows, that of `job` (or NULL) being known. The caller frees them with
 * store_rows_free. Errors: DIDI_INVALID (the limit is outside 1 .. most), DIDI_NOT_FOUND (the job),
 * DIDI_IO, DIDI_NO_MEMORY. */
int store_rows_read(store *self, const row_kind *kind, const char *job, const void *filter,
                    size_t limit, row_list *ret_list, didi_error *error);
void store_rows_free(const row_kind *kind, void *rows, size_t count);

/* Calls visit for the id in every row of a query, until it is not 0. */
int store_each_id(store *self, store_query query, int (*visit)(void *context, const char *id),
                  void *context, didi_error *error);
