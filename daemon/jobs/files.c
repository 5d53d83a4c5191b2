/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of jobs: opened, swept, thrown away. */
#include "daemon/jobs/scheduler_internal.h"
#include "src/base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
        status = file_sync_directory(state_fd, "state directory", error);
    return status;
}

int files_open_job(const scheduler *self, const char *id, bool create, int *ret_fd,
                   didi_error *error)
{
    int status = file_open_directory(self->jobs_fd, id, create, ret_fd, error);
    if (status == DIDI_OK && create) {
        status = file_sync_directory(self->jobs_fd, "jobs", error);
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

static bool entry_is_ours(const char *name)
{
    static const char *const names[] = {".", "..", "artifacts", "compare", "exports", "work"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

void files_remove_strays(int job_fd)
{
    int fd = openat(job_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry = NULL;
    didi_error ignored = {0};
    if (directory == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(directory)) != NULL)
        if (!entry_is_ours(entry->d_name))
            file_remove_tree(job_fd, entry->d_name, &ignored);
    closedir(directory);
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

void files_throw_away(scheduler *self, const char *name)
{
    if (renameat(self->jobs_fd, name, self->trash_fd, name) == 0) {
        atomic_store(&self->trash_pending, true);
    } else if (errno != ENOENT) {
        didi_error error = {0};
        /* The name is in the trash already, or the like. */
        file_remove_tree(self->jobs_fd, name, &error);
    }
}

int directory_each(scheduler *self, int directory_fd, directory_visit *visit, didi_error *error)
{
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry = NULL;
    int status = DIDI_OK;
    if (directory == NULL) {
        if (fd >= 0)
            close(fd);
        return didi_fail_errno(error, errno, NULL, "cannot list a directory of jobs");
    }
    while (status == DIDI_OK && (entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = visit(self, entry->d_name, error);
    closedir(directory);
    return status;
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

static int sweep_directory(scheduler *self, const char *name, didi_error *error)
{
    didi_error missing = {0};
    store_job job = {0};
    const int status =
        id_is_valid(name) ? store_job_get(self->store, name, &job, &missing) : DIDI_NOT_FOUND;
    bool orphan = status == DIDI_NOT_FOUND;
    if (status != DIDI_OK && !orphan) {
        *error = missing;
        return status;
    }
    if (orphan)
        log_emit(LOG_LEVEL_WARNING, "files without a job are removed", LOG_TEXT("name", name));
    if (orphan)
        files_throw_away(self, name);
    else if (job.state == JOB_CANCELLED)
        unpublish(self, name);
    store_job_clear(&job);
    return DIDI_OK;
}

typedef struct lost_context {
    scheduler *scheduler;
    int status;
    didi_error *error;
} lost_context;

static int flag_lost(void *context, const char *id, job_state state)
{
    lost_context *lost = context;
    didi_error ignored = {0};
    int fd = -1;
    if (state != JOB_SUCCEEDED)
        return 0;
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
    int status = directory_each(self, self->jobs_fd, sweep_directory, error);
    if (status == DIDI_OK)
        status = store_job_each(self->store, flag_lost, &lost, error);
    atomic_store(&self->trash_pending, true);
    return status == DIDI_OK ? lost.status : status;
}

static int trash_remove(scheduler *self, const char *name, didi_error *error)
{
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
    if (directory_each(self, self->trash_fd, trash_remove, &error) != DIDI_OK)
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
