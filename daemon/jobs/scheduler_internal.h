/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the scheduler share. */
#pragma once

#include "daemon/cluster/cluster.h"
#include "daemon/jobs/files.h"
#include "daemon/jobs/pace.h"
#include "daemon/jobs/pool.h"
#include "daemon/jobs/scheduler.h"
#include "daemon/jobs/telemetry.h"

#include <pthread.h>
#include <stdatomic.h>

enum { SCHEDULER_TICK_MILLISECONDS = 200, SCHEDULER_EXPORTS_MAX = 2 };

typedef enum attempt_state {
    ATTEMPT_OPENING,   /* a pool thread opens the models */
    ATTEMPT_RUNNING,   /* its lane is in the pool */
    ATTEMPT_CLOSING,   /* a pool thread frees it and removes what is not needed any more */
    ATTEMPT_RECORDING, /* the store has still to be told; tried at every tick */
    ATTEMPT_LOST,      /* failed, and its lane stays until threads that hang come back, if ever */
} attempt_state;

/* One attempt of one job. */
typedef struct attempt {
    struct attempt *next;
    scheduler *scheduler;
    store_job job;
    attempt_state state;
    didi_merge *merge;
    char *merged;          /* the specification that `merge` was opened by */
    struct remote *remote; /* NULL: all runs here */
    telemetry *telemetry;
    bool cancel;               /* asked for by a user */
    bool waiting;              /* for a disk with room; events say so */
    bool waited;               /* ever */
    atomic_bool upload_end;    /* it is to stop storing: a user's cancel, or the daemon stops */
    atomic_bool upload_cancel; /* it was a user's */
    bool withdrawn;            /* what was published is removed again because of it */
    bool published;            /* an earlier attempt had published already */
    bool resumed;              /* an earlier attempt left work to go on from */
    bool logged;               /* that the store does not take the outcome */
    bool comparing, compared;  /* the full merge for an extension: is `merge`; has ended */
    char reason[DIDI_ERROR_MESSAGE_BYTES_MAX]; /* why there is no comparison */
    store_result result;                       /* of a success */
    int status;                                /* outcome */
    didi_error why;
    pace pace;
    double progress;            /* last one stored */
    uint64_t moves;             /* of items and telemetry, when last looked at */
    bool recorded;              /* of a lost one: the store has been told */
    int64_t still_ms, began_ms; /* since they changed; when the attempt began */
} attempt;

typedef struct export_run export_run; /* one export on its way (export.c) */

struct scheduler {
    uv_loop_t *loop;
    const config *config;
    store *store;
    registry *models;
    cluster *cluster; /* NULL: all runs here */
    pool *pool;
    int jobs_fd, trash_fd, kept_fd, lost_fd;
    struct sweep *sweep;
    pthread_mutex_t kept_lock; /* held from the rename of what is kept until its row is written */
    atomic_size_t set_aside;   /* in lost/ */
    char boot_id[ID_BYTES];
    uv_async_t wake;
    uv_timer_t tick;
    attempt *attempts;
    size_t attempt_count, lost_count; /* lost ones are counted in both */
    atomic_size_t workers_lost;
    int64_t watched_ms;
    export_run *exports;
    size_t export_count, exports_lost; /* lost ones are counted in both */
    atomic_bool stopping;              /* read by exports on pool threads */
    atomic_bool trash_pending;         /* set by any thread */
    bool trash_running;
    bool trash_left; /* objects of it could not be deleted; a pool thread's while trash_running */
    int64_t trash_next_ms; /* when to try again */
    struct storage *storage;
    atomic_bool disk_low; /* less is free than disk_free_min; read by any thread */
    int64_t disk_next_ms; /* when to look at it again */
    bool expiring;        /* a pool thread deletes old jobs */
    int64_t expire_next_ms;
    int64_t clock_apart_ms;    /* wall clock less the monotonic one, at the start */
    bool look;                 /* the store may hold work to claim */
    struct bakery *bakery;     /* bake-offs that have not ended (bakeoff.c) */
    struct scorings *scorings; /* of these (bakeoff_score.c) */
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

/* Tells log and metrics. */
void attempt_log_end(const attempt *self);

/* ---- hang.c ---- */

/* Fails jobs and exports of which nothing has moved for item_seconds_max, and counts the threads
 * lost. */
void hang_tick(scheduler *self);
/* True if an earlier attempt of the job is lost: threads may still write to its directory. */
bool hang_holds(const scheduler *self, const char *id);

/* ---- retention.c ---- */

/* Notes what the clocks say. */
void retention_start(scheduler *self);
/* Looks at the disk and at old jobs when it is time to. */
void retention_tick(scheduler *self);

/* ---- export.c ---- */

/* Claims exports while there is room. */
void exports_claim(scheduler *self);
void exports_tick(scheduler *self);
/* After `gap_ms` more: fails those that hang, and says how many threads are lost to such. */
size_t exports_watch(scheduler *self, int64_t gap_ms);

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
