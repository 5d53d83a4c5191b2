/* SPDX-License-Identifier: Apache-2.0 */
/* Exports: one pool task each; the row is the truth, a file without its row is made
 * again. */
#include "daemon/jobs/export.h"

#include "daemon/jobs/scheduler_internal.h"
#include "daemon/jobs/storage.h"
#include "src/base/base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct export_run {
    struct export_run *next;
    scheduler *scheduler;
    store_export row;
    export_kind kind;
    char *base;
    int status;
    didi_error why;
    uint64_t bytes;
    bool recording;      /* over, and the store has still to be told */
    bool recorded;       /* it has been */
    bool returned;       /* no pool thread has it */
    atomic_ullong moves; /* counted by the pool thread, from its first on */
    uint64_t seen_moves; /* when last looked at */
    int64_t still_ms;    /* since they changed */
    atomic_bool lost;    /* failed because nothing moves; its thread may come back */
};

/* Opens the folder of a format below `parent_fd`. */
static int open_folder(int parent_fd, const char *folder, int *ret_fd, didi_error *error)
{
    int status = file_open_directory(parent_fd, folder, 1, ret_fd, error);
    return status == DIDI_OK ? file_sync(parent_fd, "exports", error) : status;
}

/* The task's model may have gone since it was merged: -1. */
static int open_source(const model_roots *roots, const didi_export *wanted, int *ret_fd,
                       didi_error *error)
{
    char *model = NULL;
    int status = didi_export_source(wanted->artifact_fd, wanted->task, &model, error);
    if (status == DIDI_OK)
        status = model_roots_open_model(roots, model, ret_fd, error);
    free(model);
    return status == DIDI_NOT_FOUND || status == DIDI_INVALID ? DIDI_OK : status;
}

typedef struct tally {
    int directory_fd;
    uint64_t bytes;
} tally;

static int count_bytes(void *context, const char *name, didi_error *error)
{
    tally *self = context;
    struct stat found;
    if (fstatat(self->directory_fd, name, &found, AT_SYMLINK_NOFOLLOW) != 0)
        return didi_fail_errno(error, errno, name, "cannot stat");
    self->bytes += (uint64_t)found.st_size;
    return DIDI_OK;
}

static int tally_model(int models_fd, const char *task, uint64_t *ret_bytes, didi_error *error)
{
    tally all = {.directory_fd = -1};
    int status = file_open_directory(models_fd, task, 0, &all.directory_fd, error);
    if (status == DIDI_OK)
        status = file_each_entry(all.directory_fd, count_bytes, &all, error);
    file_close(all.directory_fd);
    if (status == DIDI_OK)
        *ret_bytes = all.bytes;
    return status;
}

static int export_model(const model_roots *roots, didi_export wanted, uint64_t *ret_bytes,
                        didi_error *error)
{
    wanted.task_fd = -1;
    int status = open_source(roots, &wanted, &wanted.task_fd, error);
    if (status == DIDI_OK)
        status = didi_export_full(&wanted, error);
    if (status == DIDI_OK)
        status = tally_model(wanted.output_fd, wanted.task, ret_bytes, error);
    file_close(wanted.task_fd);
    return status;
}

static int export_adapter(const didi_export *wanted, export_kind kind, uint64_t *ret_bytes,
                          didi_error *error)
{
    const didi_adapter_options options = {.exact = kind.format == EXPORT_FORMAT_PEFT_EXACT,
                                          .max_rank = kind.max_rank,
                                          .as_packaged = true};
    didi_adapter_report report = {0};
    int status = didi_export_adapter(wanted, &options, &report, error);
    if (status == DIDI_OK)
        *ret_bytes = report.bytes;
    return status;
}

int export_task(const model_roots *roots, export_kind kind, didi_export wanted, uint64_t *ret_bytes,
                didi_error *error)
{
    uint64_t bytes = 0;
    int parent_fd = wanted.output_fd;
    wanted.base_fd = wanted.output_fd = -1;
    wanted.links = model_roots_bounds(roots);
    int status = model_roots_open_model(roots, wanted.base_label, &wanted.base_fd, error);
    if (status == DIDI_OK)
        status =
            open_folder(parent_fd, export_format_folder(kind.format), &wanted.output_fd, error);
    if (status == DIDI_OK && kind.format == EXPORT_FORMAT_FULL)
        status = export_model(roots, wanted, &bytes, error);
    else if (status == DIDI_OK && kind.format == EXPORT_FORMAT_ROUTER)
        status = didi_export_router(&wanted, kind.max_rank, &bytes, error);
    else if (status == DIDI_OK)
        status = export_adapter(&wanted, kind, &bytes, error);
    if (status == DIDI_OK && ret_bytes != NULL)
        *ret_bytes = bytes;
    file_close(wanted.output_fd);
    file_close(wanted.base_fd);
    return status;
}

static int export_cancelled(void *context)
{
    export_run *self = context;
    atomic_fetch_add(&self->moves, 1);
    return atomic_load(&self->scheduler->stopping) || atomic_load(&self->lost) ||
           scheduler_waits_for_disk(self->scheduler);
}

/* The room that an export needs is what it would take from the floor: it does not wait there. */
static int export_fills_disk(const scheduler *owner, didi_error *error)
{
    return didi_fail(error, DIDI_DISK_FULL, NULL,
                     "less than disk_free_min (%llu bytes) was left on the disk; free space and "
                     "ask again",
                     (unsigned long long)owner->config->disk_free_min);
}

static int export_write(export_run *self, int job_fd, didi_error *error)
{
    didi_export order = {.artifact_fd = -1,
                         .output_fd = -1,
                         .task_fd = -1,
                         .base_label = self->base,
                         .task = self->row.task,
                         .max_shard_bytes = self->scheduler->config->max_shard_bytes,
                         .verify_base = true,
                         .cancelled = export_cancelled,
                         .context = self};
    int status =
        storage_open_package(self->scheduler, self->row.job_id, true, &order.artifact_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(job_fd, "exports", 1, &order.output_fd, error);
    if (status == DIDI_OK)
        status = file_sync(job_fd, "job", error);
    if (status == DIDI_OK)
        status = export_task(registry_roots(self->scheduler->models), self->kind, order,
                             &self->bytes, error);
    file_close(order.output_fd);
    file_close(order.artifact_fd);
    return status;
}

/* On a pool thread. */
static void export_work(void *context)
{
    export_run *self = context;
    store_job job = {0};
    int job_fd = -1;
    atomic_fetch_add(&self->moves, 1);
    self->kind = (export_kind){export_format_find(self->row.format), self->row.max_rank};
    int status = store_job_get(self->scheduler->store, self->row.job_id, &job, &self->why);
    if (status == DIDI_OK) {
        self->base = job.base;
        job.base = NULL;
        status = files_open_job(self->scheduler, self->row.job_id, false, &job_fd, &self->why);
    }
    if (status == DIDI_OK)
        status = export_write(self, job_fd, &self->why);
    if (status == DIDI_CANCELLED && !atomic_load(&self->scheduler->stopping) &&
        !atomic_load(&self->lost))
        status = export_fills_disk(self->scheduler, &self->why);
    file_close(job_fd);
    store_job_clear(&job);
    self->status = status;
}

static int export_hangs(const scheduler *owner, didi_error *error)
{
    return didi_fail(error, DIDI_WORKER_LOST, NULL,
                     "the export made no progress for item_seconds_max (%llu s)",
                     (unsigned long long)owner->config->item_seconds_max);
}

static void export_free(export_run *self)
{
    export_run **link = &self->scheduler->exports;
    while (*link != self)
        link = &(*link)->next;
    *link = self->next;
    self->scheduler->export_count--;
    self->scheduler->exports_lost -= atomic_load(&self->lost);
    self->scheduler->look = true;
    free(self->row.error_status);
    free(self->row.error_message);
    free(self->base);
    free(self);
}

/* Tells the store how it ended, unless it knows. False: again at the next tick. */
static bool export_tell(export_run *self, int outcome, uint64_t bytes, const didi_error *why)
{
    scheduler *owner = self->scheduler;
    bool stopping = atomic_load(&owner->stopping);
    didi_error error = {0};
    int status = DIDI_OK;
    assert(self->recording);
    if (self->recorded)
        return true;
    if (outcome == DIDI_CANCELLED && stopping)
        status = store_export_release(owner->store, self->row.id, &error);
    else
        status = store_export_finish(owner->store, self->row.id,
                                     outcome == DIDI_OK ? EXPORT_SUCCEEDED : EXPORT_FAILED, bytes,
                                     why, &error);
    if (status != DIDI_OK && status != DIDI_CONFLICT && !stopping)
        return false;
    self->recorded = true;
    log_emit(outcome == DIDI_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "export ended",
             LOG_TEXT("job", self->row.job_id), LOG_TEXT("task", self->row.task),
             LOG_TEXT("format", self->row.format), LOG_TEXT("outcome", didi_status_name(outcome)),
             LOG_TEXT("error", outcome == DIDI_OK ? "" : why->message));
    return true;
}

/* What the pool thread of a lost one finds counts no more, and may not be read before it is back.
 */
static void export_record(export_run *self)
{
    didi_error hung = {0};
    bool told = false;
    if (atomic_load(&self->lost))
        told = export_tell(self, export_hangs(self->scheduler, &hung), 0, &hung);
    else
        told = export_tell(self, self->status, self->bytes, &self->why);
    if (told && self->returned)
        export_free(self);
}

static void export_after(void *context)
{
    export_run *self = context;
    scheduler *owner = self->scheduler;
    self->recording = self->returned = true;
    export_record(self);
    owner->advance(owner);
}

/* ---- what hangs ---- */

/* A thread may still write where this one would. */
static bool export_is_held(const export_run *self)
{
    for (const export_run *other = self->scheduler->exports; other != NULL; other = other->next)
        if (atomic_load(&other->lost) && strcmp(other->row.id, self->row.id) == 0)
            return true;
    return false;
}

size_t exports_watch(scheduler *owner, int64_t gap_ms)
{
    const uint64_t seconds = owner->config->item_seconds_max;
    export_run *next = NULL;
    size_t lost = 0;
    for (export_run *self = owner->exports; self != NULL; self = next) {
        const uint64_t moves = atomic_load(&self->moves);
        bool runs = moves > 0 && !self->recording && !atomic_load(&owner->stopping);
        next = self->next;
        self->still_ms = runs && moves == self->seen_moves ? self->still_ms + gap_ms : 0;
        self->seen_moves = moves;
        if (runs && seconds > 0 && self->still_ms >= (int64_t)seconds * 1000) {
            atomic_store(&self->lost, true);
            owner->exports_lost++;
            owner->look = self->recording = true;
            export_record(self);
        }
        lost += atomic_load(&self->lost);
    }
    return lost;
}

static int export_start(export_run *self)
{
    if (export_is_held(self))
        self->status = didi_fail(&self->why, DIDI_WORKER_LOST, NULL,
                                 "an earlier attempt of this export still hangs in a worker; "
                                 "restart the daemon and ask again");
    else
        self->status =
            pool_task(self->scheduler->pool, export_work, export_after, self, &self->why);
    return self->status;
}

void exports_claim(scheduler *owner)
{
    bool found = true;
    while (found && owner->export_count - owner->exports_lost < SCHEDULER_EXPORTS_MAX) {
        didi_error error = {0};
        export_run *self = memory_zeroed(1, sizeof *self);
        if (self == NULL)
            return;
        if (store_export_claim(owner->store, &self->row, &found, &error) != DIDI_OK || !found) {
            free(self);
            return;
        }
        self->scheduler = owner;
        self->next = owner->exports;
        owner->exports = self;
        owner->export_count++;
        if (export_start(self) != DIDI_OK) {
            self->recording = self->returned = true;
            return;
        }
    }
}

void exports_tick(scheduler *owner)
{
    export_run *next = NULL;
    for (export_run *self = owner->exports; self != NULL; self = next) {
        next = self->next;
        if (self->recording)
            export_record(self);
    }
}
