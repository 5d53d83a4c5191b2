/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of foreground merges. */
#include "daemon/foreground/places.h"

#include "src/base/base.h"
#include "src/didi.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int check_out_is_free(const char *out, didi_error *error)
{
    if (rmdir(out) == 0 || errno == ENOENT)
        return DIDI_OK;
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR || errno == EINVAL)
        return didi_fail(error, DIDI_CONFLICT, NULL,
                         "%s exists and is not an empty directory; --out must name another", out);
    return didi_fail_errno(error, errno, out, "cannot use %s", out);
}

/* OUT is `name` in the directory `parent`. */
static int split_out(places *self, const char *out, didi_error *error)
{
    char *path = memory_string(out);
    char *again = memory_string(out);
    if (path != NULL && again != NULL) {
        self->parent = memory_string(dirname(path));
        self->name = memory_string(basename(again));
    }
    free(path);
    free(again);
    if (self->parent == NULL || self->name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->parent_fd = open(self->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->parent_fd < 0)
        return didi_fail_errno(error, errno, self->parent, "cannot open %s", self->parent);
    return check_out_is_free(out, error);
}

int places_open(places *self, const char *out, didi_error *error)
{
    int status = split_out(self, out, error);
    if (status != DIDI_OK)
        return status;
    char *holder = memory_format("%s/.didid-run-XXXXXX", self->parent);
    if (holder == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (mkdtemp(holder) == NULL) {
        int saved = errno;
        free(holder);
        return didi_fail_errno(error, saved, self->parent, "cannot write to %s", self->parent);
    }
    self->holder = holder; /* from now on it has to be removed */
    self->holder_fd = open(holder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->holder_fd < 0)
        return didi_fail_errno(error, errno, holder, "cannot open %s", holder);
    return file_open_directory(self->holder_fd, "work", 1, &self->work_fd, error);
}

int places_open_reuse(places *self, const char *reuse, didi_error *error)
{
    self->reuse_fd = open(reuse, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return self->reuse_fd >= 0 ? DIDI_OK
                               : didi_fail_errno(error, errno, reuse, "cannot open %s", reuse);
}

int places_keep(const places *self, const char *keep, didi_error *error)
{
    uint64_t bytes = 0;
    assert(self->holder_fd >= 0 && self->work_fd >= 0);
    int status = didi_reuse_seal(self->work_fd, &bytes, error);
    if (status != DIDI_OK)
        return status;
    if (renameat(self->holder_fd, "work", AT_FDCWD, keep) == 0)
        return DIDI_OK;
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
        return didi_fail(error, DIDI_CONFLICT, keep,
                         "%s exists and is not an empty directory; --keep must name another", keep);
    if (errno == EXDEV)
        return didi_fail(error, DIDI_INVALID, keep, "%s is on another file system than --out",
                         keep);
    return didi_fail_errno(error, errno, keep, "cannot make %s", keep);
}

int places_publish(const places *self, didi_error *error)
{
    assert(self->holder_fd >= 0);
    int status = file_rename(self->holder_fd, "artifacts", self->parent_fd, self->name, error);
    if (status == DIDI_OK)
        status = file_sync(self->parent_fd, self->parent, error);
    return status;
}

void places_close(places *self)
{
    didi_error ignored = {0};
    if (self->holder != NULL)
        file_remove_tree(self->parent_fd, strrchr(self->holder, '/') + 1, &ignored);
    const int fds[] = {self->reuse_fd, self->work_fd, self->holder_fd, self->parent_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        file_close(fds[i]);
    free(self->parent);
    free(self->name);
    free(self->holder);
}
