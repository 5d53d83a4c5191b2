/* SPDX-License-Identifier: Apache-2.0 */
/* What keeps the disk from filling: a floor of free bytes below which nothing starts or goes on,
 * and old jobs deleted in the background. */
#include "daemon/base/base.h"
#include "daemon/jobs/scheduler_internal.h"
#include "src/base/base.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

enum {
    DISK_LOOK_MILLISECONDS = 2000,
    DISK_AGAIN_PART = 16, /* of disk_free_min, that must be free beyond it before jobs go on */
    EXPIRE_MILLISECONDS = 10000,
    EXPIRE_STEP_MAX = 50, /* jobs deleted at a time */
};

#define DAY_MILLISECONDS (INT64_C(24) * 60 * 60 * 1000)

static void disk_look(scheduler *self)
{
    struct statvfs disk;
    bool was_low = atomic_load(&self->disk_low);
    if (fstatvfs(self->jobs_fd, &disk) != 0) {
        log_emit(LOG_LEVEL_ERROR, "cannot look at the disk", LOG_TEXT("error", strerror(errno)));
        return;
    }
    const uint64_t floor = self->config->disk_free_min;
    const uint64_t left = memory_multiply(disk.f_bavail, disk.f_frsize);
    const uint64_t wanted = was_low ? memory_add(floor, floor / DISK_AGAIN_PART) : floor;
    const bool low = left < wanted;
    metric_set(METRIC_DISK_WAITING, NULL, low);
    if (low == was_low)
        return;
    atomic_store(&self->disk_low, low);
    self->look = true;
    pool_pause(self->pool, low);
    log_emit(low ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
             low ? "the disk is nearly full; jobs wait" : "the disk has room again",
             LOG_INTEGER("free", left), LOG_INTEGER("disk_free_min", floor));
}

bool scheduler_waits_for_disk(const scheduler *self)
{
    return atomic_load(&self->disk_low);
}

void retention_start(scheduler *self)
{
    self->clock_apart_ms = clock_apart_ms();
    disk_look(self);
}

/* What ended before that is older than so many days; 0: nothing is. */
static int64_t days_ago(const scheduler *self, uint64_t days)
{
    if (days == 0 || clock_was_set(self->clock_apart_ms))
        return INT64_MIN;
    return clock_now_ms() - (int64_t)days * DAY_MILLISECONDS;
}

static void expire_jobs(scheduler *self)
{
    const config *settings = self->config;
    const int64_t before_ms = days_ago(self, settings->keep_jobs_days);
    bool found = true;
    if (settings->keep_jobs_days == 0 && settings->keep_jobs_max == 0)
        return;
    for (size_t i = 0; i < EXPIRE_STEP_MAX && !atomic_load(&self->stopping); i++) {
        char id[ID_BYTES] = {0};
        didi_error error = {0};
        int status = store_job_to_expire(self->store, before_ms, settings->keep_jobs_max, id,
                                         &found, &error);
        if (status == DIDI_OK && !found)
            return;
        if (status == DIDI_OK)
            status = scheduler_job_delete(self, id, &error);
        if (status != DIDI_OK) {
            log_emit(LOG_LEVEL_WARNING, "cannot delete an old job", LOG_TEXT("job", id),
                     LOG_TEXT("error", error.message));
            return;
        }
        log_emit(LOG_LEVEL_INFO, "an old job is deleted", LOG_TEXT("job", id));
    }
}

static void thin_events(scheduler *self)
{
    const int64_t before_ms = days_ago(self, self->config->keep_events_days);
    bool found = before_ms != INT64_MIN;
    for (size_t i = 0; found && i < EXPIRE_STEP_MAX && !atomic_load(&self->stopping); i++) {
        char id[ID_BYTES] = {0};
        didi_error error = {0};
        if (store_events_thin(self->store, before_ms, id, &found, &error) != DIDI_OK)
            log_emit(LOG_LEVEL_WARNING, "cannot drop old events", LOG_TEXT("error", error.message));
        else if (found)
            log_emit(LOG_LEVEL_INFO, "events of an old job are dropped", LOG_TEXT("job", id));
    }
}

/* On a pool thread. */
static void expire_work(void *context)
{
    scheduler *self = context;
    expire_jobs(self);
    thin_events(self);
}

static void expire_after(void *context)
{
    scheduler *self = context;
    self->expiring = false;
    self->advance(self);
}

void retention_tick(scheduler *self)
{
    const config *settings = self->config;
    int64_t now = clock_monotonic_ms();
    didi_error error = {0};
    if (now >= self->disk_next_ms) {
        self->disk_next_ms = now + DISK_LOOK_MILLISECONDS;
        disk_look(self);
    }
    const bool wanted = settings->keep_jobs_days > 0 || settings->keep_jobs_max > 0 ||
                        settings->keep_events_days > 0;
    if (!wanted || self->expiring || now < self->expire_next_ms || atomic_load(&self->stopping))
        return;
    self->expire_next_ms = now + EXPIRE_MILLISECONDS;
    self->expiring = pool_task(self->pool, expire_work, expire_after, self, &error) == DIDI_OK;
}
