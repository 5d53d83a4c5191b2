/* SPDX-License-Identifier: Apache-2.0 */
/* One artifact from the server into a directory. */
#include "client/net/download.h"

#include "client/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    DOWNLOAD_ATTEMPTS_MAX = 5, /* in a row without a byte gained */
    DOWNLOAD_PAUSE_MILLISECONDS = 500,
    DOWNLOAD_DIGEST_IN_NAME = 16,
};

/* A part's name holds the digest it is part of: a part of another file is never continued. */
typedef struct download {
    client_service *service;
    const download_file *file;
    const download_observer *observer;
    int parent_fd;
    const char *base_name; /* last component of the name */
    char *part_name;
    int part_fd;
    int64_t have; /* bytes in the part */
    int64_t most; /* it ever had, of one pass: what comes again is no progress */
} download;

static int fail_system(didi_error *error, const char *subject, const char *what)
{
    return didi_fail(error, CLIENT_FAILURE, subject, "%s: %s", what, strerror(errno));
}

static bool name_is_sound(const char *name)
{
    bool sound = record_is_word(name, DOWNLOAD_NAME_BYTES_MAX, "._-/");
    int depth = 1;
    for (const char *step = name; sound && step != NULL; depth++) {
        sound = *step != '\0' && *step != '.' && *step != '/' && depth <= DOWNLOAD_NAME_DEPTH_MAX;
        const char *slash = strchr(step, '/');
        step = slash != NULL ? slash + 1 : NULL;
    }
    return sound;
}

int download_name_check(const char *name, didi_error *error)
{
    if (!name_is_sound(name))
        return didi_fail(error, CLIENT_FAILURE, name,
                         "the server names an artifact in a way that is not safe to write");
    return CLIENT_OK;
}

/* Opens the directory the file belongs to, making what lacks. Caller closes *ret_fd. */
static int open_parent(int directory_fd, const char *name, int *ret_fd, const char **ret_base,
                       didi_error *error)
{
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *step = name;
    for (const char *slash; fd >= 0 && (slash = strchr(step, '/')) != NULL; step = slash + 1) {
        char *component = strndup(step, (size_t)(slash - step));
        int next = -1;
        if (component != NULL && (mkdirat(fd, component, 0777) == 0 || errno == EEXIST))
            next = openat(fd, component, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int saved_errno = errno;
        free(component);
        close(fd);
        errno = saved_errno;
        fd = next;
    }
    if (fd < 0)
        return fail_system(error, name, "its directory cannot be made");
    *ret_fd = fd;
    *ret_base = step;
    return CLIENT_OK;
}

static int was_interrupted(void *interrupt)
{
    return interrupt_seen(interrupt);
}

/* True in *ret_right when what the descriptor holds is the file; *ret_hex tells what it is. */
static int check_digest(const download *self, int fd, char ret_hex[DOWNLOAD_SHA256_HEX + 1],
                        bool *ret_right, didi_error *error)
{
    int status = file_sha256(fd, was_interrupted, service_interrupt(self->service), ret_hex, NULL,
                             self->file->name, error);
    if (status == DIDI_CANCELLED)
        return interrupt_fail(error);
    if (status != DIDI_OK) {
        error->status = CLIENT_FAILURE;
        return CLIENT_FAILURE;
    }
    *ret_right = strcmp(ret_hex, self->file->sha256) == 0;
    return CLIENT_OK;
}

/* True in *ret_whole when the file is there already with the right digest. */
static int check_whole(download *self, bool *ret_whole, didi_error *error)
{
    *ret_whole = false;
    struct stat facts;
    int fd =
        openat(self->parent_fd, self->base_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? CLIENT_OK
                               : fail_system(error, self->file->name, "cannot be opened");
    int status = CLIENT_OK;
    if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size == self->file->bytes) {
        char hex[DOWNLOAD_SHA256_HEX + 1];
        status = check_digest(self, fd, hex, ret_whole, error);
    }
    close(fd);
    return status;
}

static int empty_part(download *self, didi_error *error)
{
    self->have = 0;
    if (ftruncate(self->part_fd, 0) != 0)
        return fail_system(error, self->part_name, "cannot be emptied");
    return CLIENT_OK;
}

static int open_part(download *self, didi_error *error)
{
    self->part_fd = openat(self->parent_fd, self->part_name,
                           O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0666);
    struct stat facts;
    if (self->part_fd < 0 || fstat(self->part_fd, &facts) != 0)
        return fail_system(error, self->file->name, "cannot be written");
    if (!S_ISREG(facts.st_mode))
        return didi_fail(error, CLIENT_FAILURE, self->part_name, "is in the way");
    if (flock(self->part_fd, LOCK_EX | LOCK_NB) != 0)
        return didi_fail(error, CLIENT_FAILURE, self->file->name,
                         "another didictl is fetching it here");
    if (facts.st_size > self->file->bytes)
        return empty_part(self, error);
    self->have = facts.st_size;
    return CLIENT_OK;
}

/* True when a Repr-Digest header's sha-256 member is the file's, or it has none (RFC 9530). */
static bool repr_digest_fits(const char *header, const char *sha256)
{
    char wanted[FILE_REPR_DIGEST_BYTES];
    const char *member = strstr(header, "sha-256=:");
    file_repr_digest(sha256, wanted);
    return member == NULL || strncmp(member, wanted, strlen(wanted)) == 0;
}

/* "bytes FIRST-LAST/TOTAL" must be the rest of the file. */
static bool range_fits(const char *content_range, int64_t first, int64_t total)
{
    char expected[96];
    snprintf(expected, sizeof expected, "bytes %lld-%lld/%lld", (long long)first,
             (long long)total - 1, (long long)total);
    return strcmp(content_range, expected) == 0;
}

static int begin(void *context, const transport_response *head, didi_error *error)
{
    download *self = context;
    const download_file *file = self->file;
    if (!repr_digest_fits(head->repr_digest, file->sha256))
        return didi_fail(error, CLIENT_FAILURE, file->name,
                         "the Repr-Digest of the answer is not that of the list");
    if (head->status == 206)
        return range_fits(head->content_range, self->have, file->bytes)
                   ? CLIENT_OK
                   : didi_fail(error, CLIENT_FAILURE, file->name,
                               "the server sent another range than asked for: %s",
                               head->content_range);
    if (head->content_length >= 0 && head->content_length != file->bytes)
        return didi_fail(error, CLIENT_FAILURE, file->name,
                         "the server sends %lld bytes and listed %lld",
                         (long long)head->content_length, (long long)file->bytes);
    return self->have > 0 ? empty_part(self, error) : CLIENT_OK;
}

static int write_bytes(void *context, const void *bytes, size_t count, didi_error *error)
{
    download *self = context;
    if ((uint64_t)count > (uint64_t)(self->file->bytes - self->have))
        return didi_fail(error, CLIENT_FAILURE, self->file->name,
                         "the server sends more than the %lld bytes it listed",
                         (long long)self->file->bytes);
    const char *at = bytes;
    for (size_t left = count; left > 0;) {
        ssize_t written = pwrite(self->part_fd, at, left, self->have);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return fail_system(error, self->file->name, "cannot be written");
        self->have += written;
        at += written;
        left -= (size_t)written;
    }
    return self->observer->observe(self->observer->context, self->have, error);
}

/* One GET of what is missing; success may still leave the file short. */
static int fetch_once(download *self, didi_error *error)
{
    const download_file *file = self->file;
    const transport_sink sink = {.context = self, .begin = begin, .write = write_bytes};
    const char *headers[4] = {"Accept-Encoding: identity"};
    char *range = NULL;
    char *condition = NULL;
    if (self->have > 0) {
        range = memory_format("Range: bytes=%lld-", (long long)self->have);
        condition = memory_format("If-Range: %s", file->etag);
        headers[1] = range;
        headers[2] = file->etag[0] != '\0' ? condition : NULL;
    }
    transport_request request = {.method = "GET",
                                 .target = file->target,
                                 .headers = headers,
                                 .repeatable = true,
                                 .sink = &sink};
    transport_response response = {0};
    int status = service_fetch(self->service, &request, &response, error);
    if (status == CLIENT_OK && response.status == 416)
        status = empty_part(self, error);
    if (status == CLIENT_OK)
        transport_response_clear(&response);
    free(range);
    free(condition);
    return status;
}

/* Until all bytes are there; a lost connection is picked up where it broke. */
static int fetch(download *self, didi_error *error)
{
    int fruitless = 0;
    time_t gained = time(NULL);
    self->most = self->have;
    while (self->have < self->file->bytes) {
        int status = fetch_once(self, error);
        if (status != CLIENT_OK && status != CLIENT_UNREACHABLE)
            return status;
        bool gain = self->have > self->most;
        self->most = gain ? self->have : self->most;
        fruitless = gain ? 0 : fruitless + 1;
        gained = gain ? time(NULL) : gained;
        if (fruitless == DOWNLOAD_ATTEMPTS_MAX ||
            time(NULL) - gained > service_timeout_seconds(self->service)) {
            return status != CLIENT_OK ? status
                                       : didi_fail(error, CLIENT_FAILURE, self->file->name,
                                                   "the server stops before the file's end");
        }
        if (self->have < self->file->bytes) {
            status = interrupt_sleep(service_interrupt(self->service), DOWNLOAD_PAUSE_MILLISECONDS,
                                     error);
            if (status != CLIENT_OK)
                return status;
        }
    }
    return CLIENT_OK;
}

/* A resumed file may rest on a bad part, so one wrong digest is forgiven by starting over. */
static int fetch_verified(download *self, bool resumed, didi_error *error)
{
    char hex[DOWNLOAD_SHA256_HEX + 1];
    for (int pass = resumed ? 0 : 1; pass < 2; pass++) {
        bool right = false;
        int status = fetch(self, error);
        if (status == CLIENT_OK)
            status = check_digest(self, self->part_fd, hex, &right, error);
        if (status != CLIENT_OK || right)
            return status;
        status = empty_part(self, error);
        if (status != CLIENT_OK)
            return status;
    }
    unlinkat(self->parent_fd, self->part_name, 0);
    return didi_fail(error, CLIENT_FAILURE, self->file->name,
                     "what came has the SHA-256 %s, not %s", hex, self->file->sha256);
}

static int publish(download *self, didi_error *error)
{
    if (fsync(self->part_fd) != 0 ||
        renameat(self->parent_fd, self->part_name, self->parent_fd, self->base_name) != 0 ||
        fsync(self->parent_fd) != 0)
        return fail_system(error, self->file->name, "cannot be put in place");
    return CLIENT_OK;
}

int download_run(client_service *service, int directory_fd, const download_file *file,
                 const download_observer *observer, download_outcome *ret_outcome,
                 didi_error *error)
{
    assert(name_is_sound(file->name) && file->bytes >= 0);
    assert(strspn(file->sha256, "0123456789abcdef") == DOWNLOAD_SHA256_HEX);
    download self = {
        .service = service, .file = file, .observer = observer, .parent_fd = -1, .part_fd = -1};
    bool whole = false;
    int status = open_parent(directory_fd, file->name, &self.parent_fd, &self.base_name, error);
    if (status != CLIENT_OK)
        goto out;
    self.part_name =
        memory_format(".%s.%.*s.part", self.base_name, DOWNLOAD_DIGEST_IN_NAME, file->sha256);
    if (self.part_name == NULL) {
        status = client_fail_memory(error);
        goto out;
    }
    status = check_whole(&self, &whole, error);
    if (status != CLIENT_OK || whole) {
        *ret_outcome = DOWNLOAD_KEPT;
        goto out;
    }
    status = open_part(&self, error);
    bool resumed = self.have > 0;
    status = status != CLIENT_OK ? status : fetch_verified(&self, resumed, error);
    status = status != CLIENT_OK ? status : publish(&self, error);
    *ret_outcome = resumed ? DOWNLOAD_RESUMED : DOWNLOAD_FETCHED;
out:
    file_close(self.part_fd);
    file_close(self.parent_fd);
    free(self.part_name);
    return status;
}
