/* SPDX-License-Identifier: Apache-2.0 */
/* Runs jobs and exports on the libuv pool: claims, gives out items fairly, records how they end.
 *
 * Threads: the scheduler lives on the loop thread. Functions marked [any] may be called from any
 * thread (the edge's); they write to the store and wake the loop. Layout below the state directory:
 *   jobs/<id>/artifacts   manifest.json, shared.safetensors, experts/: appear together by rename
 *   jobs/<id>/exports     models/<task>/, adapters/<task>/, adapters-exact/<task>/: each by rename
 *   jobs/<id>/work        the engine's own, gone when the job is done
 *   jobs/<id>/compare     work and artifacts of the full merge that an extension is compared with,
 *                         gone likewise
 *   kept/<id>             spectra and bases that job keeps for others; stays while they need it
 *   trash/                being deleted
 *   lost/<id>             directories of jobs that the database does not know: set aside, whole */
#pragma once

#include "daemon/base/base.h"
#include "daemon/jobs/export.h"
#include "daemon/models/models.h"
#include "daemon/s3/s3.h"
#include "daemon/store/store.h"

#include <uv.h>

typedef struct scheduler scheduler;

/* Keeps the pointers; they must outlive it. `state_fd`: the state directory. Gives back jobs of
 * other boots, starts to work when the loop runs, and then looks through the state directory in
 * steps. */
int scheduler_create(uv_loop_t *loop, const config *settings, store *records, registry *models,
                     int state_fd, scheduler **ret_scheduler, didi_error *error);

/* Starts nothing more, asks items to stop, waits for those in flight within the loop, gives
 * unfinished jobs back to the queue; then calls done on the loop thread. */
void scheduler_stop(scheduler *self, void (*done)(void *context), void *context);

/* After done, and after the loop closed its handles. NULL is fine. */
void scheduler_free(scheduler *self);

/* How many directories lie in lost/, as far as the look after the start has come. [any] */
size_t scheduler_set_aside(const scheduler *self);

/* There may be new work. [any] */
void scheduler_wake(scheduler *self);

/* As store_job_cancel, store_job_retry, store_job_delete (and the job's files),
 * store_export_request, then wakes. [any] */
int scheduler_job_cancel(scheduler *self, const char *id, didi_error *error);
int scheduler_job_retry(scheduler *self, const char *id, didi_error *error);
int scheduler_job_delete(scheduler *self, const char *id, didi_error *error);
int scheduler_export_request(scheduler *self, const char *job_id, export_kind kind,
                             const char *const *tasks, size_t task_count, didi_error *error);

/* Threads that hang in a job or export that was failed for it (item_seconds_max). [any] */
size_t scheduler_workers_lost(const scheduler *self);

/* True while jobs wait because less than disk_free_min is free: queued ones do not start, running
 * ones begin no item. [any] */
bool scheduler_waits_for_disk(const scheduler *self);

/* Opens jobs/<id>/artifacts or jobs/<id>/exports (`name`), O_DIRECTORY; the caller closes.
 * DIDI_NOT_FOUND when there is none. [any] */
int scheduler_open_files(scheduler *self, const char *id, const char *name, int *ret_fd,
                         didi_error *error);

/* The same of jobs/<id>/artifacts for who reads all of the package, and waits for nothing: where
 * files of it lie at S3 alone, they are brought back meanwhile, and this is DIDI_CONFLICT. [any] */
int scheduler_open_package(scheduler *self, const char *id, int *ret_fd, didi_error *error);

/* The record of what a job stored at S3, and the job's directory, which the caller frees and
 * closes. DIDI_NOT_FOUND when not all of it is there. [any] */
int scheduler_open_deposit(scheduler *self, const char *id, deposit **ret_deposit, int *ret_job_fd,
                           didi_error *error);
s3 *scheduler_s3(const scheduler *self);

/* Seconds that a planned merge is expected to take, by what finished ones of its method and kind
 * took; NaN where there are none. [any] */
double scheduler_estimate(store *records, const specification *wanted, const didi_plan *plan);

/* Opens the merge of a job: its models, the package it extends and what it starts from. The places
 * say where it works (INPUTS_NOWHERE: a plan only), and neither package_fd nor reuse_fd. Errors:
 * those of inputs_create and didi_merge_open; DIDI_NOT_FOUND with the subject "/extend/job" or
 * "/from_job" when that job's files are gone. [any] */
int scheduler_open_merge(scheduler *self, const specification *wanted, const inputs_places *places,
                         const didi_merge_hooks *hooks, didi_merge **ret_merge, didi_error *error);
