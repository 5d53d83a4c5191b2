/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a job on their way to S3 and back. */
#include "daemon/s3/deposit.h"
#include "daemon/s3/deposit_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PART_STEP_BYTES = 1 << 20, HASH_BYTES = 1 << 20 };

static const char part_name[] = ".s3-part"; /* below artifacts/; a new one begins afresh */

int deposit_object(const deposit *self, const deposit_way *way, const char *name,
                   char key[S3_KEY_BYTES], s3_object *ret_object, didi_error *error)
{
    const int length = snprintf(key, S3_KEY_BYTES, "%s/%s", self->prefix, name);
    *ret_object =
        (s3_object){.bucket = self->bucket, .key = key, .end = way->end, .quick = way->quick};
    if (length > 0 && length < S3_KEY_BYTES)
        return DIDI_OK;
    return didi_fail(error, DIDI_INVALID, "artifact_store",
                     "the key of %s is longer than 1024 bytes", name);
}

int deposit_gone(const char *name, didi_error *error)
{
    return didi_fail(error, DIDI_CHANGED, name, "%s is gone from S3", name);
}

int deposit_head(const deposit *self, const deposit_way *way, const char *name, s3_facts *ret_facts,
                 didi_error *error)
{
    char key[S3_KEY_BYTES];
    s3_object object;
    int status = deposit_object(self, way, name, key, &object, error);
    if (status == DIDI_OK)
        status = s3_head(way->client, &object, ret_facts, error);
    return status == DIDI_NOT_FOUND ? deposit_gone(name, error) : status;
}

/* ---- there ---- */

/* One file that is being stored. */
typedef struct sending {
    deposit *record;
    deposit_file *file;
    const deposit_way *way;
    const s3_object *object;
    int fd;
} sending;

/* An object that is there already, from a call whose end nobody noted. */
static bool is_there(const sending *self, char ret_etag[S3_ETAG_BYTES])
{
    s3_facts facts;
    if (s3_head(self->way->client, self->object, &facts, NULL) != DIDI_OK ||
        facts.bytes != self->file->bytes || facts.etag[0] == '\0' ||
        strcmp(facts.sha256, self->file->sha256) != 0)
        return false;
    memcpy(ret_etag, facts.etag, sizeof facts.etag);
    return true;
}

/* Forgets parts that lead nowhere any more. */
static void forget_parts(deposit_file *file)
{
    free(file->upload);
    free(file->parts);
    file->upload = NULL;
    file->parts = NULL;
    file->part_count = 0;
    file->part_bytes = 0;
}

static int note_stored(const sending *self, const char *etag, didi_error *error)
{
    int status = fault_check(FAULT_STORED, self->file->name, error);
    if (status != DIDI_OK)
        return status;
    forget_parts(self->file);
    (void)snprintf(self->file->etag, sizeof self->file->etag, "%s", etag);
    return deposit_write(self->record, self->way->job_fd, error);
}

/* Digest of a part of the file: pieces that `next` gives. */
typedef struct span {
    const sending *of;
    uint64_t at, end;
    char *buffer;
} span;

static int next_of_span(void *context, const void **ret_bytes, size_t *ret_count, didi_error *error)
{
    span *self = context;
    const size_t bytes = (size_t)smaller(self->end - self->at, HASH_BYTES);
    int status =
        file_pread_all(self->of->fd, self->buffer, bytes, self->at, self->of->file->name, error);
    self->at += bytes;
    *ret_bytes = self->buffer;
    *ret_count = bytes;
    return status;
}

static int send_part(const sending *self, char *buffer, didi_error *error)
{
    deposit_file *file = self->file;
    s3_part *part = &file->parts[file->part_count];
    const uint64_t offset = file->part_count * file->part_bytes;
    const uint64_t bytes = smaller(file->bytes - offset, file->part_bytes);
    span all = {.of = self, .at = offset, .end = offset + bytes, .buffer = buffer};
    const s3_body body = {self->fd, offset, bytes, part->sha256};
    int status = file_sha256_pieces(next_of_span, &all, part->sha256, error);
    if (status == DIDI_OK)
        status = fault_check(FAULT_STORE, file->name, error);
    if (status == DIDI_OK)
        status = s3_upload_part(self->way->client, self->object, file->upload,
                                (unsigned)file->part_count + 1, &body, part->etag, error);
    if (status == DIDI_OK)
        status = fault_check(FAULT_STORED, file->name, error);
    if (status != DIDI_OK)
        return status;
    file->part_count++;
    return deposit_write(self->record, self->way->job_fd, error);
}

/* Room for all parts, of which those that are stored stay. */
static int begin_parts(const sending *self, uint64_t part_bytes, didi_error *error)
{
    deposit_file *file = self->file;
    char id[S3_UPLOAD_BYTES];
    int status = DIDI_OK;
    if (file->upload == NULL) {
        /* What died between a beginning and its note would stay at the server for good. */
        status = s3_upload_abort_all(self->way->client, self->object, error);
        if (status == DIDI_OK)
            status = s3_upload_begin(self->way->client, self->object, file->sha256, id, error);
        if (status != DIDI_OK)
            return status;
        const uint64_t least = file->bytes / (S3_PARTS_MAX - 1) / PART_STEP_BYTES + 1;
        forget_parts(file);
        file->upload = memory_string(id);
        file->part_bytes = larger(part_bytes, least * PART_STEP_BYTES);
        if (file->upload == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, file->name, "out of memory");
        status = deposit_write(self->record, self->way->job_fd, error);
    }
    const uint64_t count = file->bytes / file->part_bytes + (file->bytes % file->part_bytes > 0);
    s3_part *grown = count <= S3_PARTS_MAX && count >= file->part_count
                         ? memory_resized(file->parts, (size_t)count, sizeof *grown)
                         : NULL;
    if (grown == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, file->name, "no room for the parts");
    memset(grown + file->part_count, 0, ((size_t)count - file->part_count) * sizeof *grown);
    file->parts = grown;
    return status;
}

static int send_parts(const sending *self, uint64_t part_bytes, char ret_etag[S3_ETAG_BYTES],
                      didi_error *error)
{
    deposit_file *file = self->file;
    char *buffer = memory_aligned(HASH_BYTES, 1);
    int status = buffer != NULL ? begin_parts(self, part_bytes, error)
                                : didi_fail(error, DIDI_NO_MEMORY, file->name, "out of memory");
    while (status == DIDI_OK && file->part_count * file->part_bytes < file->bytes)
        status = send_part(self, buffer, error);
    if (status == DIDI_OK)
        status = s3_upload_end(self->way->client, self->object, file->upload, file->parts,
                               file->part_count, ret_etag, error);
    free(buffer);
    return status;
}

static int send_large(const sending *self, uint64_t part_bytes, char ret_etag[S3_ETAG_BYTES],
                      didi_error *error)
{
    const bool resumed = self->file->upload != NULL;
    int status = send_parts(self, part_bytes, ret_etag, error);
    if (status != DIDI_NOT_FOUND || self->file->upload == NULL)
        return status;
    /* The upload is not there: it was ended well and nobody noted it, or the server dropped it. */
    if (is_there(self, ret_etag))
        return DIDI_OK;
    forget_parts(self->file);
    return resumed ? send_parts(self, part_bytes, ret_etag, error) : status;
}

static int send_file(deposit *self, deposit_file *file, const deposit_way *way, uint64_t part_bytes,
                     int artifacts_fd, didi_error *error)
{
    char key[S3_KEY_BYTES];
    char etag[S3_ETAG_BYTES] = "";
    s3_object object;
    if (deposit_object(self, way, file->name, key, &object, error) != DIDI_OK)
        return DIDI_INVALID;
    sending now = {.record = self, .file = file, .way = way, .object = &object};
    now.fd = openat(artifacts_fd, file->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (now.fd < 0)
        return didi_fail_errno(error, errno, file->name, "cannot open %s", file->name);
    const s3_body body = {now.fd, 0, file->bytes, file->sha256};
    int status = fault_check(FAULT_STORE, file->name, error);
    if (status == DIDI_OK && file->upload == NULL && is_there(&now, etag))
        ; /* stored before */
    else if (status == DIDI_OK && file->bytes > part_bytes)
        status = send_large(&now, part_bytes, etag, error);
    else if (status == DIDI_OK)
        status = s3_put(way->client, &object, &body, etag, error);
    if (status == DIDI_OK)
        status = note_stored(&now, etag, error);
    file_close(now.fd);
    return status;
}

int deposit_send(deposit *self, const deposit_way *way, uint64_t part_bytes, didi_error *error)
{
    int artifacts_fd = -1;
    assert(part_bytes >= S3_PART_BYTES_MIN);
    if (self->complete)
        return DIDI_OK;
    int status = file_open_directory(way->job_fd, "artifacts", 0, &artifacts_fd, error);
    for (size_t i = 0; i < self->count && status == DIDI_OK; i++)
        if (self->files[i].etag[0] == '\0')
            status = send_file(self, &self->files[i], way, part_bytes, artifacts_fd, error);
    file_close(artifacts_fd);
    if (status != DIDI_OK)
        return status;
    self->complete = true;
    return deposit_write(self, way->job_fd, error);
}

/* ---- and back ---- */

int deposit_check(const deposit *self, const deposit_way *way, const deposit_file *file,
                  didi_error *error)
{
    s3_facts facts;
    int status = deposit_head(self, way, file->name, &facts, error);
    if (status == DIDI_OK && (facts.bytes != file->bytes || strcmp(facts.etag, file->etag) != 0 ||
                              (facts.sha256[0] != '\0' && strcmp(facts.sha256, file->sha256) != 0)))
        return didi_fail(error, DIDI_CHANGED, file->name,
                         "%s was replaced at S3: it has %llu bytes and the ETag %.80s, stored were "
                         "%llu bytes with %s",
                         file->name, (unsigned long long)facts.bytes, facts.etag,
                         (unsigned long long)file->bytes, file->etag);
    return status;
}

int deposit_piece(const deposit *self, const deposit_way *way, const deposit_file *file,
                  uint64_t piece, char *buffer, size_t *ret_bytes, didi_error *error)
{
    char key[S3_KEY_BYTES];
    char wanted[65];
    char found[65];
    s3_object object;
    assert(piece < deposit_pieces_of(file->bytes));
    const uint64_t at = piece * DEPOSIT_PIECE_BYTES;
    const size_t bytes = (size_t)smaller(file->bytes - at, DEPOSIT_PIECE_BYTES);
    if (deposit_object(self, way, file->name, key, &object, error) != DIDI_OK)
        return DIDI_INVALID;
    int status = deposit_piece_digest(way->job_fd, file, piece, wanted, error);
    if (status != DIDI_OK)
        return status;
    for (unsigned tries = 0; tries < DEPOSIT_TRIES_MAX; tries++) {
        status = s3_read(way->client, &object, file->etag, at, buffer, bytes, error);
        if (status == DIDI_NOT_FOUND)
            return deposit_gone(file->name, error);
        if (status == DIDI_OK)
            status = file_sha256_bytes(buffer, bytes, found, error);
        if (status != DIDI_OK)
            return status;
        if (strcmp(found, wanted) == 0) {
            *ret_bytes = bytes;
            return DIDI_OK;
        }
    }
    return didi_fail(error, DIDI_CHANGED, file->name,
                     "%s was changed at S3: bytes from %llu on are not those that were stored",
                     file->name, (unsigned long long)at);
}

static int restore_into(const deposit *self, const deposit_way *way, const deposit_file *file,
                        int fd, didi_error *error)
{
    char *buffer = memory_aligned(DEPOSIT_PIECE_BYTES, 1);
    size_t bytes = 0;
    int status =
        buffer != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, file->name, "out of memory");
    for (uint64_t piece = 0; piece < deposit_pieces_of(file->bytes) && status == DIDI_OK; piece++) {
        status = deposit_piece(self, way, file, piece, buffer, &bytes, error);
        if (status == DIDI_OK)
            status =
                file_pwrite_all(fd, buffer, bytes, piece * DEPOSIT_PIECE_BYTES, file->name, error);
    }
    free(buffer);
    return status;
}

static int restore_file(const deposit *self, const deposit_way *way, const deposit_file *file,
                        int artifacts_fd, didi_error *error)
{
    int fd = openat(artifacts_fd, part_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                    0640);
    int folder_fd = -1;
    int status = fd >= 0 ? restore_into(self, way, file, fd, error)
                         : didi_fail_errno(error, errno, file->name, "cannot create a file");
    if (status == DIDI_OK)
        status = file_sync(fd, file->name, error);
    if (status == DIDI_OK && strncmp(file->name, "experts/", 8) == 0)
        status = file_open_directory(artifacts_fd, "experts", 1, &folder_fd, error);
    if (status == DIDI_OK)
        status = file_rename(artifacts_fd, part_name, artifacts_fd, file->name, error);
    if (fd >= 0 && status != DIDI_OK)
        (void)unlinkat(artifacts_fd, part_name, 0);
    file_close(folder_fd);
    file_close(fd);
    return status;
}

int deposit_restore(const deposit *self, const deposit_way *way, didi_error *error)
{
    int artifacts_fd = -1;
    int status = file_open_directory(way->job_fd, "artifacts", 0, &artifacts_fd, error);
    for (size_t i = 0; i < self->count && status == DIDI_OK; i++)
        if (faccessat(artifacts_fd, self->files[i].name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
            status = restore_file(self, way, &self->files[i], artifacts_fd, error);
    file_close(artifacts_fd);
    return status;
}

void deposit_trim(const deposit *self, int job_fd)
{
    int artifacts_fd = -1;
    assert(self->complete);
    if (file_open_directory(job_fd, "artifacts", 0, &artifacts_fd, NULL) != DIDI_OK)
        return;
    for (size_t i = 0; i + 1 < self->count; i++)
        (void)unlinkat(artifacts_fd, self->files[i].name, 0);
    (void)unlinkat(artifacts_fd, part_name, 0);
    file_close(artifacts_fd);
}

int deposit_delete(const deposit *self, const deposit_way *way, didi_error *error)
{
    char key[S3_KEY_BYTES];
    s3_object object;
    int status = DIDI_OK;
    bool under_way = false;
    for (size_t i = self->count; i-- > 0 && status == DIDI_OK;) {
        under_way |= self->files[i].etag[0] == '\0';
        if (deposit_object(self, way, self->files[i].name, key, &object, NULL) == DIDI_OK)
            status = s3_delete(way->client, &object, error);
    }
    if (status == DIDI_OK && under_way &&
        deposit_object(self, way, "", key, &object, NULL) == DIDI_OK)
        status = s3_upload_abort_all(way->client, &object, error);
    return status;
}
