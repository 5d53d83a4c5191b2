/* SPDX-License-Identifier: Apache-2.0 */
/* Everything durable but artifacts: jobs, events, exports, models, fetches, idempotency keys, in
 * SQLite.
 *
 * Threads: one writer thread owns the only read-write connection; store_* functions that write put
 * a request into its bounded mailbox and wait until it is committed (or refused). Reads borrow one
 * of a few read-only connections. All functions here are thread-safe and may block for some
 * milliseconds; none may be called from the listener.
 *
 * A job is in one state; one function of this module moves it. Writes of a run name job and
 * attempt, so that a late write of an earlier attempt matches no row (DIDI_CONFLICT). */
#pragma once

#include "daemon/store/events.h"
#include "daemon/store/exports.h"
#include "daemon/store/fetches.h"
#include "daemon/store/job_states.h"
#include "daemon/store/jobs.h"
#include "daemon/store/kept.h"
#include "daemon/store/models.h"

typedef struct store store;

/* Opens or creates `didid.db` in the state directory, migrates it, starts the writer.
 * Errors: DIDI_CONFLICT (database of a newer version, or not ours), DIDI_IO, DIDI_DISK_FULL,
 * DIDI_FORMAT (damaged), DIDI_NO_MEMORY. */
int store_open(const char *directory, store **ret_store, didi_error *error);

/* Finishes the mailbox, checkpoints, closes. No other call may be in progress. NULL is fine. */
void store_close(store *self);

/* `job_changed` is called on the writer thread after each commit that changed a job, its events or
 * its exports; once for several changes of one commit. It must not call the store. NULL takes it
 * away: when this returns, the former one does not run any more. */
void store_set_listener(store *self, void (*job_changed)(void *context, const char *job_id),
                        void *context);

/* 0 when the writer answers and the last write was committed; else the reason (readiness). */
int store_check(store *self, didi_error *error);

/* sqlite3_libversion(); static. */
const char *store_library_version(void);
