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

/* Of a list: 1 .. STORE_PAGE_MAX, else DIDI_INVALID. */
int store_check_limit(size_t limit, didi_error *error);
