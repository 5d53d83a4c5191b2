/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler: on the loop thread, woken by the edge, claims what waits and keeps the pool busy.
 *
 * It writes to the store itself when a job or export begins or ends: a few milliseconds each, while
 * requests are served by the edge's own threads. Telemetry does not wait. */
#include "daemon/jobs/scheduler.h"

#include "daemon/base/base.h"
#include "daemon/jobs/bakeoff_internal.h"
#include "daemon/jobs/scheduler_internal.h"
#include "daemon/jobs/storage.h"
#include "src/base/base.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>

/* The lowest priority that may start now. When all places are taken, jobs more urgent than all that
 * run get as many again: they need not wait for the end of what they will overtake. */
static int claim_priority(const scheduler *self)
{
    int highest = INT_MIN;
    if (self->attempt_count - self->lost_count < self->config->running_jobs_max)
        return INT_MIN;
    for (const attempt *other = self->attempts; other != NULL; other = other->next)
        if (other->state != ATTEMPT_LOST && other->job.priority > highest)
            highest = other->job.priority;
    return highest + 1;
}

static void jobs_claim(scheduler *self)
{
    bool found = true;
    while (found && self->attempt_count - self->lost_count < 2 * self->config->running_jobs_max) {
        didi_error error = {0};
        store_job job = {0};
        int status = store_job_claim(self->store, claim_priority(self), &job, &found, &error);
        if (status == DIDI_OK && found && job.id[0] != '\0') {
            status = attempt_start(self, &job, &error);
            if (status != DIDI_OK) {
                didi_error ignored = {0};
                store_job_finish(self->store, job.id, job.attempt, JOB_FAILED, &error, &ignored);
                store_job_clear(&job);
            }
        }
        if (status != DIDI_OK) {
            log_emit(LOG_LEVEL_ERROR, "cannot start a job; will try again",
                     LOG_TEXT("error", error.message));
            self->look = true;
            return;
        }
    }
}

static void on_closed(uv_handle_t *handle)
{
    scheduler *self = handle->data;
    if (--self->handles_open == 0)
        self->done(self->done_context);
}

static void scheduler_finish_stop(scheduler *self)
{
    if (self->attempt_count > 0 || self->export_count > 0 || pool_in_flight(self->pool) > 0 ||
        !bakery_is_idle(self) || self->handles_open != 2 ||
        uv_is_closing((uv_handle_t *)&self->wake))
        return;
    uv_timer_stop(&self->tick);
    uv_close((uv_handle_t *)&self->wake, on_closed);
    uv_close((uv_handle_t *)&self->tick, on_closed);
}

static void scheduler_continue(scheduler *self)
{
    if (atomic_load(&self->stopping)) {
        pool_pump(self->pool);
        scheduler_finish_stop(self);
        return;
    }
    files_empty_trash(self);
    sweep_continue(self);
    if (self->look) {
        self->look = false;
        if (!atomic_load(&self->disk_low)) {
            jobs_claim(self);
            exports_claim(self);
        }
        bakery_look(self);
    }
    pool_pump(self->pool);
}

static void on_wake(uv_async_t *handle)
{
    scheduler *self = handle->data;
    self->look = true;
    attempts_check_cancel(self);
    scorings_check_cancel(self);
    scheduler_continue(self);
}

static void on_tick(uv_timer_t *handle)
{
    scheduler *self = handle->data;
    attempts_tick(self);
    hang_tick(self);
    exports_tick(self);
    retention_tick(self);
    storage_tick(self);
    bakery_tick(self);
    scheduler_continue(self);
}

void scheduler_wake(scheduler *self)
{
    uv_async_send(&self->wake);
}

static int scheduler_recover(scheduler *self, didi_error *error)
{
    size_t count = 0;
    if (id_next(clock_now_ms(), NULL, self->boot_id) != 0)
        return didi_fail(error, DIDI_IO, NULL, "the kernel gives no random bytes");
    int status = store_each_cancelled_run(self->store, files_unpublish, self, error);
    if (status == DIDI_OK)
        status = store_boot(self->store, self->boot_id, &count, error);
    if (status != DIDI_OK)
        return status;
    if (count > 0)
        log_emit(LOG_LEVEL_WARNING, "jobs of an interrupted process go on",
                 LOG_INTEGER("jobs", count));
    atomic_store(&self->trash_pending, true);
    return sweep_create(self, error);
}

int scheduler_create(uv_loop_t *loop, const config *settings, store *records, registry *models,
                     int state_fd, scheduler **ret_scheduler, didi_error *error)
{
    scheduler *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->loop = loop;
    self->config = settings;
    self->store = records;
    self->models = models;
    self->jobs_fd = self->trash_fd = self->kept_fd = self->lost_fd = -1;
    pthread_mutex_init(&self->kept_lock, NULL);
    self->look = true;
    self->advance = scheduler_continue;
    int status = cluster_create(settings, &self->cluster, error);
    if (status == DIDI_OK)
        status = files_open(self, state_fd, error);
    if (status == DIDI_OK)
        status = storage_create(self, error);
    if (status == DIDI_OK)
        status = scheduler_recover(self, error);
    if (status == DIDI_OK)
        status = bakery_create(self, state_fd, error);
    if (status == DIDI_OK)
        status = pool_create(loop, settings->workers, settings->memory_limit, &self->pool, error);
    if (status == DIDI_OK && uv_async_init(loop, &self->wake, on_wake) != 0)
        status = didi_fail(error, DIDI_IO, NULL, "cannot create the scheduler's wake-up");
    if (status != DIDI_OK) {
        scheduler_free(self);
        return status;
    }
    retention_start(self);
    uv_timer_init(loop, &self->tick);
    self->wake.data = self->tick.data = self;
    self->handles_open = 2;
    uv_timer_start(&self->tick, on_tick, 0, SCHEDULER_TICK_MILLISECONDS);
    *ret_scheduler = self;
    return DIDI_OK;
}

void scheduler_stop(scheduler *self, void (*done)(void *context), void *context)
{
    assert(done != NULL && !atomic_load(&self->stopping));
    self->done = done;
    self->done_context = context;
    atomic_store(&self->stopping, true);
    attempts_cancel_all(self);
    pool_recall_helpers(self->pool);
    scheduler_continue(self);
}

void scheduler_free(scheduler *self)
{
    if (self == NULL)
        return;
    assert(self->attempt_count == 0 && self->export_count == 0);
    pool_free(self->pool);
    file_close(self->jobs_fd);
    file_close(self->trash_fd);
    file_close(self->kept_fd);
    file_close(self->lost_fd);
    sweep_free(self);
    bakery_free(self);
    storage_free(self);
    cluster_free(self->cluster);
    pthread_mutex_destroy(&self->kept_lock);
    free(self);
}

/* The store has taken something that may be new work. */
static int woken(scheduler *self, int status)
{
    if (status == DIDI_OK)
        scheduler_wake(self);
    return status;
}

int scheduler_job_cancel(scheduler *self, const char *id, didi_error *error)
{
    return woken(self, store_job_cancel(self->store, id, error));
}

int scheduler_job_delete(scheduler *self, const char *id, didi_error *error)
{
    int status = store_job_delete(self->store, id, error);
    if (status != DIDI_OK)
        return status;
    files_remove_deleted(self, id); /* after a crash here, at the next start */
    kept_release(self, id);
    scheduler_wake(self);
    return DIDI_OK;
}

int scheduler_job_retry(scheduler *self, const char *id, didi_error *error)
{
    return woken(self, store_job_retry(self->store, id, self->config->artifact_bytes_max, error));
}

int scheduler_export_request(scheduler *self, const char *job_id, export_kind kind,
                             const char *const *tasks, size_t task_count, didi_error *error)
{
    return woken(self, store_export_request(self->store, job_id, export_format_name(kind.format),
                                            kind.max_rank, tasks, task_count, error));
}
