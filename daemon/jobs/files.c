/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of jobs: opened, swept, thrown away. */
#include "daemon/jobs/scheduler_internal.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int files_open(scheduler *self, int state_fd, didi_error *error)
{
    int status = file_open_directory(state_fd, "jobs", 1, &self->jobs_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(state_fd, "trash", 1, &self->trash_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(state_fd, "kept", 1, &self->kept_fd, error);
    if (status == DIDI_OK)
        status = file_sync(state_fd, "state directory", error);
    return status;
}

int files_open_job(const scheduler *self, const char *id, bool create, int *ret_fd,
                   didi_error *error)
{
    int status = file_open_directory(self->jobs_fd, id, create, ret_fd, error);
    if (status == DIDI_OK && create) {
        status = file_sync(self->jobs_fd, "jobs", error);
        if (status != DIDI_OK)
            close(*ret_fd);
    }
    return status;
}

bool files_are_published(int job_fd)
{
    struct stat found;
    return fstatat(job_fd, "artifacts/manifest.json", &found, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(found.st_mode);
}

static int remove_stray(void *context, const char *name, didi_error *error)
{
    static const char *const ours[] = {"artifacts", "compare", "exports", "work"};
    const int *job_fd = context;
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (strcmp(name, ours[i]) == 0)
            return DIDI_OK;
    (void)file_remove_tree(*job_fd, name, error);
    return DIDI_OK;
}

void files_remove_strays(int job_fd)
{
    didi_error ignored = {0};
    (void)file_each_entry(job_fd, remove_stray, &job_fd, &ignored);
}

void files_remove_results(int job_fd)
{
    didi_error ignored = {0};
    files_remove_strays(job_fd);
    file_remove_tree(job_fd, "artifacts", &ignored);
}

void files_remove_work(int job_fd)
{
    didi_error ignored = {0};
    file_remove_tree(job_fd, "work", &ignored);
    file_remove_tree(job_fd, "compare", &ignored);
}

int scheduler_open_files(scheduler *self, const char *id, const char *name, int *ret_fd,
                         didi_error *error)
{
    int job_fd = -1;
    if (!id_is_valid(id))
        return store_job_unknown(id, error);
    int status = files_open_job(self, id, false, &job_fd, error);
    if (status != DIDI_OK)
        return status;
    status = file_open_directory(job_fd, name, 0, ret_fd, error);
    close(job_fd);
    return status;
}

void files_throw_away(scheduler *self, int parent_fd, const char *name)
{
    char thrown[NAME_MAX + 8]; /* a job and what it kept may both be there */
    didi_error ignored = {0};
    snprintf(thrown, sizeof thrown, "%s%s", name, parent_fd == self->kept_fd ? ".kept" : "");
    if (renameat(parent_fd, name, self->trash_fd, thrown) == 0)
        atomic_store(&self->trash_pending, true);
    else if (errno != ENOENT) /* the name is in the trash already, or the like */
        file_remove_tree(parent_fd, name, &ignored);
}

/* Cancelled, and the crash came after the rename of its artifacts. */
static void unpublish(const scheduler *self, const char *id)
{
    didi_error ignored = {0};
    int job_fd = -1;
    if (files_open_job(self, id, false, &job_fd, &ignored) != DIDI_OK)
        return;
    files_remove_results(job_fd);
    close(job_fd);
}

static int sweep_directory(void *context, const char *name, didi_error *error)
{
    scheduler *self = context;
    store_job job = {0};
    const int status = store_job_get(self->store, name, &job, error);
    if (status == DIDI_NOT_FOUND) {
        log_emit(LOG_LEVEL_WARNING, "files without a job are removed", LOG_TEXT("name", name));
        files_throw_away(self, self->jobs_fd, name);
    } else if (status == DIDI_OK && job.state == JOB_CANCELLED) {
        unpublish(self, name);
    }
    store_job_clear(&job);
    return status == DIDI_NOT_FOUND ? DIDI_OK : status;
}

typedef struct lost_context {
    scheduler *scheduler;
    int status;
    didi_error *error;
} lost_context;

static int flag_lost(void *context, const char *id)
{
    lost_context *lost = context;
    didi_error ignored = {0};
    int fd = -1;
    bool open = files_open_job(lost->scheduler, id, false, &fd, &ignored) == DIDI_OK;
    bool published = open && files_are_published(fd);
    if (open)
        close(fd);
    if (published)
        return 0;
    log_emit(LOG_LEVEL_ERROR, "the artifacts of a job are gone", LOG_TEXT("job", id));
    lost->status = store_job_fail_lost(
        lost->scheduler->store, id, "the artifacts are gone from the state directory", lost->error);
    return lost->status;
}

int files_sweep(scheduler *self, didi_error *error)
{
    lost_context lost = {.scheduler = self, .error = error};
    int status = file_each_entry(self->jobs_fd, sweep_directory, self, error);
    if (status == DIDI_OK)
        status = store_each_succeeded_job(self->store, flag_lost, &lost, error);
    atomic_store(&self->trash_pending, true);
    return status == DIDI_OK ? lost.status : status;
}

static int trash_remove(void *context, const char *name, didi_error *error)
{
    scheduler *self = context;
    didi_error why = {0};
    (void)error;
    if (file_remove_tree(self->trash_fd, name, &why) != DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "cannot remove", LOG_TEXT("name", name),
                 LOG_TEXT("error", why.message));
    return DIDI_OK;
}

static void trash_work(void *context)
{
    scheduler *self = context;
    didi_error error = {0};
    if (file_each_entry(self->trash_fd, trash_remove, self, &error) != DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "cannot empty the trash", LOG_TEXT("error", error.message));
}

static void trash_after(void *context)
{
    scheduler *self = context;
    self->trash_running = false;
    self->advance(self);
}

void files_empty_trash(scheduler *self)
{
    didi_error error = {0};
    if (self->trash_running || !atomic_exchange(&self->trash_pending, false))
        return;
    self->trash_running = pool_task(self->pool, trash_work, trash_after, self, &error) == DIDI_OK;
}
