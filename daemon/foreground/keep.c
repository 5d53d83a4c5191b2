/* SPDX-License-Identifier: Apache-2.0 */
/* Spectra and bases of foreground merges. */
#include "daemon/foreground/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int run_keep_open(const run_keep *self, const char *from_job, int *ret_reuse_fd, didi_error *error)
{
    if (from_job != NULL)
        return didi_fail(
            error, DIDI_INVALID, "/from_job",
            "jobs are the daemon's; use --reuse DIR with a directory that --keep made");
    if (self->reuse == NULL)
        return DIDI_OK;
    int fd = open(self->reuse, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return didi_fail_errno(error, errno, self->reuse, "cannot open %s", self->reuse);
    *ret_reuse_fd = fd;
    return DIDI_OK;
}

int run_keep_finish(const run_keep *self, int holder_fd, int work_fd, didi_error *error)
{
    uint64_t bytes = 0;
    if (self->keep == NULL)
        return DIDI_OK;
    int status = didi_reuse_seal(work_fd, &bytes, error);
    if (status != DIDI_OK)
        return status;
    if (renameat(holder_fd, "work", AT_FDCWD, self->keep) == 0)
        return DIDI_OK;
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
        return didi_fail(error, DIDI_CONFLICT, self->keep,
                         "%s exists and is not an empty directory", self->keep);
    if (errno == EXDEV)
        return didi_fail(error, DIDI_INVALID, self->keep, "%s is on another file system than --out",
                         self->keep);
    return didi_fail_errno(error, errno, self->keep, "cannot make %s", self->keep);
}
