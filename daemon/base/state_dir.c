/* SPDX-License-Identifier: Apache-2.0 */
/* The state directory and its lock.
 *
 * The lock is flock(2): it ends with the process, however that ends. SQLite's own locks are of
 * another kind and do not meet it. */
#include "daemon/base/state_dir.h"

#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* What the state directory has of this name: nothing any more, or a link to `target`. */
static int make_room(const state_dir *self, const char *name, const char *target, bool *ret_linked,
                     didi_error *error)
{
    char found[PATH_MAX];
    ssize_t length = readlinkat(self->fd, name, found, sizeof found - 1);
    *ret_linked = false;
    if (length >= 0) {
        found[length] = '\0';
        *ret_linked = strcmp(found, target) == 0;
        if (!*ret_linked)
            return didi_fail(error, DIDI_CONFLICT, "shared_dir",
                             "%s in the state directory is a link to %s, not to %s", name, found,
                             target);
    } else if (unlinkat(self->fd, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        return errno == ENOTEMPTY || errno == EEXIST
                   ? didi_fail(error, DIDI_CONFLICT, "shared_dir",
                               "%s in the state directory holds files already: move it to %s first",
                               name, target)
                   : didi_fail_errno(error, errno, name, "cannot be made a link");
    }
    return DIDI_OK;
}

static int share_directory(const state_dir *self, const state_dir *shared, const char *path,
                           const char *name, didi_error *error)
{
    bool linked = false;
    int fd = -1;
    char *target = memory_format("%s/%s", path, name);
    if (target == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    int status = file_open_directory(shared->fd, name, 1, &fd, error);
    if (status == DIDI_OK)
        status = make_room(self, name, target, &linked, error);
    if (status == DIDI_OK && !linked && symlinkat(target, self->fd, name) != 0)
        status = didi_fail_errno(error, errno, name, "cannot be made a link to %s", target);
    file_close(fd);
    free(target);
    return status;
}

int state_dir_share(const state_dir *self, const char *path, state_dir **ret_shared,
                    didi_error *error)
{
    static const char *const names[] = {"jobs", "kept", "trash", "lost"};
    state_dir *shared = NULL;
    int status = state_dir_open(path, &shared, error);
    char *whole = status == DIDI_OK ? realpath(path, NULL) : NULL;
    if (status == DIDI_OK && whole == NULL)
        status = didi_fail_errno(error, errno, path, "has no path");
    for (size_t i = 0; i < sizeof names / sizeof *names && status == DIDI_OK; i++)
        status = share_directory(self, shared, whole, names[i], error);
    if (status == DIDI_OK)
        status = file_sync(shared->fd, path, error);
    if (status == DIDI_OK)
        status = file_sync(self->fd, "state directory", error);
    free(whole);
    if (status == DIDI_OK)
        *ret_shared = shared;
    else
        state_dir_close(shared);
    return status;
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
