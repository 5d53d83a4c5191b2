/* SPDX-License-Identifier: Apache-2.0 */
/* Everything durable but artifacts: jobs, events, exports, models, idempotency keys, in SQLite.
 *
 * Threads: one writer thread owns the only read-write connection; store_* functions that write put
 * a request into its bounded mailbox and wait until it is committed (or refused). Reads borrow one
 * of a few read-only connections. All functions here are thread-safe and may block for some
 * milliseconds; none may be called from the listener.
 *
 * A job is in one state; one function of this module moves it. Writes of a run name job and
 * attempt, so that a late write of an earlier attempt matches no row (DIDI_CONFLICT). */
#pragma once

#include "daemon/base/id.h"
#include "proto/states.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STORE_PAGE_MAX = 1000,           /* rows a list gives at most */
    STORE_IDEMPOTENCY_KEY_MAX = 255, /* bytes */
    STORE_EVENTS_PER_JOB_MAX =
        5000, /* points beyond are dropped; states and notes have their share */
    STORE_TASK_BYTES = 129,
};

typedef struct store store;

const char *job_state_name(job_state state);
bool job_state_parse(const char *name, job_state *ret_state);
const char *export_state_name(export_state state);
const char *model_state_name(model_state state);

/* Opens or creates `didid.db` in the state directory, migrates it, starts the writer.
 * Errors: DIDI_CONFLICT (database of a newer version, or not ours), DIDI_IO, DIDI_DISK_FULL,
 * DIDI_FORMAT (damaged), DIDI_NO_MEMORY. */
int store_open(const char *state_dir, store **ret_store, didi_error *error);

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

/* ---- jobs ---- */

typedef struct store_job {
    char id[ID_BYTES];
    job_state state;
    int priority;        /* higher first */
    char *name;          /* may be "" */
    char *base;          /* model name */
    char *specification; /* canonical JSON object */
    char *labels;        /* JSON object of strings */
    unsigned attempt;    /* counts runs begun; 0 before the first */
    bool cancel_requested;
    char stage[16];      /* name of the stage in force, "" outside running */
    double progress;     /* 0 .. 1 */
    char *error_status;  /* didi_status_name, NULL when there is none */
    char *error_subject; /* may be NULL */
    char *error_message; /* may be NULL */
    int64_t created_ms, updated_ms;
    int64_t started_ms, finished_ms; /* 0 = not yet */
    int64_t event_count;             /* number of the last event; 0 for none */
    char from_job[ID_BYTES];         /* whose spectra it starts from; "" for none */
    uint64_t kept_bytes;             /* spectra and bases kept for others; 0 for none */
} store_job;

/* Frees what it holds and zeroes it. */
void store_job_clear(store_job *job);
void store_jobs_free(store_job *jobs, size_t count);

typedef struct store_submission {
    const char *name, *base, *specification, *labels; /* as in store_job */
    int priority;
    size_t active_max;    /* refused with DIDI_CONFLICT when so many are unfinished; 0: none */
    const char *from_job; /* NULL for none; must have succeeded and keep its spectra */
    const char *idempotency_key; /* NULL for none; scoped to jobs */
    const char *body_digest;     /* hex SHA-256 of the request body; with a key */
} store_submission;

typedef enum store_submit_outcome {
    STORE_SUBMIT_CREATED,
    STORE_SUBMIT_REPLAYED,   /* same key, same body: ret_id is the job of then */
    STORE_SUBMIT_KEY_REUSED, /* same key, other body: nothing was done */
} store_submit_outcome;

/* Accepts a job: on disk when this returns 0. Errors: DIDI_NOT_FOUND with the subject "/from_job"
 * when there is nothing to start from (and what is there stays while the new job is unfinished). */
int store_job_submit(store *self, const store_submission *submission, char ret_id[ID_BYTES],
                     store_submit_outcome *ret_outcome, didi_error *error);

/* What a submission with an idempotency key would be answered with if the key is known; *ret_found
 * is false and the others untouched when it is new. Writes nothing. */
int store_job_find_submission(store *self, const store_submission *submission, bool *ret_found,
                              char ret_id[ID_BYTES], store_submit_outcome *ret_outcome,
                              didi_error *error);

/* DIDI_NOT_FOUND when there is none. Caller clears *ret_job. */
int store_job_get(store *self, const char *id, store_job *ret_job, didi_error *error);

typedef struct store_job_filter {
    const job_state *state;              /* NULL = any */
    const char *label_key, *label_value; /* NULL = any; value NULL = the key is there */
    const char *before_id;               /* NULL = from the newest; else ids below this one */
} store_job_filter;

/* Newest first, at most `limit` (1 .. STORE_PAGE_MAX). Caller frees with store_jobs_free. */
int store_job_list(store *self, const store_job_filter *filter, size_t limit, store_job **ret_jobs,
                   size_t *ret_count, bool *ret_more, didi_error *error);

/* ---- for the scheduler (the edge uses scheduler.h instead) ---- */

/* Gives jobs `running` under another boot back to the queue (their event says so), restarts exports
 * that were running, and remembers the boot id for claims. Returns how many jobs in *ret_count. */
int store_boot(store *self, const char *boot_id, size_t *ret_count, didi_error *error);

/* Takes the queued job of highest priority, oldest first, among those of `priority` or more:
 * running, attempt + 1, event. *ret_found is false and *ret_job untouched when none waits. */
int store_job_claim(store *self, int priority, store_job *ret_job, bool *ret_found,
                    didi_error *error);

/* Ends a run: state succeeded, failed or cancelled; `why` is the error of the latter two (may be
 * NULL). DIDI_CONFLICT if the job is not running this attempt. */
int store_job_finish(store *self, const char *id, unsigned attempt, job_state state,
                     const didi_error *why, didi_error *error);

/* Gives a running job back to the queue (shutdown). The attempt is not counted. */
int store_job_release(store *self, const char *id, unsigned attempt, didi_error *error);

/* Marks a succeeded job failed (its artifacts are gone). */
int store_job_fail_lost(store *self, const char *id, const char *message, didi_error *error);

/* Sets cancel_requested on a running job; a queued one becomes cancelled. *ret_state: the state
 * after. DIDI_NOT_FOUND; DIDI_CONFLICT if finished. */
int store_job_cancel(store *self, const char *id, job_state *ret_state, didi_error *error);

/* failed | cancelled -> queued. DIDI_NOT_FOUND, DIDI_CONFLICT. */
int store_job_retry(store *self, const char *id, didi_error *error);

/* Removes a finished job with events and exports. DIDI_NOT_FOUND, DIDI_CONFLICT (not finished, or
 * an export is running). */
int store_job_delete(store *self, const char *id, didi_error *error);

/* Calls visit for every job id, oldest first, with its state. For the sweep at start. */
int store_job_each(store *self, int (*visit)(void *context, const char *id, job_state state),
                   void *context, didi_error *error);

/* ---- spectra and bases kept for other jobs ---- */

/* Notes what a running job keeps; before its end is recorded. DIDI_CONFLICT if it is not running
 * this attempt. */
int store_job_keep(store *self, const char *id, unsigned attempt, uint64_t bytes,
                   didi_error *error);

/* While all together exceed `limit` bytes, the oldest that no unfinished job starts from keeps
 * nothing any more. One a call: *ret_found is false and ret_id untouched when there is none. */
int store_kept_shrink(store *self, uint64_t limit, char ret_id[ID_BYTES], bool *ret_found,
                      didi_error *error);

/* The files are gone. */
int store_kept_forget(store *self, const char *id, didi_error *error);

/* True while the job `id` keeps its spectra or, itself deleted or not, an unfinished one starts
 * from them. Once false it stays so. */
int store_kept_is_needed(store *self, const char *id, bool *ret_needed, didi_error *error);

/* Calls visit for every job that keeps something. For the sweep at start. */
int store_kept_each(store *self, int (*visit)(void *context, const char *id), void *context,
                    didi_error *error);

/* ---- events ---- */

typedef struct store_event {
    int64_t number; /* from 1, per job, without holes */
    int64_t at_ms;
    unsigned attempt;
    char kind[8];   /* "state", "stage", "point", "note" */
    char stage[16]; /* "" for state events */
    uint64_t step;
    double loss, relative_error, ratio, ratio_target; /* NaN = not known */
    uint64_t items_done, items_total;
    double seconds; /* NaN = not known */
    uint64_t bytes_read;
    char *text; /* state events: the new state; notes: one line; else NULL */
} store_event;

void store_events_free(store_event *events, size_t count);

/* Events numbered above `after`, ascending, at most `limit`. DIDI_NOT_FOUND when there is no such
 * job. */
int store_event_list(store *self, const char *job_id, int64_t after, size_t limit,
                     store_event **ret_events, size_t *ret_count, didi_error *error);

/* Appends without waiting for the commit: copied into the mailbox, number and at_ms are set here.
 * Points are dropped when the mailbox is full; others wait for room. Takes no ownership. */
void store_event_post(store *self, const char *job_id, unsigned attempt, const store_event *event);

/* Sets stage and progress without waiting; dropped when the mailbox is full. */
void store_progress_post(store *self, const char *job_id, unsigned attempt, const char *stage,
                         double progress);

/* ---- exports ---- */

typedef struct store_export {
    char id[ID_BYTES];
    char job_id[ID_BYTES];
    char task[STORE_TASK_BYTES];
    char format[16]; /* "full" */
    export_state state;
    uint64_t bytes;                     /* of the finished file */
    char *error_status, *error_message; /* NULL when there is none */
    int64_t created_ms, updated_ms, finished_ms;
} store_export;

void store_exports_free(store_export *exports, size_t count);

/* Asks for an export of each task; one already queued, running or succeeded is left as it is, a
 * failed one is queued again. DIDI_NOT_FOUND (job), DIDI_CONFLICT (job has not succeeded). */
int store_export_request(store *self, const char *job_id, const char *format,
                         const char *const *tasks, size_t task_count, didi_error *error);

/* All exports of a job, by task. */
int store_export_list(store *self, const char *job_id, store_export **ret_exports,
                      size_t *ret_count, didi_error *error);

/* Oldest queued export becomes running. */
int store_export_claim(store *self, store_export *ret_export, bool *ret_found, didi_error *error);
int store_export_finish(store *self, const char *id, export_state state, uint64_t bytes,
                        const didi_error *why, didi_error *error);
/* running -> queued (shutdown). */
int store_export_release(store *self, const char *id, didi_error *error);

/* ---- models ---- */

typedef struct store_model {
    char *name;     /* relative path below the root */
    char *root;     /* the root as configured */
    char *revision; /* 16 hex digits over names, sizes, inodes and mtimes of its files: changes when
                       they do */
    model_state state;
    char *reason; /* of broken; else NULL */
    uint64_t tensor_count, parameters, bytes, file_count;
    int64_t registered_ms, updated_ms;
} store_model;

void store_model_clear(store_model *model);
void store_models_free(store_model *models, size_t count);

/* By name, ascending, names above `after` (NULL from the first), at most `limit`. */
int store_model_list(store *self, const char *after, size_t limit, store_model **ret_models,
                     size_t *ret_count, bool *ret_more, didi_error *error);
int store_model_get(store *self, const char *name, store_model *ret_model, didi_error *error);

/* Replaces the registry with these rows in one transaction; registered_ms of known names is kept,
 * and updated_ms where the revision and state are the same. */
int store_model_replace(store *self, const store_model *rows, size_t count, didi_error *error);
