/* SPDX-License-Identifier: Apache-2.0 */
/* A record made anew from the objects of a job: their digests by pieces are known nowhere else, so
 * all of them are read. */
#include "daemon/s3/deposit.h"
#include "daemon/s3/deposit_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct remote_files {
    const deposit *record;
    const deposit_way *way;
} remote_files;

static int remote_open(void *context, deposit_file *file, uint64_t *ret_bytes, didi_error *error)
{
    const remote_files *self = context;
    s3_facts facts;
    int status = deposit_head(self->record, self->way, file->name, &facts, error);
    if (status == DIDI_OK && facts.etag[0] == '\0')
        status = didi_fail(error, DIDI_STORAGE, file->name, "S3 gave no ETag");
    if (status != DIDI_OK)
        return status;
    memcpy(file->etag, facts.etag, sizeof facts.etag);
    *ret_bytes = facts.bytes;
    return DIDI_OK;
}

static int remote_read(void *context, const deposit_file *file, char *buffer, size_t bytes,
                       uint64_t at, didi_error *error)
{
    const remote_files *self = context;
    char key[S3_KEY_BYTES];
    s3_object object;
    int status = deposit_object(self->record, self->way, file->name, key, &object, error);
    if (status == DIDI_OK)
        status = s3_read(self->way->client, &object, file->etag, at, buffer, bytes, error);
    return status == DIDI_NOT_FOUND ? deposit_gone(file->name, error) : status;
}

typedef struct manifest_object {
    char *text;
    size_t bytes;
    int64_t modified;
    char sha256[65];
} manifest_object;

/* The caller frees the text, which has a NUL behind it. */
static int read_manifest(const deposit *record, const deposit_way *way,
                         manifest_object *ret_manifest, didi_error *error)
{
    char key[S3_KEY_BYTES];
    s3_object object;
    s3_facts facts = {0};
    int status = deposit_object(record, way, DEPOSIT_MANIFEST, key, &object, error);
    if (status == DIDI_OK)
        status = s3_head(way->client, &object, &facts, error);
    if (status == DIDI_OK && facts.bytes > DEPOSIT_MANIFEST_BYTES_MAX)
        status = didi_fail(error, DIDI_FORMAT, DEPOSIT_MANIFEST, "the manifest is too long");
    if (status != DIDI_OK)
        return status;
    manifest_object found = {.text = memory_zeroed((size_t)facts.bytes + 1, 1),
                             .bytes = (size_t)facts.bytes,
                             .modified = facts.modified};
    status = found.text != NULL
                 ? s3_read(way->client, &object, facts.etag, 0, found.text, found.bytes, error)
                 : didi_fail(error, DIDI_NO_MEMORY, DEPOSIT_MANIFEST, "out of memory");
    if (status == DIDI_OK)
        status = file_sha256_bytes(found.text, found.bytes, found.sha256, error);
    if (status == DIDI_OK && facts.sha256[0] != '\0' && strcmp(facts.sha256, found.sha256) != 0)
        status = didi_fail(error, DIDI_CHANGED, DEPOSIT_MANIFEST,
                           "the manifest at S3 is not what was stored: its SHA-256 is another");
    if (status == DIDI_OK)
        *ret_manifest = found;
    else
        free(found.text);
    return status;
}

static int write_manifest(int job_fd, const manifest_object *manifest, didi_error *error)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = manifest->modified}};
    int artifacts_fd = -1;
    int status = file_open_directory(job_fd, "artifacts", 1, &artifacts_fd, error);
    if (status == DIDI_OK)
        status = file_sync(job_fd, "artifacts", error);
    if (status == DIDI_OK)
        status = file_write_durable(artifacts_fd, DEPOSIT_MANIFEST, manifest->text, manifest->bytes,
                                    error);
    if (status == DIDI_OK && manifest->modified > 0)
        (void)utimensat(artifacts_fd, DEPOSIT_MANIFEST, times, AT_SYMLINK_NOFOLLOW);
    file_close(artifacts_fd);
    return status;
}

int deposit_rebuild(const char *bucket, const char *prefix, const deposit_way *way,
                    didi_error *error)
{
    manifest_object manifest = {0};
    deposit *self = memory_zeroed(1, sizeof *self);
    remote_files files = {self, way};
    const deposit_source source = {&files, remote_open, remote_read};
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, DEPOSIT_RECORD, "out of memory");
    (void)snprintf(self->bucket, sizeof self->bucket, "%s", bucket);
    (void)snprintf(self->prefix, sizeof self->prefix, "%s", prefix);
    int status = read_manifest(self, way, &manifest, error);
    if (status == DIDI_OK)
        status = deposit_list(self, manifest.text, manifest.bytes, error);
    if (status == DIDI_OK)
        status = deposit_digest(self, way->job_fd, &source, way->end, error);
    if (status == DIDI_OK && strcmp(self->files[self->count - 1].sha256, manifest.sha256) != 0)
        status = didi_fail(error, DIDI_CHANGED, DEPOSIT_MANIFEST,
                           "the manifest was replaced at S3 while it was read");
    self->complete = status == DIDI_OK;
    if (status == DIDI_OK)
        status = deposit_write(self, way->job_fd, error);
    if (status == DIDI_OK)
        status = write_manifest(way->job_fd, &manifest, error);
    free(manifest.text);
    deposit_free(self);
    return status;
}
