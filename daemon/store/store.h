/* SPDX-License-Identifier: Apache-2.0 */
/* Everything durable but artifacts: jobs, events, exports, models, fetches, tokens, webhooks and
 * their deliveries, idempotency keys, in SQLite.
 *
 * Threads: one writer thread owns the only read-write connection; store_* functions that write put
 * a request into its bounded mailbox and wait until it is committed (or refused). Reads borrow one
 * of a few read-only connections. All functions here are thread-safe and may block for some
 * milliseconds; none may be called from the listener.
 *
 * A job is in one state; one function of this module moves it. Writes of a run name job and
 * attempt, so that a late write of an earlier attempt matches no row (DIDI_CONFLICT). */
#pragma once

#include "daemon/store/artifacts.h"
#include "daemon/store/backup.h"
#include "daemon/store/bakeoffs.h"
#include "daemon/store/deliveries.h"
#include "daemon/store/events.h"
#include "daemon/store/exports.h"
#include "daemon/store/fetches.h"
#include "daemon/store/guard.h"
#include "daemon/store/hooks.h"
#include "daemon/store/inspect.h"
#include "daemon/store/job_states.h"
#include "daemon/store/jobs.h"
#include "daemon/store/kept.h"
#include "daemon/store/models.h"
#include "daemon/store/tokens.h"
#include "daemon/store/uploads.h"
#include "daemon/store/webhooks.h"

typedef struct store store;

/* Opens or creates `didid.db` in the state directory, migrates it, starts the writer. What lies
 * there is looked at first (guard.h), and left as it is when it is refused.
 * Errors: DIDI_CONFLICT (database of a newer version, not ours, a link, lost, or one that went
 * back in time), DIDI_IO, DIDI_DISK_FULL, DIDI_FORMAT (damaged), DIDI_NO_MEMORY. */
int store_open(const char *directory, store **ret_store, didi_error *error);

/* As store_open, but goes on where a database was lost: an older one, or another of didid, is
 * taken; what cannot be used is set aside and a new one is made. Refuses a newer version alone. */
int store_open_accepting(const char *directory, store **ret_store, didi_error *error);

/* Finishes the mailbox, checkpoints, closes. No other call may be in progress. NULL is fine. */
void store_close(store *self);

/* `job_changed` is called on the writer thread after each commit that changed a job, its events or
 * its exports; once for several changes of one commit, and before whoever made
 * them goes on. The job is NULL where more changed than can be told one by one. It must not call
 * the store. NULL takes it away: when this returns, the former one does not run any more. */
void store_set_listener(store *self, void (*job_changed)(void *context, const char *job_id),
                        void *context);

/* `queued` is called on the writer thread after each commit that queued deliveries or made some
 * due; otherwise as the listener above. */
void store_set_delivery_listener(store *self, void (*queued)(void *context), void *context);

/* 0 when the writer answers, the last write was committed, and the state directory and its database
 * are still those that were opened; else the reason (readiness). */
int store_check(store *self, didi_error *error);

/* sqlite3_libversion(); static. */
const char *store_library_version(void);

/* Bytes that SQLite has allocated, all connections together. */
double store_memory_bytes(void);
