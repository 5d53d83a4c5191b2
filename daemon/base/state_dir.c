/* SPDX-License-Identifier: Apache-2.0 */
/* The state directory and its lock.
 *
 * The lock is flock(2): it ends with the process, however that ends. SQLite's own locks are of
 * another kind and do not meet it. */
#include "daemon/base/state_dir.h"

#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct state_dir {
    int fd, lock_fd;
};

static int state_dir_lock(state_dir *self, const char *path, didi_error *error)
{
    char owner[32] = {0};
    self->lock_fd = openat(self->fd, "didid.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (self->lock_fd < 0)
        return didi_fail_errno(error, errno, path, "cannot open the lock file in %s", path);
    if (flock(self->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return didi_fail_errno(error, errno, path, "cannot lock %s", path);
        if (pread(self->lock_fd, owner, sizeof owner - 1, 0) < 0)
            owner[0] = '\0';
        return didi_fail(error, DIDI_CONFLICT, path,
                         "the state directory %s is in use by another daemon, pid %ld", path,
                         strtol(owner, NULL, 10));
    }
    int length = snprintf(owner, sizeof owner, "%ld\n", (long)getpid());
    if (ftruncate(self->lock_fd, 0) != 0 ||
        pwrite(self->lock_fd, owner, (size_t)length, 0) != length)
        return didi_fail_errno(error, errno, path, "cannot write the lock file in %s", path);
    return DIDI_OK;
}

static int open_locked(const char *path, bool make, state_dir **ret_state, didi_error *error)
{
    state_dir *self = memory_zeroed(1, sizeof *self);
    int status = DIDI_OK;
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->fd = self->lock_fd = -1;
    if (make && mkdir(path, 0750) != 0 && errno != EEXIST)
        status = didi_fail_errno(error, errno, path,
                                 "cannot make the state directory %s as user %u (--state-dir names "
                                 "another)",
                                 path, (unsigned)geteuid());
    if (status == DIDI_OK) {
        self->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (self->fd < 0)
            status = didi_fail_errno(
                error, errno, path,
                "cannot open the state directory %s as user %u (--state-dir names another)", path,
                (unsigned)geteuid());
    }
    if (status == DIDI_OK)
        status = state_dir_lock(self, path, error);
    if (status == DIDI_OK)
        *ret_state = self;
    else
        state_dir_close(self);
    return status;
}

int state_dir_open(const char *path, state_dir **ret_state, didi_error *error)
{
    return open_locked(path, true, ret_state, error);
}

int state_dir_open_existing(const char *path, state_dir **ret_state, didi_error *error)
{
    return open_locked(path, false, ret_state, error);
}

void state_dir_close(state_dir *self)
{
    if (self == NULL)
        return;
    file_close(self->lock_fd);
    file_close(self->fd);
    free(self);
}

int state_dir_fd(const state_dir *self)
{
    return self->fd;
}
