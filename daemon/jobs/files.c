/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of jobs: opened, swept, thrown away. */
#include "daemon/jobs/scheduler_internal.h"
#include "daemon/jobs/storage.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_SAME_NAME_MAX = 1000, TRASH_AGAIN_MILLISECONDS = 60 * 1000 };

int files_open(scheduler *self, int state_fd, didi_error *error)
{
    int status = file_open_directory(state_fd, "jobs", 1, &self->jobs_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(state_fd, "trash", 1, &self->trash_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(state_fd, "kept", 1, &self->kept_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(state_fd, "lost", 1, &self->lost_fd, error);
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

typedef struct measure {
    int directory_fd;
    uint64_t bytes;
} measure;

static int measure_directory(int parent_fd, const char *name, uint64_t *bytes, didi_error *error);

static int measure_entry(void *context, const char *name, didi_error *error)
{
    measure *self = context;
    struct stat facts;
    if (fstatat(self->directory_fd, name, &facts, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? DIDI_OK
                               : didi_fail_errno(error, errno, name, "cannot be measured");
    if (S_ISREG(facts.st_mode))
        self->bytes += (uint64_t)facts.st_size;
    else if (S_ISDIR(facts.st_mode))
        return measure_directory(self->directory_fd, name, &self->bytes, error);
    return DIDI_OK;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as a package is */
static int measure_directory(int parent_fd, const char *name, uint64_t *bytes, didi_error *error)
{
    measure all = {.directory_fd = -1};
    int status = file_open_directory(parent_fd, name, 0, &all.directory_fd, error);
    if (status != DIDI_OK)
        return status;
    status = file_each_entry(all.directory_fd, measure_entry, &all, error);
    close(all.directory_fd);
    *bytes += all.bytes;
    return status;
}

int files_measure_artifacts(int job_fd, uint64_t *ret_bytes, didi_error *error)
{
    uint64_t bytes = 0;
    deposit *record = NULL;
    int status = DIDI_OK;
    if (deposit_read(job_fd, &record, NULL) == DIDI_OK && record->complete)
        for (size_t i = 0; i < record->count; i++) /* of which some may lie at S3 alone */
            bytes = memory_add(bytes, record->files[i].bytes);
    else
        status = measure_directory(job_fd, "artifacts", &bytes, error);
    deposit_free(record);
    if (status == DIDI_OK)
        *ret_bytes = bytes;
    return status;
}

static int remove_stray(void *context, const char *name, didi_error *error)
{
    static const char *const ours[] = {"artifacts",    "cluster",      "compare", "exports",
                                       DEPOSIT_RECORD, DEPOSIT_PIECES, "work"};
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
    file_remove_tree(job_fd, "cluster", &ignored);
}

void files_remove_work(int job_fd)
{
    didi_error ignored = {0};
    file_remove_tree(job_fd, "work", &ignored);
    file_remove_tree(job_fd, "compare", &ignored);
    file_remove_tree(job_fd, "cluster", &ignored);
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

int files_unpublish(void *context, const char *id)
{
    const scheduler *self = context;
    didi_error ignored = {0};
    int job_fd = -1;
    if (files_open_job(self, id, false, &job_fd, &ignored) != DIDI_OK)
        return 0;
    files_remove_results(job_fd);
    close(job_fd);
    return 0;
}

void files_set_aside(scheduler *self, const char *name)
{
    char other[NAME_MAX + 1];
    (void)snprintf(other, sizeof other, "%s", name);
    for (unsigned number = 2; number < FILES_SAME_NAME_MAX; number++) {
        if (renameat2(self->jobs_fd, name, self->lost_fd, other, RENAME_NOREPLACE) == 0) {
            didi_error ignored = {0};
            (void)file_sync(self->lost_fd, "lost", &ignored);
            atomic_fetch_add(&self->set_aside, 1);
            log_emit(LOG_LEVEL_WARNING, "files without a job are set aside", LOG_TEXT("name", name),
                     LOG_TEXT("as", other));
            return;
        }
        if (errno == ENOENT)
            return; /* deleted meanwhile */
        if (errno != EEXIST && errno != ENOTEMPTY)
            break;
        (void)snprintf(other, sizeof other, "%.240s.%u", name, number);
    }
    log_emit(LOG_LEVEL_ERROR, "files without a job cannot be set aside", LOG_TEXT("name", name),
             LOG_TEXT("error", strerror(errno)));
}

void files_remove_deleted(scheduler *self, const char *id)
{
    struct stat facts;
    files_throw_away(self, self->jobs_fd, id);
    if (fstatat(self->jobs_fd, id, &facts, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
        store_deleted_job_forget(self->store, id);
}

size_t scheduler_set_aside(const scheduler *self)
{
    return atomic_load(&self->set_aside);
}

static int trash_remove(void *context, const char *name, didi_error *error)
{
    scheduler *self = context;
    didi_error why = {0};
    (void)error;
    if (!storage_delete(self, self->trash_fd, name)) {
        self->trash_left = true;
        return DIDI_OK;
    }
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
    self->trash_next_ms = clock_monotonic_ms() + TRASH_AGAIN_MILLISECONDS;
    self->advance(self);
}

void files_empty_trash(scheduler *self)
{
    didi_error error = {0};
    if (self->trash_running)
        return;
    if (self->trash_left && clock_monotonic_ms() >= self->trash_next_ms) {
        self->trash_left = false;
        atomic_store(&self->trash_pending, true);
    }
    if (!atomic_exchange(&self->trash_pending, false))
        return;
    self->trash_running = pool_task(self->pool, trash_work, trash_after, self, &error) == DIDI_OK;
}
