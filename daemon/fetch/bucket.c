/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a model at S3: listed, read by ranges, hashed, moved as one directory. */
#include "daemon/fetch/bucket.h"

#include "daemon/fetch/hub.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { FILES_MAX = 10000, PIECE_BYTES = 8 << 20, PART_NAME_BYTES = 320 };

typedef struct bucket_file {
    char *name; /* plain */
    uint64_t bytes;
    char etag[S3_ETAG_BYTES];
} bucket_file;

typedef struct bucket_run {
    fetch_run *run;
    s3 *client;
    const char *url;
    char bucket[S3_BUCKET_BYTES], prefix[S3_KEY_BYTES];
    bool is_file; /* the prefix is a file's key */
    bucket_file *files;
    size_t count, room;
    int fd; /* of the directory that is filled */
} bucket_run;

int bucket_open_place(int directory_fd, const char *name, int *ret_fd, didi_error *error)
{
    char path[LIMIT_MODEL_NAME_BYTES + 1];
    int fd = fcntl(directory_fd, F_DUPFD_CLOEXEC, 3);
    int status = DIDI_OK;
    (void)snprintf(path, sizeof path, "%s", name);
    for (char *at = path; status == DIDI_OK && at != NULL;) {
        int next = -1;
        char *slash = strchr(at, '/');
        if (slash != NULL)
            *slash = '\0';
        status = file_open_directory(fd, at, 1, &next, error);
        file_close(fd);
        fd = next;
        at = slash != NULL ? slash + 1 : NULL;
    }
    if (status == DIDI_OK)
        *ret_fd = fd;
    return status;
}

/* A key below the prefix; those of folders below it, and of other files, are left. */
static int take_key(void *context, const char *key, uint64_t bytes, const char *etag,
                    didi_error *error)
{
    bucket_run *self = context;
    const char *name = self->is_file ? "model.safetensors" : key + strlen(self->prefix);
    if (strncmp(key, self->prefix, strlen(self->prefix)) != 0 ||
        (self->is_file && strcmp(key, self->prefix) != 0) || strchr(name, '/') != NULL ||
        strlen(name) > PART_NAME_BYTES - 80 || text_has_control(name, strlen(name)) ||
        !hub_wants(name))
        return DIDI_OK;
    bucket_file *grown = memory_grown(self->files, self->count, &self->room, sizeof *self->files);
    if (grown == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, self->url, "out of memory");
    self->files = grown;
    bucket_file *file = &self->files[self->count];
    *file = (bucket_file){.name = memory_string(name), .bytes = bytes};
    if (file->name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, self->url, "out of memory");
    (void)snprintf(file->etag, sizeof file->etag, "%s", etag);
    self->count++;
    self->run->total = memory_add(self->run->total, bytes);
    return DIDI_OK;
}

static int list_files(bucket_run *self, didi_error *error)
{
    const s3_object prefix = {.bucket = self->bucket, .key = self->prefix, .end = self->run->end};
    bool weights = false;
    int status = s3_list(self->client, &prefix, FILES_MAX, take_key, self, error);
    for (size_t i = 0; i < self->count; i++) {
        const char *end = strrchr(self->files[i].name, '.');
        weights |= end != NULL && strcmp(end, ".safetensors") == 0;
    }
    if (status == DIDI_OK && self->count == 0)
        return didi_fail(error, DIDI_NOT_FOUND, self->url, "there is no file of a model");
    if (status == DIDI_OK && !weights)
        return didi_fail(error, DIDI_FORMAT, self->url, "there is no safetensors file");
    return status;
}

/* Where a file lies until it is whole: of another ETag it is another file. */
static int part_of(const bucket_file *file, char ret_name[PART_NAME_BYTES], didi_error *error)
{
    char hex[65];
    int status = file_sha256_bytes(file->etag, strlen(file->etag), hex, error);
    if (status == DIDI_OK)
        (void)snprintf(ret_name, PART_NAME_BYTES, ".%.32s-%s", hex, file->name);
    return status;
}

static int check_room(const bucket_run *self, uint64_t left, didi_error *error)
{
    struct statvfs disk;
    if (fstatvfs(self->fd, &disk) != 0 || memory_multiply(disk.f_bavail, disk.f_frsize) >= left)
        return DIDI_OK;
    return didi_fail(error, DIDI_DISK_FULL, self->url,
                     "%llu bytes are to come, more than the fetch directory's disk has room for",
                     (unsigned long long)left);
}

static int read_rest(bucket_run *self, const s3_object *object, const bucket_file *file, int fd,
                     uint64_t at, didi_error *error)
{
    char *buffer = memory_aligned(PIECE_BYTES, 1);
    int status = buffer != NULL ? check_room(self, file->bytes - at, error)
                                : didi_fail(error, DIDI_NO_MEMORY, self->url, "out of memory");
    while (status == DIDI_OK && at < file->bytes) {
        const size_t bytes = (size_t)smaller(file->bytes - at, PIECE_BYTES);
        status = s3_read(self->client, object, file->etag, at, buffer, bytes, error);
        if (status == DIDI_OK)
            status = file_pwrite_all(fd, buffer, bytes, at, file->name, error);
        if (status != DIDI_OK)
            break;
        at += bytes;
        self->run->done += bytes;
        if (self->run->tell != NULL)
            self->run->tell(self->run->context, self->run);
    }
    free(buffer);
    return status;
}

/* What the server knows of the object must be true of the file. */
static int check_file(bucket_run *self, const s3_object *object, const bucket_file *file, int fd,
                      didi_error *error)
{
    s3_facts facts;
    char found[65];
    int status = s3_head(self->client, object, &facts, error);
    if (status == DIDI_OK && (facts.bytes != file->bytes || strcmp(facts.etag, file->etag) != 0))
        return didi_fail(error, DIDI_CHANGED, file->name,
                         "%s was replaced at S3 while it was fetched: fetch again", file->name);
    if (status == DIDI_OK && facts.sha256[0] != '\0') {
        status = file_sha256(fd, NULL, NULL, found, NULL, file->name, error);
        if (status == DIDI_OK && strcmp(found, facts.sha256) != 0)
            status = didi_fail(error, DIDI_FORMAT, file->name,
                               "the file has the digest %s, it should be %s: fetch again", found,
                               facts.sha256);
    }
    return status;
}

static int fetch_file(bucket_run *self, const bucket_file *file, didi_error *error)
{
    char part[PART_NAME_BYTES];
    struct stat facts;
    char *key = self->is_file ? memory_string(self->prefix)
                              : memory_format("%s%s", self->prefix, file->name);
    int fd = -1;
    int status = key != NULL ? part_of(file, part, error)
                             : didi_fail(error, DIDI_NO_MEMORY, self->url, "out of memory");
    const s3_object object = {.bucket = self->bucket, .key = key, .end = self->run->end};
    if (status == DIDI_OK && fstatat(self->fd, file->name, &facts, AT_SYMLINK_NOFOLLOW) == 0) {
        self->run->done += file->bytes; /* an earlier attempt had it whole */
        free(key);
        return DIDI_OK;
    }
    if (status == DIDI_OK) {
        fd = openat(self->fd, part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
        if (fd < 0 || fstat(fd, &facts) != 0)
            status = didi_fail_errno(error, errno, file->name, "cannot create a file for it");
    }
    if (status == DIDI_OK) {
        const uint64_t at = smaller((uint64_t)facts.st_size, file->bytes);
        self->run->done += at;
        status = read_rest(self, &object, file, fd, at, error);
    }
    if (status == DIDI_OK)
        status = check_file(self, &object, file, fd, error);
    if (status == DIDI_FORMAT || status == DIDI_CHANGED)
        (void)unlinkat(self->fd, part, 0);
    if (status == DIDI_OK)
        status = file_sync(fd, file->name, error);
    if (status == DIDI_OK)
        status = file_rename(self->fd, part, self->fd, file->name, error);
    file_close(fd);
    free(key);
    return status;
}

/* The whole directory becomes the model's. */
static int publish(const bucket_run *self, const char *name, const char *id, didi_error *error)
{
    char parent[LIMIT_MODEL_NAME_BYTES + 1];
    const char *last = strrchr(name, '/');
    int fd = -1;
    (void)snprintf(parent, sizeof parent, "%.*s", last != NULL ? (int)(last - name) : 0, name);
    last = last != NULL ? last + 1 : name;
    int status = file_sync(self->fd, name, error);
    if (status == DIDI_OK && parent[0] != '\0')
        status = bucket_open_place(self->run->directory_fd, parent, &fd, error);
    const int to = parent[0] != '\0' ? fd : self->run->directory_fd;
    if (status == DIDI_OK &&
        renameat2(self->run->temporary_fd, id, to, last, RENAME_NOREPLACE) != 0)
        status = errno == EEXIST || errno == ENOTEMPTY
                     ? didi_fail(error, DIDI_CONFLICT, name,
                                 "there is a model \"%s\" already, or a directory", name)
                     : didi_fail_errno(error, errno, name, "cannot move the model to its place");
    if (status == DIDI_OK)
        status = file_sync(to, name, error);
    file_close(fd);
    return status;
}

int bucket_fetch(fetch_run *run, s3 *client, const char *name, const char *id, const char *url,
                 didi_error *error)
{
    static const char ending[] = ".safetensors";
    bucket_run self = {.run = run, .client = client, .url = url, .fd = -1};
    assert(run->temporary_fd >= 0);
    int status = s3_parse_url(url, "/source", self.bucket, self.prefix, error);
    const size_t length = status == DIDI_OK ? strlen(self.prefix) : 0;
    self.is_file =
        length >= sizeof ending && strcmp(self.prefix + length - (sizeof ending - 1), ending) == 0;
    if (status == DIDI_OK && !self.is_file && length + 1 < sizeof self.prefix)
        (void)snprintf(self.prefix + length, sizeof self.prefix - length, "/");
    if (status == DIDI_OK)
        status = list_files(&self, error);
    if (status == DIDI_OK)
        status = file_open_directory(run->temporary_fd, id, 1, &self.fd, error);
    for (size_t i = 0; i < self.count && status == DIDI_OK; i++)
        status = fetch_file(&self, &self.files[i], error);
    if (status == DIDI_OK)
        status = publish(&self, name, id, error);
    for (size_t i = 0; i < self.count; i++)
        free(self.files[i].name);
    free(self.files);
    file_close(self.fd);
    return status;
}
