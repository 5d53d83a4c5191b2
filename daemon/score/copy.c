/* SPDX-License-Identifier: Apache-2.0 */
/* A model of the operator's as a scorer gets it: a copy, since what the scorer gets is its own to
 * write, and may be another user's. */
#include "daemon/score/score.h"

#include "src/files/files.h"
#include "src/package/package.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_STEP_BYTES = 64 << 20 };

typedef struct copy {
    int from_fd, to_fd; /* directories */
    file_bounds links;
    int (*cancelled)(void *context);
    void *context;
} copy;

/* The kernel copies, or shares the blocks where the file system can. */
static ssize_t copy_step(int from, int to)
{
    ssize_t count = copy_file_range(from, NULL, to, NULL, COPY_STEP_BYTES, 0);
    if (count < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS))
        count = sendfile(to, from, NULL, COPY_STEP_BYTES);
    return count;
}

static int copy_bytes(const copy *self, int from, int to, const char *name, didi_error *error)
{
    ssize_t count = 0;
    do {
        if (self->cancelled != NULL && self->cancelled(self->context))
            return didi_fail(error, DIDI_CANCELLED, name, "cancelled");
        count = copy_step(from, to);
    } while (count > 0);
    return count == 0 ? DIDI_OK : didi_fail_errno(error, errno, name, "cannot copy %s", name);
}

static int copy_file(const copy *self, const char *name, const char *as, didi_error *error)
{
    int from = -1;
    int status = file_open_within(self->from_fd, name, &self->links, name, &from, error);
    if (status != DIDI_OK)
        return status;
    int to = openat(self->to_fd, as, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    status = to >= 0 ? copy_bytes(self, from, to, name, error)
                     : didi_fail_errno(error, errno, as, "cannot make %s", as);
    file_close(to);
    close(from);
    return status;
}

static int copy_weights(const copy *self, const char *model, didi_error *error)
{
    checkpoint *opened = NULL;
    checkpoint_layout layout = {0};
    int status = checkpoint_open_within(self->from_fd, &self->links, model, &opened, error);
    if (status == DIDI_OK && checkpoint_is_adapter(opened))
        status = didi_fail(error, DIDI_MISMATCH, model,
                           "%s is an adapter, and no model of its own to score", model);
    if (status == DIDI_OK)
        status = checkpoint_layout_find(self->from_fd, model, &layout, error);
    for (size_t i = 0; status == DIDI_OK && i < checkpoint_file_count(opened); i++) {
        const char *name = checkpoint_file_at(opened, i)->name;
        status = copy_file(self, name, layout.indexed ? name : "model.safetensors", error);
    }
    if (status == DIDI_OK && layout.indexed)
        status = copy_file(self, layout.name, "model.safetensors.index.json", error);
    checkpoint_close(opened);
    return status;
}

int score_copy_model(const model_roots *roots, const char *model, int parent_fd, const char *name,
                     int (*cancelled)(void *context), void *context, didi_error *error)
{
    copy self = {.from_fd = -1,
                 .to_fd = -1,
                 .links = model_roots_bounds(roots),
                 .cancelled = cancelled,
                 .context = context};
    side_files beside = {0};
    int status = model_roots_open_model(roots, model, &self.from_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(parent_fd, name, 1, &self.to_fd, error);
    if (status == DIDI_OK)
        status = copy_weights(&self, model, error);
    if (status == DIDI_OK)
        status = side_files_copy(-1, self.from_fd, &self.links, self.to_fd, &beside, error);
    side_files_clear(&beside);
    file_close(self.to_fd);
    file_close(self.from_fd);
    return status;
}
