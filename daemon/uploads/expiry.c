/* SPDX-License-Identifier: Apache-2.0 */
/* What nobody touches any more goes: at the start, before a new upload, and by a thread that looks
 * while there are open ones. */
#include "daemon/uploads/uploads_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_SECONDS = 10,
    LOOKS_MAX = 360, /* after which it is looked even if no upload is open: files without a row */
};

static bool is_old(const uploads *self, int64_t moment_ms)
{
    return clock_now_ms() - moment_ms > (int64_t)self->settings->upload_keep_hours * 3600 * 1000;
}

/* What no row knows is kept as long as what nobody touches: rows can be lost. */
static int expire_unknown(void *context, const char *name, didi_error *error)
{
    const uploads *self = context;
    store_upload row = {0};
    struct stat facts;
    didi_error none = {0};
    if (!id_is_valid(name) ||
        store_upload_get(self->records, name, &row, &none) != DIDI_NOT_FOUND ||
        fstatat(self->hidden_fd, name, &facts, AT_SYMLINK_NOFOLLOW) != 0) {
        store_upload_clear(&row);
        return DIDI_OK;
    }
    return is_old(self, facts.st_mtim.tv_sec * 1000)
               ? file_remove_tree(self->hidden_fd, name, error)
               : DIDI_OK;
}

static void expire_row(uploads *self, const store_upload *row)
{
    didi_error error = {0};
    if (row->state == UPLOAD_COMMITTED || !is_old(self, row->updated_ms))
        return;
    int status = uploads_remove(self, row->id, &error);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "an upload expired", LOG_TEXT("upload", row->id),
                 LOG_TEXT("model", row->name));
    else if (status != DIDI_CONFLICT) /* in use: the next time */
        log_emit(LOG_LEVEL_WARNING, "cannot remove an upload that expired",
                 LOG_TEXT("upload", row->id), LOG_TEXT("error", error.message));
}

int uploads_expire(uploads *self, didi_error *error)
{
    if (self->hidden_fd < 0 || clock_was_set(self->clock_apart_ms))
        return DIDI_OK;
    int status = upload_each_row(self, expire_row, error);
    int fd = openat(self->hidden_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (status == DIDI_OK && fd >= 0)
        status = file_each_entry(fd, expire_unknown, self, error);
    file_close(fd);
    return status;
}

/* ---- the thread ---- */

/* Waits for the next look; false when uploads are closed. */
static bool wait_for_look(uploads *self)
{
    struct timespec until;
    int waited = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOOK_SECONDS;
    pthread_mutex_lock(&self->lock);
    while (!self->closed && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&self->closing, &self->lock, &until);
    const bool goes_on = !self->closed;
    pthread_mutex_unlock(&self->lock);
    return goes_on;
}

static void *expiry_main(void *context)
{
    uploads *self = context;
    for (unsigned look = 1; wait_for_look(self); look++) {
        didi_error error = {0};
        uint64_t open = 0;
        int status = store_upload_count(self->records, &open, &error);
        if (status == DIDI_OK && (open > 0 || look % LOOKS_MAX == 0))
            status = uploads_expire(self, &error);
        if (status != DIDI_OK)
            log_emit(LOG_LEVEL_WARNING, "cannot look for uploads that expired",
                     LOG_TEXT("error", error.message));
    }
    return NULL;
}

int upload_expiry_start(uploads *self, didi_error *error)
{
    if (self->hidden_fd < 0)
        return DIDI_OK;
    int code = pthread_create(&self->expiry, NULL, expiry_main, self);
    if (code != 0)
        return didi_fail_errno(error, code, NULL, "cannot start a thread");
    self->expires = true;
    return DIDI_OK;
}

void upload_expiry_stop(uploads *self)
{
    if (!self->expires)
        return;
    pthread_mutex_lock(&self->lock);
    self->closed = true;
    pthread_cond_broadcast(&self->closing);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->expiry, NULL);
    self->expires = false;
}
