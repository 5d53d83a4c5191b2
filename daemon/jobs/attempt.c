/* SPDX-License-Identifier: Apache-2.0 */
/* One attempt of one job: opened on a pool thread, run by the pool, closed on a pool thread,
 * recorded. */
#include "daemon/base/base.h"
#include "daemon/jobs/scheduler_internal.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- opening: its models, the job it extends, the one it starts from ---- */

/* The artifacts of the job that this one extends. */
static int open_package(scheduler *self, const specification *wanted, int *ret_fd,
                        didi_error *error)
{
    int status = scheduler_open_files(self, wanted->extend.job, "artifacts", ret_fd, error);
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
        status = open_package(self, wanted, &all.package_fd, error);
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
        places.comparison_fd = compare_artifacts(self, job_fd);
        places.comparison_reason = self->reason[0] != '\0' ? self->reason : NULL;
        /* What an extension found out is of some of its tasks alone. */
        places.keep_work =
            self->scheduler->config->keep_spectra_bytes > 0 && !specification_extends(wanted);
        status =
            scheduler_open_merge(self->scheduler, wanted, &places, &hooks, &self->merge, error);
        file_close(places.comparison_fd);
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

/* On a pool thread: closing may free gigabytes, removing may take long. */
static void close_work(void *context)
{
    attempt *self = context;
    didi_error ignored = {0};
    int job_fd = -1;
    didi_merge_close(self->merge);
    self->merge = NULL;
    bool cancelled = self->cancel && self->status == DIDI_CANCELLED;
    if ((self->status != DIDI_OK && !cancelled) ||
        files_open_job(self->scheduler, self->job.id, false, &job_fd, &ignored) != DIDI_OK)
        return;
    if (cancelled)
        files_remove_results(job_fd);
    else
        kept_take(self->scheduler, &self->job, job_fd);
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
    if (self->status == DIDI_OK)
        return store_job_finish(records, job->id, job->attempt, JOB_SUCCEEDED, NULL, error);
    if (self->status == DIDI_CANCELLED && self->cancel)
        return store_job_finish(records, job->id, job->attempt, JOB_CANCELLED, NULL, error);
    if (self->status == DIDI_CANCELLED && atomic_load(&self->scheduler->stopping))
        return store_job_release(records, job->id, job->attempt, error);
    return store_job_finish(records, job->id, job->attempt, JOB_FAILED, &self->why, error);
}

static void attempt_record(attempt *self)
{
    didi_error error = {0};
    assert(self->state == ATTEMPT_RECORDING);
    telemetry_free(self->telemetry); /* its last point goes before the end */
    self->telemetry = NULL;
    int status = attempt_store_outcome(self, &error);
    if (status != DIDI_OK && status != DIDI_CONFLICT && status != DIDI_NOT_FOUND &&
        !atomic_load(&self->scheduler->stopping)) {
        if (!self->logged)
            log_emit(LOG_LEVEL_ERROR, "cannot record the end of a job; will try again",
                     LOG_TEXT("job", self->job.id), LOG_TEXT("error", error.message));
        self->logged = true;
        return;
    }
    log_emit(self->status == DIDI_OK || self->status == DIDI_CANCELLED ? LOG_LEVEL_INFO
                                                                       : LOG_LEVEL_ERROR,
             "job ended", LOG_TEXT("job", self->job.id), LOG_INTEGER("attempt", self->job.attempt),
             LOG_TEXT("outcome", didi_status_name(self->status)),
             LOG_TEXT("subject", self->why.subject), LOG_TEXT("error", self->why.message),
             LOG_REAL("seconds", (double)(clock_monotonic_ms() - self->began_ms) / 1000.0));
    kept_release(self->scheduler, self->job.from_job);
    attempt_free(self);
}

static void close_after(void *context)
{
    attempt *self = context;
    scheduler *owner = self->scheduler;
    assert(self->state == ATTEMPT_CLOSING && self->merge == NULL);
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
    didi_merge_close(self->merge);
    self->merge = NULL;
    open_work(self);
}

static void open_after(void *context);

static void attempt_finished(void *context)
{
    attempt *self = context;
    assert(self->state == ATTEMPT_RUNNING);
    if (!self->comparing) {
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
        self->state = ATTEMPT_RUNNING;
        self->status = pool_add(owner->pool, self->merge, self->job.priority, attempt_finished,
                                self, &self->why);
        if (self->status != DIDI_OK)
            attempt_close(self);
        else if (self->cancel || atomic_load(&owner->stopping))
            didi_merge_cancel(self->merge);
    }
    owner->advance(owner);
}

int attempt_start(scheduler *owner, store_job *job, didi_error *error)
{
    attempt *self = memory_zeroed(1, sizeof *self);
    assert(job->state == JOB_RUNNING);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->scheduler = owner;
    self->job = *job;
    self->progress = -1;
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
    log_emit(LOG_LEVEL_INFO, "job started", LOG_TEXT("job", self->job.id),
             LOG_INTEGER("attempt", self->job.attempt),
             LOG_INTEGER("priority", self->job.priority));
    return DIDI_OK;
}

void attempts_check_cancel(scheduler *owner)
{
    for (attempt *self = owner->attempts; self != NULL; self = self->next) {
        store_job job = {0};
        didi_error error = {0};
        if (self->cancel || self->state > ATTEMPT_RUNNING)
            continue;
        if (store_job_get(owner->store, self->job.id, &job, &error) == DIDI_OK &&
            job.cancel_requested) {
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
    for (attempt *self = owner->attempts; self != NULL; self = self->next)
        if (self->state == ATTEMPT_RUNNING)
            didi_merge_cancel(self->merge);
}

void attempts_tick(scheduler *owner)
{
    attempt *next = NULL;
    for (attempt *self = owner->attempts; self != NULL; self = next) {
        next = self->next;
        if (self->state == ATTEMPT_RECORDING) {
            attempt_record(self);
        } else if (self->state == ATTEMPT_RUNNING) {
            didi_stage stage = DIDI_STAGE_DIGEST;
            const double progress =
                compare_progress(self, didi_merge_progress(self->merge, &stage));
            if (progress > self->progress) {
                self->progress = progress;
                store_progress_post(owner->store, self->job.id, self->job.attempt,
                                    didi_stage_name(stage), progress);
            }
        }
    }
}
