/* SPDX-License-Identifier: Apache-2.0 */
/* States of jobs: the one module that moves them. Handlers use jobs/scheduler.h, which wakes the
 * scheduler too. */
#pragma once

#include "daemon/store/jobs.h"

/* Gives jobs `running` under another boot back to the queue (their event says so), restarts exports
 * that were running, and remembers the boot id for claims. Returns how many jobs in *ret_count. */
int store_boot(store *self, const char *boot_id, size_t *ret_count, didi_error *error);

/* Takes the queued job of highest priority, oldest first, among those of `priority` or more:
 * running, attempt + 1, event. *ret_found is false and *ret_job untouched when none waits. One
 * whose row is damaged fails at once: it is found, and *ret_job has no id. */
int store_job_claim(store *self, int priority, store_job *ret_job, bool *ret_found,
                    didi_error *error);

/* Ends a run: state succeeded, failed or cancelled; `why` is the error of the latter two (may be
 * NULL). DIDI_CONFLICT if the job is not running this attempt. */
int store_job_finish(store *self, const char *id, unsigned attempt, job_state state,
                     const didi_error *why, didi_error *error);

/* Ends a run well, with what it gave. As store_job_finish. */
int store_job_succeed(store *self, const char *id, unsigned attempt, const store_result *result,
                      didi_error *error);

/* Gives a running job back to the queue (shutdown). The attempt is not counted. */
int store_job_release(store *self, const char *id, unsigned attempt, didi_error *error);

/* Marks a succeeded job failed (its artifacts are gone). */
int store_job_fail_lost(store *self, const char *id, const char *message, didi_error *error);

/* Sets cancel_requested on a running job; a queued one becomes cancelled. DIDI_NOT_FOUND;
 * DIDI_CONFLICT if finished. */
int store_job_cancel(store *self, const char *id, didi_error *error);

/* failed | cancelled -> queued, within this limit of artifacts (0: none). DIDI_NOT_FOUND,
 * DIDI_CONFLICT (see store_artifacts_over too). */
int store_job_retry(store *self, const char *id, uint64_t artifact_bytes_max, didi_error *error);

/* Removes a finished job with events and exports, and remembers that its files are to go
 * (store_each_deleted_job). DIDI_NOT_FOUND, DIDI_CONFLICT (not finished, or
 * an export is running). */
int store_job_delete(store *self, const char *id, didi_error *error);
