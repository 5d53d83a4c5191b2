/* SPDX-License-Identifier: Apache-2.0 */
/* Spectra and bases that finished jobs keep for others: kept/<id>, apart from the job's own
 * directory, so that they outlive the job while an unfinished one starts from them. */
#include "daemon/jobs/scheduler_internal.h"
#include "src/base/base.h"
#include "src/didi.h"

#include <assert.h>
#include <unistd.h>

int kept_open(const scheduler *self, const char *id, int *ret_fd, didi_error *error)
{
    int status =
        id_is_valid(id) ? file_open_directory(self->kept_fd, id, 0, ret_fd, error) : DIDI_NOT_FOUND;
    if (status == DIDI_NOT_FOUND)
        return didi_fail(error, status, "/from_job",
                         "job %.64s keeps nothing to start from any more; leave from_job out to "
                         "merge afresh",
                         id);
    return status;
}

void kept_release(scheduler *self, const char *id)
{
    didi_error error = {0};
    bool needed = true;
    if (id[0] != '\0' && store_kept_is_needed(self->store, id, &needed, &error) == DIDI_OK &&
        !needed)
        files_throw_away(self, self->kept_fd, id);
}

static void shrink(scheduler *self)
{
    didi_error error = {0};
    bool found = true;
    while (found) {
        char id[ID_BYTES] = {0};
        found = false;
        if (store_kept_shrink(self->store, self->config->keep_spectra_bytes, id, &found, &error) !=
            DIDI_OK)
            return;
        if (!found)
            return;
        log_emit(LOG_LEVEL_INFO, "the spectra of a job are dropped", LOG_TEXT("job", id));
        kept_release(self, id);
    }
}

/* Moves the sealed work directory to where others find it. */
static int keep(scheduler *self, const store_job *job, int job_fd, uint64_t *ret_bytes,
                didi_error *error)
{
    int work_fd = -1;
    int status = file_open_directory(job_fd, "work", 0, &work_fd, error);
    bool moved = status == DIDI_NOT_FOUND; /* by an attempt that died after it */
    if (moved)
        status = file_open_directory(self->kept_fd, job->id, 0, &work_fd, error);
    if (status != DIDI_OK)
        return status;
    status = didi_reuse_seal(work_fd, ret_bytes, error);
    close(work_fd);
    if (status != DIDI_OK || moved)
        return status;
    if (*ret_bytes > self->config->keep_spectra_bytes)
        return didi_fail(error, DIDI_DISK_FULL, "keep_spectra_bytes",
                         "%llu bytes are more than keep_spectra_bytes",
                         (unsigned long long)*ret_bytes);
    status = file_rename(job_fd, "work", self->kept_fd, job->id, error);
    if (status == DIDI_OK)
        status = file_sync(self->kept_fd, "kept", error);
    return status;
}

void kept_take(scheduler *self, const store_job *job, int job_fd)
{
    didi_error error = {0};
    uint64_t bytes = 0;
    assert(job->state == JOB_RUNNING);
    pthread_mutex_lock(&self->kept_lock);
    int status = self->config->keep_spectra_bytes > 0 ? keep(self, job, job_fd, &bytes, &error)
                                                      : DIDI_NOT_FOUND;
    if (status == DIDI_OK)
        status = store_job_keep(self->store, job->id, job->attempt, bytes, &error);
    pthread_mutex_unlock(&self->kept_lock);
    if (status == DIDI_OK) {
        files_remove_work(job_fd);
        shrink(self);
        return;
    }
    if (status != DIDI_NOT_FOUND)
        log_emit(LOG_LEVEL_INFO, "a job's spectra are not kept", LOG_TEXT("job", job->id),
                 LOG_TEXT("reason", error.message));
    files_throw_away(self, self->kept_fd, job->id);
    files_remove_work(job_fd);
}

static int forget_lost(void *context, const char *id)
{
    scheduler *self = context;
    didi_error error = {0};
    int fd = -1;
    if (kept_open(self, id, &fd, &error) == DIDI_OK) {
        close(fd);
        return 0;
    }
    return error.status == DIDI_NOT_FOUND ? store_kept_forget(self->store, id, &error) : 0;
}

static int sweep_one(void *context, const char *name, didi_error *error)
{
    scheduler *self = context;
    (void)error;
    pthread_mutex_lock(&self->kept_lock);
    if (id_is_valid(name))
        kept_release(self, name);
    else
        file_remove_tree(self->kept_fd, name, error);
    pthread_mutex_unlock(&self->kept_lock);
    return DIDI_OK;
}

int kept_sweep(scheduler *self, didi_error *error)
{
    int status = store_kept_each(self->store, forget_lost, self, error);
    if (status == DIDI_OK)
        status = file_each_entry(self->kept_fd, sweep_one, self, error);
    if (status == DIDI_OK)
        shrink(self);
    return status;
}
