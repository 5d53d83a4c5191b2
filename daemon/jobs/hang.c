/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs and exports that hang: a thread cannot be taken back, but what it works on can fail, and
 * others go on. */
#include "daemon/base/base.h"
#include "daemon/jobs/scheduler_internal.h"
#include "src/base/base.h"

#include <string.h>

/* Of one look: a process that was stopped and goes on has not been watched meanwhile. */
enum { HANG_GAP_MILLISECONDS = 2000 };

bool hang_holds(const scheduler *self, const char *id)
{
    for (const attempt *other = self->attempts; other != NULL; other = other->next)
        if (other->state == ATTEMPT_LOST && strcmp(other->job.id, id) == 0)
            return true;
    return false;
}

size_t scheduler_workers_lost(const scheduler *self)
{
    return atomic_load(&self->workers_lost);
}

/* True when nothing of the attempt has moved for as long as is allowed. */
static bool hangs(attempt *self, int64_t gap_ms)
{
    const uint64_t seconds = self->scheduler->config->item_seconds_max;
    uint64_t moves = 0;
    size_t items = pool_items(self->scheduler->pool, self->merge, &moves);
    moves += telemetry_moves(self->telemetry);
    self->still_ms = items == 0 || moves != self->moves ? 0 : self->still_ms + gap_ms;
    self->moves = moves;
    return seconds > 0 && self->still_ms >= (int64_t)seconds * 1000;
}

/* Its merge and telemetry stay: threads that hang still use them. */
static void lose(attempt *self)
{
    self->state = ATTEMPT_LOST;
    self->scheduler->lost_count++;
    self->scheduler->look = true;
    self->status = didi_fail(&self->why, DIDI_WORKER_LOST, NULL,
                             "no item ended and no telemetry came for item_seconds_max (%llu s)",
                             (unsigned long long)self->scheduler->config->item_seconds_max);
    didi_merge_cancel(self->merge);
    didi_merge_recall_helpers(self->merge);
}

/* Tried at every tick until the store takes it. */
static void record(attempt *self)
{
    didi_error error = {0};
    int status = store_job_finish(self->scheduler->store, self->job.id, self->job.attempt,
                                  JOB_FAILED, &self->why, &error);
    if (status != DIDI_OK && status != DIDI_CONFLICT && status != DIDI_NOT_FOUND) {
        if (!self->logged)
            log_emit(LOG_LEVEL_ERROR, "cannot record the end of a job; will try again",
                     LOG_TEXT("job", self->job.id), LOG_TEXT("error", error.message));
        self->logged = true;
        return;
    }
    self->recorded = true;
    attempt_log_end(self);
}

void hang_tick(scheduler *self)
{
    const int64_t now = clock_monotonic_ms();
    int64_t gap_ms = self->watched_ms > 0 ? now - self->watched_ms : 0;
    size_t lost = 0;
    gap_ms = gap_ms < HANG_GAP_MILLISECONDS ? gap_ms : HANG_GAP_MILLISECONDS;
    self->watched_ms = now;
    for (attempt *one = self->attempts; one != NULL; one = one->next) {
        uint64_t moves = 0;
        if (one->state == ATTEMPT_RUNNING && !atomic_load(&self->stopping) && hangs(one, gap_ms))
            lose(one);
        if (one->state != ATTEMPT_LOST)
            continue;
        if (!one->recorded)
            record(one);
        lost += pool_items(self->pool, one->merge, &moves);
    }
    lost += exports_watch(self, gap_ms);
    atomic_store(&self->workers_lost, lost);
    metric_set(METRIC_WORKERS_LOST, NULL, (double)lost);
}
