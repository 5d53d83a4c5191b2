/* SPDX-License-Identifier: Apache-2.0 */
/* Durable file operations: whole reads and writes, publication by rename. */
#include "src/base/file.h"

#include "src/base/fault.h"
#include "src/base/memory.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    REMOVE_DEPTH_MAX = 16,
    OPEN_ATTEMPTS_MAX = 16,
    TEMPORARY_NAME_BYTES = 32,
    IO_BYTES_MAX = 1 << 30, /* of one system call */
};

/* True if [offset, offset + count) is a range of file positions. */
static bool range_fits(uint64_t offset, size_t count)
{
    uint64_t end = 0;
    return !__builtin_add_overflow(offset, (uint64_t)count, &end) && end <= INT64_MAX;
}

void file_close(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

int file_pread_all(int fd, void *buffer, size_t count, uint64_t offset, const char *subject,
                   didi_error *error)
{
    assert(fd >= 0 && (buffer != NULL || count == 0));
    if (!range_fits(offset, count))
        return didi_fail(error, DIDI_IO, subject, "read of %zu bytes at %llu is out of range",
                         count, (unsigned long long)offset);
    char *target = buffer;
    while (count > 0) {
        ssize_t got = pread(fd, target, count < IO_BYTES_MAX ? count : IO_BYTES_MAX, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return didi_fail_errno(error, errno, subject, "cannot read");
        if (got == 0)
            return didi_fail(error, DIDI_CHANGED, subject,
                             "the file ends at byte %llu, %zu bytes before it should",
                             (unsigned long long)offset, count);
        target += got;
        offset += (uint64_t)got;
        count -= (size_t)got;
    }
    return DIDI_OK;
}

int file_pwrite_all(int fd, const void *buffer, size_t count, uint64_t offset, const char *subject,
                    didi_error *error)
{
    assert(fd >= 0 && (buffer != NULL || count == 0));
    if (!range_fits(offset, count))
        return didi_fail(error, DIDI_IO, subject, "write of %zu bytes at %llu is out of range",
                         count, (unsigned long long)offset);
    const char *source = buffer;
    while (count > 0) {
        int fault = fault_at(FAULT_PWRITE);
        if (fault != 0)
            return didi_fail_errno(error, fault, subject, "cannot write");
        ssize_t put =
            pwrite(fd, source, count < IO_BYTES_MAX ? count : IO_BYTES_MAX, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return didi_fail_errno(error, errno, subject, "cannot write");
        if (put == 0)
            return didi_fail(error, DIDI_IO, subject, "cannot write: nothing was taken");
        source += put;
        offset += (uint64_t)put;
        count -= (size_t)put;
    }
    return DIDI_OK;
}

int file_sync(int fd, const char *subject, didi_error *error)
{
    int fault = fault_at(FAULT_FSYNC);
    if (fault != 0)
        return didi_fail_errno(error, fault, subject, "cannot make durable");
    if (fsync(fd) != 0)
        return didi_fail_errno(error, errno, subject, "cannot make durable");
    return DIDI_OK;
}

int file_rename(int from_fd, const char *from, int to_fd, const char *to, didi_error *error)
{
    int fault = fault_at(FAULT_RENAME);
    if (fault != 0)
        return didi_fail_errno(error, fault, to, "cannot rename %s to this", from);
    if (renameat(from_fd, from, to_fd, to) != 0)
        return didi_fail_errno(error, errno, to, "cannot rename %s to this", from);
    return DIDI_OK;
}

static int open_beneath(int directory_fd, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;
    int attempts = 0;
    do
        fd = syscall(SYS_openat2, directory_fd, name, &how, sizeof(how));
    while (fd < 0 && (errno == EAGAIN || errno == EINTR) && ++attempts < OPEN_ATTEMPTS_MAX);
    /* Old kernels and strict system call filters: then follow no link at all. */
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
    return (int)fd;
}

static bool name_is_plain(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* Where the kernel finds what is open at fd, all links resolved. */
static bool place_of(int fd, char place[PATH_MAX])
{
    char magic[32];
    (void)snprintf(magic, sizeof magic, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(magic, place, PATH_MAX - 1);
    place[length > 0 ? length : 0] = '\0';
    return place[0] == '/';
}

static bool lies_within(const char *place, const file_bounds *bounds)
{
    char bound[PATH_MAX];
    for (size_t i = 0; i < bounds->count; i++) {
        size_t length = place_of(bounds->fds[i], bound) ? strlen(bound) : 0;
        if (length == 1 ||
            (length > 0 && strncmp(place, bound, length) == 0 && place[length] == '/'))
            return true;
    }
    return false;
}

/* The link is followed without opening what it leads to (O_PATH): a path that is checked first and
 * opened then could be another in between. */
static int open_target(int directory_fd, const char *name, const file_bounds *bounds)
{
    char place[PATH_MAX];
    char magic[32];
    struct stat facts;
    int fd = -1;
    int target = openat(directory_fd, name, O_PATH | O_CLOEXEC);
    if (target < 0)
        return -1;
    if (!place_of(target, place) || !lies_within(place, bounds)) {
        errno = EXDEV;
    } else if (fstat(target, &facts) == 0 && !S_ISREG(facts.st_mode)) {
        errno = EISDIR;
    } else {
        (void)snprintf(magic, sizeof magic, "/proc/self/fd/%d", target);
        fd = open(magic, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    }
    int saved = errno;
    close(target);
    errno = saved;
    return fd;
}

/* Tells where a link leads that could not be followed for the reason in errno. */
static int fail_open(int directory_fd, const char *name, bool bounded, const char *subject,
                     didi_error *error)
{
    int reason = errno;
    char target[DIDI_ERROR_SUBJECT_BYTES_MAX];
    ssize_t length = readlinkat(directory_fd, name, target, sizeof target - 1);
    target[length > 0 ? length : 0] = '\0';
    if (reason == EISDIR)
        return didi_fail(error, DIDI_FORMAT, subject, "not a regular file");
    if (length > 0 && reason == ENOENT)
        return didi_fail(error, DIDI_NOT_FOUND, subject,
                         "a link to '%s', where there is nothing: fetch the file again", target);
    if (bounded && reason == ELOOP)
        return didi_fail(error, DIDI_FORMAT, subject, "a loop of links, from '%s'", target);
    if (bounded && reason == EXDEV)
        return didi_fail(
            error, DIDI_FORMAT, subject,
            "a link to '%s', which is not below a model directory: make it one, or put "
            "the file itself in the link's place",
            target);
    if (reason == EXDEV || reason == ELOOP)
        return didi_fail(error, DIDI_FORMAT, subject,
                         "a link that leaves its directory is not followed");
    return didi_fail_errno(error, reason, subject, "cannot open");
}

int file_open_within(int directory_fd, const char *name, const file_bounds *bounds,
                     const char *subject, int *ret_fd, didi_error *error)
{
    assert(directory_fd >= 0 && name != NULL);
    bool bounded = bounds != NULL && bounds->count > 0;
    if (!name_is_plain(name))
        return didi_fail(error, DIDI_FORMAT, subject, "'%s' is not a plain file name", name);
    int fd = open_beneath(directory_fd, name);
    if (fd < 0 && bounded && (errno == EXDEV || errno == ELOOP))
        fd = open_target(directory_fd, name, bounds);
    if (fd < 0)
        return fail_open(directory_fd, name, bounded, subject, error);
    struct stat facts;
    int status = DIDI_OK;
    if (fstat(fd, &facts) != 0)
        status = didi_fail_errno(error, errno, subject, "cannot stat");
    else if (!S_ISREG(facts.st_mode))
        status = didi_fail(error, DIDI_FORMAT, subject, "not a regular file");
    if (status != DIDI_OK)
        close(fd);
    else
        *ret_fd = fd;
    return status;
}

int file_open_beneath(int directory_fd, const char *name, const char *subject, int *ret_fd,
                      didi_error *error)
{
    return file_open_within(directory_fd, name, NULL, subject, ret_fd, error);
}

int file_read_text_fd(int fd, const char *subject, size_t bytes_max, char **ret_text,
                      size_t *ret_bytes, didi_error *error)
{
    assert(fd >= 0 && bytes_max < SIZE_MAX);
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return didi_fail_errno(error, errno, subject, "cannot stat");
    if (!S_ISREG(facts.st_mode))
        return didi_fail(error, DIDI_FORMAT, subject, "not a regular file");
    if (facts.st_size < 0 || (uint64_t)facts.st_size > bytes_max)
        return didi_fail(error, DIDI_FORMAT, subject, "%lld bytes, more than the %zu allowed",
                         (long long)facts.st_size, bytes_max);
    size_t bytes = (size_t)facts.st_size;
    char *text = memory_resized(NULL, bytes + 1, 1);
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, subject, "no memory for %zu bytes of text", bytes);
    int status = file_pread_all(fd, text, bytes, 0, subject, error);
    if (status != DIDI_OK) {
        free(text);
        return status;
    }
    text[bytes] = '\0';
    *ret_text = text;
    *ret_bytes = bytes;
    return DIDI_OK;
}

int file_read_text(int directory_fd, const char *name, size_t bytes_max, char **ret_text,
                   size_t *ret_bytes, didi_error *error)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return didi_fail_errno(error, errno, name, "cannot open");
    int status = file_read_text_fd(fd, name, bytes_max, ret_text, ret_bytes, error);
    close(fd);
    return status;
}

static int create_temporary(int directory_fd, char name[TEMPORARY_NAME_BYTES], int *ret_fd,
                            const char *subject, didi_error *error)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return didi_fail_errno(error, errno, subject, "no random bytes for a temporary name");
    snprintf(name, TEMPORARY_NAME_BYTES, ".tmp-%016llx", (unsigned long long)random);
    int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0)
        return didi_fail_errno(error, errno, subject, "cannot create a temporary file beside it");
    *ret_fd = fd;
    return DIDI_OK;
}

int file_write_durable(int directory_fd, const char *name, const void *data, size_t bytes,
                       didi_error *error)
{
    assert(data != NULL || bytes == 0);
    if (!name_is_plain(name))
        return didi_fail(error, DIDI_INVALID, name, "not a plain file name");
    char temporary[TEMPORARY_NAME_BYTES];
    int fd = -1;
    int status = create_temporary(directory_fd, temporary, &fd, name, error);
    if (status != DIDI_OK)
        return status;
    status = file_pwrite_all(fd, data, bytes, 0, name, error);
    if (status == DIDI_OK)
        status = file_sync(fd, name, error);
    if (close(fd) != 0 && status == DIDI_OK)
        status = didi_fail_errno(error, errno, name, "cannot close");
    if (status == DIDI_OK)
        status = file_rename(directory_fd, temporary, directory_fd, name, error);
    if (status != DIDI_OK) {
        unlinkat(directory_fd, temporary, 0);
        return status;
    }
    return file_sync(directory_fd, name, error);
}

int file_open_directory(int parent_fd, const char *name, int create, int *ret_fd, didi_error *error)
{
    if (create && mkdirat(parent_fd, name, 0750) != 0 && errno != EEXIST)
        return didi_fail_errno(error, errno, name, "cannot create the directory");
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return didi_fail_errno(error, errno, name, "cannot open the directory");
    *ret_fd = fd;
    return DIDI_OK;
}

int file_each_entry(int directory_fd,
                    int (*visit)(void *context, const char *name, didi_error *error), void *context,
                    didi_error *error)
{
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    int status = DIDI_OK;
    if (directory == NULL) {
        status = didi_fail_errno(error, errno, NULL, "cannot list a directory");
        file_close(fd);
        return status;
    }
    while (status == DIDI_OK) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            if (errno != 0)
                status = didi_fail_errno(error, errno, NULL, "cannot list a directory");
            break;
        }
        if (name_is_plain(entry->d_name))
            status = visit(context, entry->d_name, error);
    }
    closedir(directory);
    return status;
}

typedef struct removal {
    int parent_fd, depth;
} removal;

static int remove_entry(void *context, const char *name, didi_error *error)
{
    const removal *self = context;
    if (unlinkat(self->parent_fd, name, 0) == 0 || errno == ENOENT)
        return DIDI_OK;
    if (errno != EISDIR && errno != EPERM)
        return didi_fail_errno(error, errno, name, "cannot remove");
    if (self->depth >= REMOVE_DEPTH_MAX)
        return didi_fail(error, DIDI_INVALID, name, "directories deeper than %d are not removed",
                         (int)REMOVE_DEPTH_MAX);
    int fd = openat(self->parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return didi_fail_errno(error, errno, name, "cannot remove");
    int status = file_each_entry(fd, remove_entry, &(removal){fd, self->depth + 1}, error);
    close(fd);
    if (status == DIDI_OK && unlinkat(self->parent_fd, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        status = didi_fail_errno(error, errno, name, "cannot remove");
    return status;
}

int file_remove_tree(int parent_fd, const char *name, didi_error *error)
{
    const char *component = name;
    for (;;) {
        size_t length = strcspn(component, "/");
        if (length == 0 || (length == 1 && component[0] == '.') ||
            (length == 2 && component[0] == '.' && component[1] == '.'))
            return didi_fail(error, DIDI_INVALID, name, "not a name to remove");
        if (component[length] == '\0')
            break;
        component += length + 1;
    }
    return remove_entry(&(removal){parent_fd, 0}, name, error);
}

int file_remove_contents(int directory_fd, didi_error *error)
{
    return file_each_entry(directory_fd, remove_entry, &(removal){directory_fd, 0}, error);
}
