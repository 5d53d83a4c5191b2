/* SPDX-License-Identifier: Apache-2.0 */
/* One attempt of one job: opened on a pool thread, run by the pool, closed on a pool thread,
 * recorded. */
#include "daemon/base/base.h"
#include "daemon/jobs/compare.h"
#include "daemon/jobs/remote.h"
#include "daemon/jobs/scheduler_internal.h"
#include "daemon/jobs/storage.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- opening: its models, the job it extends, the one it starts from ---- */

/* The artifacts of the job that this one extends. */
static int open_package(scheduler *self, const specification *wanted, bool may_wait, int *ret_fd,
                        didi_error *error)
{
    int status = storage_open_package(self, wanted->extend.job, may_wait, ret_fd, error);
    if (status != DIDI_OK)
        return didi_fail(error, status, "/extend/job",
                         "the artifacts of job %s, which this one extends, cannot be opened: %s",
                         wanted->extend.job, error->message);
    return DIDI_OK;
}

int scheduler_open_merge(scheduler *self, const specification *wanted, const inputs_places *places,
                         const didi_merge_hooks *hooks, didi_merge **ret_merge, didi_error *error)
{
    inputs_places all = *places;
    inputs *opened = NULL;
    assert(places->package_fd < 0 && places->reuse_fd < 0);
    int status = inputs_create(registry_roots(self->models), wanted, &opened, error);
    if (status == DIDI_OK && specification_extends(wanted))
        status = open_package(self, wanted, places->work_fd >= 0, &all.package_fd, error);
    if (status == DIDI_OK && wanted->from_job != NULL)
        status = kept_open(self, wanted->from_job, &all.reuse_fd, error);
    if (status == DIDI_OK)
        status = inputs_open_merge(opened, self->config, &all, hooks, ret_merge, error);
    file_close(all.package_fd);
    file_close(all.reuse_fd);
    inputs_free(opened);
    return status;
}

/* ---- the attempt ---- */

static int attempt_open_merge(attempt *self, int job_fd, int work_fd, didi_error *error)
{
    const didi_merge_hooks hooks = {.context = self->telemetry, .event = telemetry_event};
    inputs_places places = INPUTS_NOWHERE;
    specification *wanted = NULL;
    size_t bytes = strlen(self->job.specification);
    int status = specification_parse(self->job.specification, bytes, bytes, &wanted, error);
    if (status != DIDI_OK)
        return status;
    if (specification_extends(wanted) && wanted->extend.compare && !self->compared)
        compare_open(self, self->job.specification, job_fd);
    if (self->merge == NULL) {
        places.work_fd = work_fd;
        places.output_fd = job_fd;
        places.elsewhere = self->scheduler->cluster != NULL;
        places.comparison_fd = compare_artifacts(self, job_fd);
        places.comparison_reason = self->reason[0] != '\0' ? self->reason : NULL;
        /* What an extension found out is of some of its tasks alone. */
        places.keep_work =
            self->scheduler->config->keep_spectra_bytes > 0 && !specification_extends(wanted);
        status =
            scheduler_open_merge(self->scheduler, wanted, &places, &hooks, &self->merge, error);
        file_close(places.comparison_fd);
        if (status == DIDI_OK && !self->compared) /* which took its own time */
            pace_begin(&self->pace, self->scheduler->store, wanted, didi_merge_plan(self->merge));
    }
    specification_free(wanted);
    return status;
}

/* On a pool thread. */
static void open_work(void *context)
{
    attempt *self = context;
    didi_error *error = &self->why;
    int job_fd = -1;
    int work_fd = -1;
    int status = files_open_job(self->scheduler, self->job.id, true, &job_fd, error);
    if (status != DIDI_OK)
        goto out;
    self->published = files_are_published(job_fd);
    if (self->published)
        goto out;
    files_remove_strays(job_fd);
    status = file_remove_tree(job_fd, "artifacts", error);
    self->resumed = faccessat(job_fd, "work", F_OK, 0) == 0;
    if (status == DIDI_OK && faccessat(job_fd, "work/fingerprint", F_OK, 0) != 0)
        status = remote_end_orders(self->scheduler, self->job.id, job_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(job_fd, "work", 1, &work_fd, error);
    if (status == DIDI_OK)
        status = file_sync(job_fd, "job", error);
    if (status == DIDI_OK)
        status = attempt_open_merge(self, job_fd, work_fd, error);
out:
    self->status = status;
    file_close(work_fd);
    file_close(job_fd);
}

/* A package whose figures cannot be read has succeeded none the less. */
static void read_result(attempt *self, int job_fd)
{
    didi_package_figures found = {.error = NAN, .ratio = NAN};
    uint64_t bytes = 0;
    int fd = -1;
    if (file_open_directory(job_fd, "artifacts", 0, &fd, NULL) == DIDI_OK)
        (void)didi_package_measure(fd, &found, NULL);
    file_close(fd);
    const bool measured = files_measure_artifacts(job_fd, &bytes, NULL) == DIDI_OK;
    self->result =
        (store_result){found.error, found.ratio, found.bytes, measured ? (int64_t)bytes : -1};
}

static void drop_merge(attempt *self)
{
    didi_merge_close(self->merge);
    self->merge = NULL;
    free(self->merged);
    self->merged = NULL;
}

/* On a pool thread: closing may free gigabytes, removing may take long. */
static void close_work(void *context)
{
    attempt *self = context;
    didi_error ignored = {0};
    int job_fd = -1;
    drop_merge(self);
    if (self->status == DIDI_OK && !self->recorded)
        storage_send(self);
    self->withdrawn = self->status == DIDI_CANCELLED && atomic_load(&self->upload_cancel);
    bool cancelled = self->recorded || self->withdrawn ||
                     (self->cancel && self->status == DIDI_CANCELLED); /* or lost */
    if ((self->status != DIDI_OK && !cancelled) ||
        files_open_job(self->scheduler, self->job.id, false, &job_fd, &ignored) != DIDI_OK)
        return;
    if (cancelled) {
        files_remove_results(job_fd);
        (void)storage_delete(self->scheduler, self->scheduler->jobs_fd, self->job.id);
    } else {
        read_result(self, job_fd);
        kept_take(self->scheduler, &self->job, job_fd);
        storage_trim(self->scheduler, self->job.id, job_fd);
    }
    close(job_fd);
}

static void attempt_free(attempt *self)
{
    attempt **link = &self->scheduler->attempts;
    while (*link != self)
        link = &(*link)->next;
    *link = self->next;
    self->scheduler->attempt_count--;
    self->scheduler->look = true;
    telemetry_free(self->telemetry);
    store_job_clear(&self->job);
    free(self);
}

static int attempt_store_outcome(attempt *self, didi_error *error)
{
    store *records = self->scheduler->store;
    const store_job *job = &self->job;
    int status = fault_check(FAULT_FINISH, job->id, error);
    if (status != DIDI_OK)
        return status;
    if (self->status == DIDI_OK)
        return store_job_succeed(records, job->id, job->attempt, &self->result, error);
    if (self->status == DIDI_CANCELLED && self->cancel)
        return store_job_finish(records, job->id, job->attempt, JOB_CANCELLED, NULL, error);
    if (self->status == DIDI_CANCELLED && atomic_load(&self->scheduler->stopping))
        return store_job_release(records, job->id, job->attempt, error);
    return store_job_finish(records, job->id, job->attempt, JOB_FAILED, &self->why, error);
}

/* What later attempts of a job did is not all of its work, and a wait for the disk is none. */
static void attempt_end_telemetry(attempt *self)
{
    double seconds[DIDI_STAGE_COUNT];
    if (self->telemetry == NULL)
        return;
    telemetry_end(self->telemetry, seconds);
    if (self->status == DIDI_OK && self->job.attempt == 1 && !self->published && !self->resumed &&
        !self->waited)
        pace_learn(&self->pace, self->scheduler->store, seconds);
    telemetry_free(self->telemetry);
    self->telemetry = NULL;
}

static void attempt_record(attempt *self)
{
    didi_error error = {0};
    assert(self->state == ATTEMPT_RECORDING);
    attempt_end_telemetry(self); /* its last point goes before the end */
    int status = self->recorded ? DIDI_OK : attempt_store_outcome(self, &error);
    if (status != DIDI_OK && status != DIDI_CONFLICT && status != DIDI_NOT_FOUND &&
        !atomic_load(&self->scheduler->stopping)) {
        if (!self->logged)
            log_emit(LOG_LEVEL_ERROR, "cannot record the end of a job; will try again",
                     LOG_TEXT("job", self->job.id), LOG_TEXT("error", error.message));
        self->logged = true;
        return;
    }
    if (!self->recorded)
        attempt_log_end(self);
    kept_release(self->scheduler, self->job.from_job);
    attempt_free(self);
}

static const char *attempt_trace(const attempt *self)
{
    return self->job.traceparent[0] != '\0' ? self->job.traceparent : NULL;
}

void attempt_log_end(const attempt *self)
{
    log_emit(self->status == DIDI_OK || self->status == DIDI_CANCELLED ? LOG_LEVEL_INFO
                                                                       : LOG_LEVEL_ERROR,
             "job ended", LOG_TEXT("job", self->job.id), LOG_INTEGER("attempt", self->job.attempt),
             LOG_TEXT("outcome", didi_status_name(self->status)),
             LOG_TEXT("subject", self->why.subject), LOG_TEXT("error", self->why.message),
             LOG_REAL("seconds", (double)(clock_monotonic_ms() - self->began_ms) / 1000.0),
             LOG_TEXT("traceparent", attempt_trace(self)));
    metric_observe(METRIC_JOB_RUN_SECONDS,
                   METRIC_LABELS(self->status == DIDI_OK          ? "succeeded"
                                 : self->status == DIDI_CANCELLED ? "cancelled"
                                                                  : "failed"),
                   (double)(clock_monotonic_ms() - self->began_ms) / 1000.0);
}

static void close_after(void *context)
{
    attempt *self = context;
    scheduler *owner = self->scheduler;
    assert(self->state == ATTEMPT_CLOSING && self->merge == NULL);
    self->cancel |= self->withdrawn;
    self->state = ATTEMPT_RECORDING;
    attempt_record(self);
    owner->advance(owner);
}

static void attempt_close(attempt *self)
{
    didi_error error = {0};
    self->state = ATTEMPT_CLOSING;
    if (pool_task(self->scheduler->pool, close_work, close_after, self, &error) != DIDI_OK) {
        close_work(self);
        close_after(self);
    }
}

/* On a pool thread: after the comparison, the merge it is for. */
static void open_second(void *context)
{
    attempt *self = context;
    drop_merge(self);
    open_work(self);
}

static void open_after(void *context);

static void attempt_finished(void *context)
{
    attempt *self = context;
    assert(self->state == ATTEMPT_RUNNING || self->state == ATTEMPT_LOST);
    remote_free(self->remote);
    self->remote = NULL;
    if (self->state == ATTEMPT_LOST) {
        self->scheduler->lost_count--;
        log_emit(LOG_LEVEL_WARNING, "threads that hung are back", LOG_TEXT("job", self->job.id));
        attempt_close(self);
    } else if (!self->comparing) {
        self->status = didi_merge_result(self->merge, &self->why);
        attempt_close(self);
    } else if (!compare_end(self)) {
        attempt_close(self);
    } else {
        self->state = ATTEMPT_OPENING;
        self->status = pool_task(self->scheduler->pool, open_second, open_after, self, &self->why);
        if (self->status != DIDI_OK)
            attempt_close(self);
    }
}

static void open_after(void *context)
{
    attempt *self = context;
    scheduler *owner = self->scheduler;
    assert(self->state == ATTEMPT_OPENING);
    if (self->status != DIDI_OK || self->published) {
        attempt_close(self);
    } else {
        const char *merged = self->merged != NULL ? self->merged : self->job.specification;
        self->state = ATTEMPT_RUNNING;
        if (owner->cluster != NULL)
            self->status = remote_create(self, merged, self->comparing ? "compare/work" : "work",
                                         &self->remote, &self->why);
        if (self->status == DIDI_OK)
            self->status = pool_add(owner->pool, self->merge, self->job.priority, attempt_finished,
                                    self, &self->why);
        if (self->status != DIDI_OK) {
            remote_free(self->remote);
            self->remote = NULL;
            attempt_close(self);
        } else if (self->cancel || atomic_load(&owner->stopping)) {
            didi_merge_cancel(self->merge);
        }
    }
    owner->advance(owner);
}

int attempt_start(scheduler *owner, store_job *job, didi_error *error)
{
    attempt *self = memory_zeroed(1, sizeof *self);
    assert(job->state == JOB_RUNNING);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (hang_holds(owner, job->id)) {
        free(self);
        return didi_fail(error, DIDI_WORKER_LOST, NULL,
                         "a worker still hangs in an earlier attempt; restart the daemon first");
    }
    self->scheduler = owner;
    self->job = *job;
    self->progress = -1;
    self->result = (store_result){.error = NAN, .ratio = NAN, .artifact_bytes = -1};
    self->began_ms = clock_monotonic_ms();
    int status = telemetry_create(owner->store, job, &self->telemetry, error);
    if (status == DIDI_OK)
        status = pool_task(owner->pool, open_work, open_after, self, error);
    if (status != DIDI_OK) {
        telemetry_free(self->telemetry);
        free(self);
        return status;
    }
    memset(job, 0, sizeof *job);
    self->next = owner->attempts;
    owner->attempts = self;
    owner->attempt_count++;
    if (self->job.attempt == 1)
        metric_observe(METRIC_JOB_QUEUE_SECONDS, NULL,
                       (double)(self->job.started_ms - self->job.created_ms) / 1000.0);
    log_emit(LOG_LEVEL_INFO, "job started", LOG_TEXT("job", self->job.id),
             LOG_INTEGER("attempt", self->job.attempt), LOG_INTEGER("priority", self->job.priority),
             LOG_TEXT("traceparent", attempt_trace(self)));
    return DIDI_OK;
}

void attempts_check_cancel(scheduler *owner)
{
    for (attempt *self = owner->attempts; self != NULL; self = self->next) {
        store_job job = {0};
        didi_error error = {0};
        if (self->cancel || self->state > ATTEMPT_CLOSING)
            continue;
        if (store_job_get(owner->store, self->job.id, &job, &error) == DIDI_OK &&
            job.cancel_requested && self->state == ATTEMPT_CLOSING) {
            atomic_store(&self->upload_cancel, true);
            atomic_store(&self->upload_end, true);
        } else if (job.cancel_requested) {
            self->cancel = true;
            log_emit(LOG_LEVEL_INFO, "cancelling", LOG_TEXT("job", self->job.id));
            if (self->state == ATTEMPT_RUNNING)
                didi_merge_cancel(self->merge);
        }
        store_job_clear(&job);
    }
}

void attempts_cancel_all(scheduler *owner)
{
    for (attempt *self = owner->attempts; self != NULL; self = self->next) {
        atomic_store(&self->upload_end, true);
        if (self->state == ATTEMPT_RUNNING)
            didi_merge_cancel(self->merge);
    }
}

/* Tells of a pause between items, and of its end. */
static void tell_waiting(attempt *self)
{
    const bool waits = scheduler_waits_for_disk(self->scheduler);
    char text[128];
    if (waits == self->waiting)
        return;
    self->waiting = waits;
    self->waited = true;
    (void)snprintf(text, sizeof text,
                   waits ? "waits: less than disk_free_min (%llu bytes) is free on the disk"
                         : "goes on: the disk has room again (disk_free_min is %llu bytes)",
                   (unsigned long long)self->scheduler->config->disk_free_min);
    telemetry_note(self->telemetry, text);
}

void attempts_tick(scheduler *owner)
{
    attempt *next = NULL;
    size_t waiting = 0;
    size_t running = 0;
    for (const attempt *self = owner->attempts; self != NULL; self = self->next)
        if (self->remote != NULL)
            remote_count(self->remote, &waiting, &running);
    if (owner->cluster != NULL) {
        metric_set(METRIC_CLUSTER_TASKS, METRIC_LABELS("waiting"), (double)waiting);
        metric_set(METRIC_CLUSTER_TASKS, METRIC_LABELS("running"), (double)running);
    }
    for (attempt *self = owner->attempts; self != NULL; self = next) {
        next = self->next;
        if (self->state == ATTEMPT_RECORDING) {
            attempt_record(self);
        } else if (self->state == ATTEMPT_RUNNING) {
            didi_stage stage = DIDI_STAGE_DIGEST;
            if (self->remote != NULL)
                remote_tick(self->remote);
            tell_waiting(self);
            const double progress =
                compare_progress(self, didi_merge_progress(self->merge, &stage));
            if (progress > self->progress) {
                const store_progress now = {didi_stage_name(stage), progress,
                                            pace_left(&self->pace, progress, clock_seconds())};
                self->progress = progress;
                store_progress_post(owner->store, self->job.id, self->job.attempt, &now);
            }
        }
    }
}
