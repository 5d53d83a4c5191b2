/* SPDX-License-Identifier: Apache-2.0 */
/* Makes directories and rows agree after a start: in steps on the pool, while the daemon serves. No
 * file of a result is removed because a row is missing. */
#include "daemon/jobs/scheduler_internal.h"
#include "daemon/jobs/storage.h"
#include "src/base/base.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SWEEP_STEP_ITEMS = 256 };

/* One after the other. */
typedef enum sweep_stage {
    SWEEP_DELETED,     /* files of jobs that users deleted */
    SWEEP_LOST,        /* counts what was set aside before */
    SWEEP_DIRECTORIES, /* sets aside what has no row */
    SWEEP_ROWS,        /* marks succeeded jobs whose artifacts are gone */
    SWEEP_SIZES,       /* measures artifacts that an older version or a recovery left unmeasured */
    SWEEP_KEPT,        /* spectra that nobody needs */
    SWEEP_DONE,
} sweep_stage;

struct sweep {
    sweep_stage stage;
    bool running;
    DIR *directory;
    char after[ID_BYTES]; /* the last row looked at */
};

static int remove_deleted(void *context, const char *id)
{
    files_remove_deleted(context, id);
    return 0;
}

static int count_lost(void *context, const char *name, didi_error *error)
{
    scheduler *self = context;
    (void)name;
    (void)error;
    atomic_fetch_add(&self->set_aside, 1);
    return DIDI_OK;
}

/* True when there are no more. */
static bool next_directory(scheduler *self, didi_error *error)
{
    store_knowledge known = STORE_JOB_KNOWN;
    errno = 0;
    const struct dirent *entry = readdir(self->sweep->directory);
    if (entry == NULL)
        return true;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        return false;
    if (store_job_known(self->store, entry->d_name, &known, error) != DIDI_OK)
        return true;
    if (known == STORE_JOB_DELETED)
        files_remove_deleted(self, entry->d_name);
    else if (known == STORE_JOB_UNKNOWN)
        files_set_aside(self, entry->d_name);
    return false;
}

static bool sweep_directories(scheduler *self, didi_error *error)
{
    struct sweep *sweep = self->sweep;
    if (sweep->directory == NULL) {
        int fd = openat(self->jobs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        sweep->directory = fd >= 0 ? fdopendir(fd) : NULL;
        if (sweep->directory == NULL) {
            didi_fail_errno(error, errno, "jobs", "cannot list the directories of jobs");
            file_close(fd);
            return true;
        }
    }
    bool done = false;
    for (int i = 0; i < SWEEP_STEP_ITEMS && !done; i++)
        done = next_directory(self, error);
    if (done) {
        closedir(sweep->directory);
        sweep->directory = NULL;
    }
    return done;
}

static void check_row(scheduler *self, const char *id)
{
    didi_error error = {0};
    int fd = -1;
    int status = files_open_job(self, id, false, &fd, &error);
    bool published = status == DIDI_OK && files_are_published(fd);
    if (published)
        storage_trim(self, id, fd);
    file_close(fd);
    if (published || (status != DIDI_OK && status != DIDI_NOT_FOUND))
        return;
    status = store_job_fail_lost(self->store, id, "the artifacts are gone from the state directory",
                                 &error);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_ERROR, "the artifacts of a job are gone", LOG_TEXT("job", id));
    else if (status != DIDI_NOT_FOUND && status != DIDI_CONFLICT)
        log_emit(LOG_LEVEL_ERROR, "cannot mark a job whose artifacts are gone", LOG_TEXT("job", id),
                 LOG_TEXT("error", error.message));
}

/* Takes the ids that a step has looked at; true when there are no more. */
static bool step_ends(struct sweep *self, char (*ids)[ID_BYTES], size_t count)
{
    if (count > 0)
        memcpy(self->after, ids[count - 1], ID_BYTES);
    free(ids);
    return count < SWEEP_STEP_ITEMS;
}

static bool sweep_rows(scheduler *self, didi_error *error)
{
    char(*ids)[ID_BYTES] = NULL;
    size_t count = 0;
    if (store_job_ids(self->store, JOB_SUCCEEDED, self->sweep->after, SWEEP_STEP_ITEMS, &ids,
                      &count, error) != DIDI_OK)
        return true;
    for (size_t i = 0; i < count; i++)
        check_row(self, ids[i]);
    return step_ends(self->sweep, ids, count);
}

/* What cannot be measured now is left for another start. */
static int measure_row(scheduler *self, const char *id, didi_error *error)
{
    didi_error unmeasured = {0};
    uint64_t bytes = 0;
    int fd = -1;
    int status = files_open_job(self, id, false, &fd, error);
    if (status == DIDI_NOT_FOUND)
        return DIDI_OK;
    if (status != DIDI_OK)
        return status;
    if (files_measure_artifacts(fd, &bytes, &unmeasured) == DIDI_OK)
        status = store_artifacts_measured(self->store, id, bytes, error);
    else
        log_emit(LOG_LEVEL_WARNING, "cannot measure artifacts", LOG_TEXT("job", id),
                 LOG_TEXT("error", unmeasured.message));
    close(fd);
    return status;
}

static bool sweep_sizes(scheduler *self, didi_error *error)
{
    char(*ids)[ID_BYTES] = NULL;
    size_t count = 0;
    int status = store_artifacts_unmeasured(self->store, self->sweep->after, SWEEP_STEP_ITEMS, &ids,
                                            &count, error);
    if (status != DIDI_OK)
        return true;
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        status = measure_row(self, ids[i], error);
    return step_ends(self->sweep, ids, count) || status != DIDI_OK;
}

/* One step of the stage; true when the stage is over, well or not. */
static bool sweep_step(scheduler *self, didi_error *error)
{
    switch (self->sweep->stage) {
    case SWEEP_DELETED:
        (void)store_each_deleted_job(self->store, remove_deleted, self, error);
        return true;
    case SWEEP_LOST:
        (void)file_each_entry(self->lost_fd, count_lost, self, error);
        return true;
    case SWEEP_DIRECTORIES:
        return sweep_directories(self, error);
    case SWEEP_ROWS:
        return sweep_rows(self, error);
    case SWEEP_SIZES:
        return sweep_sizes(self, error);
    case SWEEP_KEPT:
        (void)kept_sweep(self, error);
        return true;
    case SWEEP_DONE:
        break;
    }
    return true;
}

static void sweep_work(void *context)
{
    scheduler *self = context;
    didi_error error = {0};
    if (atomic_load(&self->stopping) || !sweep_step(self, &error))
        return;
    if (error.status != DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "the state directory could not be looked through",
                 LOG_TEXT("error", error.message));
    self->sweep->stage++;
    self->sweep->after[0] = '\0';
}

static void sweep_after(void *context)
{
    scheduler *self = context;
    self->sweep->running = false;
    if (self->sweep->stage == SWEEP_DONE)
        log_emit(LOG_LEVEL_INFO, "the state directory was looked through",
                 LOG_INTEGER("set_aside", scheduler_set_aside(self)));
    self->advance(self);
}

int sweep_create(scheduler *self, didi_error *error)
{
    self->sweep = memory_zeroed(1, sizeof *self->sweep);
    return self->sweep != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

void sweep_free(scheduler *self)
{
    if (self->sweep != NULL && self->sweep->directory != NULL)
        closedir(self->sweep->directory);
    free(self->sweep);
    self->sweep = NULL;
}

void sweep_continue(scheduler *self)
{
    struct sweep *sweep = self->sweep;
    didi_error error = {0};
    if (sweep->running || sweep->stage == SWEEP_DONE)
        return;
    sweep->running = pool_task(self->pool, sweep_work, sweep_after, self, &error) == DIDI_OK;
}
