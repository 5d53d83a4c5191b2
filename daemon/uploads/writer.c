/* SPDX-License-Identifier: Apache-2.0 */
/* A request that brings a part of a file: from where the file ends, and nowhere else. */
#include "daemon/uploads/uploads_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { LASTING_BYTES = 64 << 20 /* of a file, whose digest takes more than a moment */ };

struct upload_writer {
    uploads *owner;
    upload_use use;
    bool in_use, is_part; /* is_part: what comes was announced by a Content-Range */
    int directory_fd, fd;
    char part[UPLOAD_NAME_BYTES + 8];
    char sha256[65];
    uint64_t bytes;       /* of the whole file */
    uint64_t offset, end; /* where the next byte goes, and where this request ends */
};

void upload_part_name(const char *name, char ret_part[UPLOAD_NAME_BYTES + 8])
{
    (void)snprintf(ret_part, UPLOAD_NAME_BYTES + 8, "%.*s.part", LIMIT_UPLOAD_FILE_NAME_BYTES,
                   name);
}

uint64_t upload_part_reached(uint64_t on_disk, uint64_t bytes)
{
    return on_disk == bytes && bytes > 0 ? bytes - 1 : on_disk;
}

/* What is to come must leave disk_free_min. */
static int check_room(const upload_writer *self, didi_error *error)
{
    struct statvfs disk;
    uint64_t floor = self->owner->settings->disk_free_min;
    uint64_t wanted = self->end - self->offset;
    if (fstatvfs(self->owner->hidden_fd, &disk) != 0)
        return DIDI_OK;
    uint64_t left = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (left >= floor && left - floor >= wanted)
        return DIDI_OK;
    return didi_fail(error, DIDI_DISK_FULL, NULL,
                     "%llu bytes are to come, the disk has %llu, and disk_free_min is %llu",
                     (unsigned long long)wanted, (unsigned long long)left,
                     (unsigned long long)floor);
}

static int check_range(upload_writer *self, const content_range *range, didi_error *error)
{
    if (range == NULL) {
        self->end = self->bytes;
        self->offset = 0;
        return DIDI_OK;
    }
    if ((range->total != CONTENT_RANGE_UNKNOWN && range->total != self->bytes) ||
        range->last >= self->bytes)
        return didi_fail(error, DIDI_INVALID, "Content-Range", "the file has %llu bytes",
                         (unsigned long long)self->bytes);
    if (range->first != self->offset)
        return didi_fail(error, DIDI_CONFLICT, NULL,
                         "%llu bytes of the file are there, and the part begins at %llu",
                         (unsigned long long)self->offset, (unsigned long long)range->first);
    self->is_part = true;
    self->end = range->last + 1;
    return DIDI_OK;
}

static int open_part(upload_writer *self, const char *id, const upload_file *file,
                     didi_error *error)
{
    struct stat facts;
    int status = file_open_directory(self->owner->hidden_fd, id, 1, &self->directory_fd, error);
    if (status == DIDI_OK)
        status = file_sync(self->owner->hidden_fd, ".uploads", error);
    if (status != DIDI_OK)
        return status;
    if (faccessat(self->directory_fd, file->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return didi_fail(error, DIDI_CONFLICT, NULL, "the file is whole already");
    self->fd =
        openat(self->directory_fd, self->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (self->fd < 0 || fstat(self->fd, &facts) != 0)
        return didi_fail_errno(error, errno, file->name, "cannot open the file");
    self->offset = upload_part_reached((uint64_t)facts.st_size, file->bytes);
    return file_sync(self->directory_fd, id, error);
}

int upload_writer_open(uploads *self, const char *id, const char *name, const content_range *range,
                       upload_writer **ret_writer, didi_error *error)
{
    store_upload row = {0};
    upload_request files = {0};
    const upload_file *file = NULL;
    upload_writer *writer = memory_zeroed(1, sizeof *writer);
    if (writer == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    *writer = (upload_writer){.owner = self, .directory_fd = -1, .fd = -1};
    int status = uploads_check_allowed(self, error);
    if (status == DIDI_OK)
        status = upload_read(self, id, &row, &files, error);
    if (status == DIDI_OK && (file = upload_request_find(&files, name)) == NULL)
        status = didi_fail(error, DIDI_NOT_FOUND, name, "the upload has no file '%.200s'", name);
    if (status == DIDI_OK)
        status = upload_use_begin(self, &writer->use, row.id, file->name, error);
    writer->in_use = status == DIDI_OK;
    if (status == DIDI_OK && row.state != UPLOAD_OPEN)
        status = didi_fail(error, DIDI_CONFLICT, NULL, "the upload is committed");
    if (status == DIDI_OK) {
        upload_part_name(file->name, writer->part);
        memcpy(writer->sha256, file->sha256, sizeof writer->sha256);
        writer->bytes = file->bytes;
        status = open_part(writer, row.id, file, error);
    }
    if (status == DIDI_OK)
        status = check_range(writer, range, error);
    if (status == DIDI_OK)
        status = check_room(writer, error);
    if (status == DIDI_OK && range == NULL && ftruncate(writer->fd, 0) != 0)
        status = didi_fail_errno(error, errno, name, "cannot begin the file anew");
    upload_request_clear(&files);
    store_upload_clear(&row);
    if (status == DIDI_OK)
        *ret_writer = writer;
    else
        upload_writer_close(writer);
    return status;
}

uint64_t upload_writer_room(const upload_writer *writer)
{
    return writer->end - writer->offset;
}

bool upload_writer_lasts(const upload_writer *writer)
{
    return writer->offset == writer->bytes && writer->bytes >= LASTING_BYTES;
}

int upload_writer_write(upload_writer *writer, const void *bytes, size_t count, didi_error *error)
{
    if (count > writer->end - writer->offset)
        return didi_fail(error, DIDI_INVALID, NULL, "the body is longer than what was announced");
    int status = file_pwrite_all(writer->fd, bytes, count, writer->offset, writer->part, error);
    writer->offset += status == DIDI_OK ? count : 0;
    return status;
}

static int is_stopping(void *context)
{
    const uploads *self = context;
    return atomic_load(&self->stopping);
}

/* The file is whole: it gets its name if it is what was announced. */
static int complete(upload_writer *self, didi_error *error)
{
    char sha256[65];
    int status =
        file_sha256(self->fd, is_stopping, self->owner, sha256, NULL, self->use.file, error);
    if (status == DIDI_OK && strcmp(sha256, self->sha256) != 0) {
        if (ftruncate(self->fd, 0) != 0)
            (void)unlinkat(self->directory_fd, self->part, 0);
        return didi_fail(error, DIDI_FORMAT, self->use.file,
                         "the file's SHA-256 is %s, not the one announced; send it again", sha256);
    }
    if (status == DIDI_OK)
        status =
            file_rename(self->directory_fd, self->part, self->directory_fd, self->use.file, error);
    return status == DIDI_OK ? file_sync(self->directory_fd, self->use.id, error) : status;
}

int upload_writer_finish(upload_writer *writer, upload_reached *ret_reached, didi_error *error)
{
    int status = file_sync(writer->fd, writer->use.file, error);
    if (status == DIDI_OK && writer->is_part && writer->offset != writer->end)
        status = didi_fail(error, DIDI_INVALID, NULL,
                           "the body is %llu bytes shorter than Content-Range says",
                           (unsigned long long)(writer->end - writer->offset));
    bool whole = writer->offset == writer->bytes;
    if (status == DIDI_OK && whole)
        status = complete(writer, error);
    if (status == DIDI_OK)
        status = store_upload_move(writer->owner->records, writer->use.id, UPLOAD_OPEN, error);
    if (status == DIDI_OK)
        *ret_reached = (upload_reached){writer->offset, whole};
    return status;
}

void upload_writer_close(upload_writer *writer)
{
    if (writer == NULL)
        return;
    file_close(writer->fd);
    file_close(writer->directory_fd);
    if (writer->in_use)
        upload_use_end(writer->owner, &writer->use);
    free(writer);
}
