/* SPDX-License-Identifier: Apache-2.0 */
/* For administrators: a backup of the database, and what is wrong with the state directory. */
#include "daemon/api/api_internal.h"
#include "daemon/recovery/recovery.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* In the state directory: as private as the database, and on a disk with room for it. */
static int make_backup(api *self, const char *path, int *ret_fd, uint64_t *ret_bytes,
                       char ret_hex[API_DIGEST_BYTES], didi_error *error)
{
    if (unlink(path) != 0 && errno != ENOENT)
        return didi_fail_errno(error, errno, path, "cannot remove an unfinished backup");
    int status = store_backup(self->records, path, error);
    if (status != DIDI_OK)
        return status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return didi_fail_errno(error, errno, path, "cannot open the backup");
    status = file_sha256(fd, NULL, NULL, ret_hex, ret_bytes, "backup", error);
    if (status == DIDI_OK)
        *ret_fd = fd;
    else
        file_close(fd);
    return status;
}

void api_backup_get(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    char hex[API_DIGEST_BYTES];
    char digest[FILE_REPR_DIGEST_BYTES];
    uint64_t bytes = 0;
    int fd = -1;
    if (atomic_exchange(&self->backing_up, true)) {
        http_reply_problem(request, &(http_problem){.type = PROBLEM_CONFLICT,
                                                    .detail = "another backup is being made"});
        return;
    }
    char *path = memory_format("%s/didid.db.backup", self->settings->state_dir);
    int status = path != NULL ? make_backup(self, path, &fd, &bytes, hex, &error)
                              : didi_fail(&error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (path != NULL)
        (void)unlink(path); /* what is open stays until it is sent */
    free(path);
    atomic_store(&self->backing_up, false);
    if (status != DIDI_OK) {
        http_reply_error(request, status == DIDI_FORMAT ? PROBLEM_IO : problem_from_status(status),
                         &error);
        return;
    }
    file_repr_digest(hex, digest);
    http_reply_header(request, "Repr-Digest", digest);
    http_reply_file(request, 200, "application/vnd.sqlite3", fd, 0, bytes);
}

void api_doctor_get(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    json_t *report = NULL;
    if (doctor_examine(self->settings->state_dir, self->settings, true, &report, &error) == DIDI_OK)
        http_reply_json(request, 200, report);
    else
        http_reply_error(request, PROBLEM_IO, &error);
}

void api_doctor_jobs(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    json_t *page = NULL;
    const char *after = http_query(request, "after");
    if (after != NULL && !id_is_valid(after)) {
        http_refuse_parameter(request, "after", "after must be the next of a page");
        return;
    }
    if (doctor_examine_jobs(self->settings->state_dir, after != NULL ? after : "", &page, &error) ==
        DIDI_OK)
        http_reply_json(request, 200, page);
    else
        http_reply_error(request, PROBLEM_IO, &error);
}
