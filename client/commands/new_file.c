/* SPDX-License-Identifier: Apache-2.0 */
/* A download that becomes a file when it is whole, and never over one that is there. */
#include "client/commands/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct new_file {
    const char *part;
    int fd;
    int64_t expected; /* -1: the server does not say */
    uint64_t bytes;
    char repr_digest[TRANSPORT_HEADER_BYTES_MAX];
} new_file;

static int begin(void *context, const transport_response *head, didi_error *error)
{
    new_file *self = context;
    (void)error;
    self->bytes = 0; /* asked for again after a lost connection */
    self->expected = head->content_length;
    (void)snprintf(self->repr_digest, sizeof self->repr_digest, "%s", head->repr_digest);
    if (ftruncate(self->fd, 0) != 0) {
        didi_fail_errno(error, errno, self->part, "cannot empty the file");
        return CLIENT_FAILURE;
    }
    return CLIENT_OK;
}

static int take(void *context, const void *bytes, size_t count, didi_error *error)
{
    new_file *self = context;
    if (file_pwrite_all(self->fd, bytes, count, self->bytes, self->part, error) != DIDI_OK) {
        error->status = CLIENT_FAILURE;
        return CLIENT_FAILURE;
    }
    self->bytes += count;
    return CLIENT_OK;
}

static int check(new_file *self, didi_error *error)
{
    char hex[65];
    char found[FILE_REPR_DIGEST_BYTES];
    if (self->expected >= 0 && (uint64_t)self->expected != self->bytes)
        return didi_fail(error, CLIENT_FAILURE, self->part, "%lld of %lld bytes came",
                         (long long)self->bytes, (long long)self->expected);
    if (file_sha256(self->fd, NULL, NULL, hex, NULL, self->part, error) != DIDI_OK)
        return error->status = CLIENT_FAILURE;
    file_repr_digest(hex, found);
    if (strcmp(found, self->repr_digest) != 0)
        return didi_fail(error, CLIENT_FAILURE, self->part,
                         "what came does not have the digest that the server gave");
    return file_sync(self->fd, self->part, error) == DIDI_OK ? CLIENT_OK
                                                             : (error->status = CLIENT_FAILURE);
}

/* Gives it its name; never over a file that is there. */
static int publish(const new_file *self, const char *name, didi_error *error)
{
    if (renameat2(AT_FDCWD, self->part, AT_FDCWD, name, RENAME_NOREPLACE) == 0)
        return CLIENT_OK;
    didi_fail_errno(error, errno, name, "cannot give the file its name");
    return error->status = CLIENT_FAILURE;
}

/* Opens `part`, which may be left of a run that was killed. */
static int open_part(new_file *self, didi_error *error)
{
    self->fd = open(self->part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (self->fd >= 0)
        return CLIENT_OK;
    didi_fail_errno(error, errno, self->part, "cannot make the file");
    return error->status = CLIENT_FAILURE;
}

int new_file_fetch(const command_context *context, const char *target, const char *name,
                   int extra_seconds, didi_error *error)
{
    char *part = memory_format("%s.part", name);
    new_file self = {.part = part, .fd = -1, .expected = -1};
    const transport_sink sink = {.context = &self, .begin = begin, .write = take};
    const transport_request request = {.method = "GET",
                                       .target = target,
                                       .repeatable = true,
                                       .extra_seconds = extra_seconds,
                                       .sink = &sink};
    transport_response response = {0};
    int status = CLIENT_OK;
    if (part == NULL)
        return client_fail_memory(error);
    if (access(name, F_OK) == 0)
        status = didi_fail(error, CLIENT_FAILURE, name, "is there already; name another file");
    if (status == CLIENT_OK)
        status = open_part(&self, error);
    if (status == CLIENT_OK) {
        status = service_fetch(context->service, &request, &response, error);
        transport_response_clear(&response);
        status = status == CLIENT_OK ? check(&self, error) : status;
        status = status == CLIENT_OK ? publish(&self, name, error) : status;
        if (status != CLIENT_OK)
            (void)unlink(part);
    }
    file_close(self.fd);
    free(part);
    return status;
}
