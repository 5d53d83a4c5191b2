/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the scheduler share. */
#pragma once

#include "daemon/jobs/pool.h"
#include "daemon/jobs/scheduler.h"
#include "daemon/jobs/telemetry.h"

#include <stdatomic.h>

enum { SCHEDULER_TICK_MILLISECONDS = 200, SCHEDULER_EXPORTS_MAX = 2 };

typedef enum attempt_state {
    ATTEMPT_OPENING,   /* a pool thread opens the models */
    ATTEMPT_RUNNING,   /* its lane is in the pool */
    ATTEMPT_CLOSING,   /* a pool thread frees it and removes what is not needed any more */
    ATTEMPT_RECORDING, /* the store has still to be told; tried at every tick */
} attempt_state;

/* One attempt of one job. */
typedef struct attempt {
    struct attempt *next;
    scheduler *scheduler;
    store_job job;
    attempt_state state;
    didi_merge *merge;
    telemetry *telemetry;
    bool cancel;    /* asked for by a user */
    bool published; /* an earlier attempt had published already */
    bool logged;    /* that the store does not take the outcome */
    bool comparing; /* `merge` is the full merge that an extension is compared with */
    bool compared;  /* that has ended, well or not */
    char reason[DIDI_ERROR_MESSAGE_BYTES_MAX]; /* why there is no comparison */
    int status;                                /* outcome */
    didi_error why;
    double progress; /* last one stored */
    int64_t began_ms;
} attempt;

/* One export on its way. */
typedef struct export_run {
    struct export_run *next;
    scheduler *scheduler;
    store_export row;
    export_kind kind;
    char *base;
    int status;
    didi_error why;
    uint64_t bytes;
    bool recording; /* over, and the store has still to be told */
} export_run;

struct scheduler {
    uv_loop_t *loop;
    const config *config;
    store *store;
    registry *models;
    pool *pool;
    int jobs_fd, trash_fd, kept_fd;
    char boot_id[ID_BYTES];
    uv_async_t wake;
    uv_timer_t tick;
    attempt *attempts;
    size_t attempt_count;
    export_run *exports;
    size_t export_count;
    atomic_bool stopping;      /* read by exports on pool threads */
    atomic_bool trash_pending; /* set by any thread */
    bool trash_running;
    bool look; /* the store may hold work to claim */
    unsigned handles_open;
    /* Something ended: claims more, gives out more, or finishes stopping. */
    void (*advance)(scheduler *self);
    void (*done)(void *context);
    void *done_context;
};

/* ---- attempt.c ---- */

/* Starts a claimed job; takes what `job` owns. */
int attempt_start(scheduler *self, store_job *job, didi_error *error);
/* Looks whether users asked running jobs to be cancelled. */
void attempts_check_cancel(scheduler *self);
void attempts_cancel_all(scheduler *self);
/* Progress into the store, and outcomes that it did not take before. */
void attempts_tick(scheduler *self);

/* ---- compare.c ---- */

/* Opens the full merge of the same tasks and total, whose artifacts stay in the job's directory
 * until it ends; self->merge is left NULL, with the reason, where that cannot be. */
void compare_open(attempt *self, const char *text, int job_fd);
/* Its outcome; false when the job ends with it (cancelled, or the daemon stops). */
bool compare_end(attempt *self);
/* The progress of both merges as one number. */
double compare_progress(const attempt *self, double progress);
/* Directory of the artifacts to compare with, or -1. */
int compare_artifacts(const attempt *self, int job_fd);

/* ---- export.c ---- */

/* Claims exports while there is room. */
void exports_claim(scheduler *self);
void exports_tick(scheduler *self);

/* ---- files.c ---- */

int files_open(scheduler *self, int state_fd, didi_error *error);
/* Directories without a row go to the trash; rows without files are flagged. */
int files_sweep(scheduler *self, didi_error *error);
void files_empty_trash(scheduler *self);
/* Moves what jobs_fd or kept_fd has of this name to the trash, if it is there. */
void files_throw_away(scheduler *self, int parent_fd, const char *name);
/* jobs/<id>; created if `create`. */
int files_open_job(const scheduler *self, const char *id, bool create, int *ret_fd,
                   didi_error *error);
/* True if artifacts/manifest.json is in the job's directory. */
bool files_are_published(int job_fd);
/* What an interrupted attempt left beside the known directories. */
void files_remove_strays(int job_fd);
/* What a job needs no more once it has succeeded. */
void files_remove_work(int job_fd);
/* Strays and the artifacts; finished layers stay for a retry. */
void files_remove_results(int job_fd);

/* ---- kept.c ---- */

/* Opens kept/<id>, O_DIRECTORY; the caller closes. DIDI_NOT_FOUND with the subject "/from_job" when
 * there is none; on any thread. */
int kept_open(const scheduler *self, const char *id, int *ret_fd, didi_error *error);
/* Keeps what a published job's work directory offers to others, within keep_spectra_bytes; else
 * removes it. Before the job's end is recorded; on any thread. */
void kept_take(scheduler *self, const store_job *job, int job_fd);
/* Removes kept/<id> unless a job needs it. "" is fine; on any thread. */
void kept_release(scheduler *self, const char *id);
/* Makes directories and rows agree, and the sum of them stay below the limit. */
int kept_sweep(scheduler *self, didi_error *error);
