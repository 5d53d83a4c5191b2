/* SPDX-License-Identifier: Apache-2.0 */
/* Records as JSON: read as what others may have written, since state directories are copied. */
#include "daemon/s3/deposit.h"

#include "daemon/s3/deposit_internal.h"
#include "src/base/base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_BYTES_MAX = 64 << 20 };

void deposit_free(deposit *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < self->count; i++) {
        free(self->files[i].name);
        free(self->files[i].upload);
        free(self->files[i].parts);
    }
    free(self->files);
    free(self);
}

const deposit_file *deposit_find(const deposit *self, const char *name)
{
    for (size_t i = 0; i < self->count; i++)
        if (strcmp(self->files[i].name, name) == 0)
            return &self->files[i];
    return NULL;
}

uint64_t deposit_pieces_of(uint64_t bytes)
{
    return bytes / DEPOSIT_PIECE_BYTES + (bytes % DEPOSIT_PIECE_BYTES > 0);
}

/* shared.safetensors, experts/NAME: what a manifest may list, and what may be opened below
 * artifacts/. */
static bool name_is_good(const char *name)
{
    const char *file = strncmp(name, "experts/", 8) == 0 ? name + 8 : name;
    return file[0] != '\0' && file[0] != '.' && strchr(file, '/') == NULL &&
           strlen(name) < S3_KEY_BYTES / 2;
}

static bool digest_is_good(const char *text)
{
    return text != NULL && strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

/* ---- reading ---- */

static bool take_text(char *target, size_t room, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL && snprintf(target, room, "%s", text) < (int)room;
}

static bool take_parts(deposit_file *file, const json_t *rows)
{
    const size_t count = json_array_size(rows);
    if (count == 0)
        return true;
    file->parts = count <= S3_PARTS_MAX ? memory_zeroed(count, sizeof *file->parts) : NULL;
    if (file->parts == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *row = json_array_get(rows, i);
        s3_part *part = &file->parts[i];
        if (!take_text(part->etag, sizeof part->etag, row, "etag") ||
            !take_text(part->sha256, sizeof part->sha256, row, "sha256") ||
            !digest_is_good(part->sha256))
            return false;
    }
    file->part_count = count;
    return true;
}

static bool take_file(deposit_file *file, const json_t *row)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *upload = json_string_value(json_object_get(row, "upload"));
    const json_int_t bytes = json_integer_value(json_object_get(row, "bytes"));
    const json_int_t part_bytes = json_integer_value(json_object_get(row, "part_bytes"));
    const json_t *etag = json_object_get(row, "etag");
    if (name == NULL || !name_is_good(name) || bytes < 0 || part_bytes < 0 ||
        !take_text(file->sha256, sizeof file->sha256, row, "sha256") ||
        !digest_is_good(file->sha256) ||
        (json_is_string(etag) && !take_text(file->etag, sizeof file->etag, row, "etag")))
        return false;
    file->name = memory_string(name);
    file->upload = upload != NULL ? memory_string(upload) : NULL;
    file->bytes = (uint64_t)bytes;
    file->part_bytes = (uint64_t)part_bytes;
    return file->name != NULL && (upload == NULL || file->upload != NULL) &&
           (upload == NULL || part_bytes > 0) && take_parts(file, json_object_get(row, "parts"));
}

static bool take_record(deposit *self, const json_t *record)
{
    const json_t *rows = json_object_get(record, "files");
    const size_t count = json_array_size(rows);
    uint64_t pieces = 0;
    if (json_integer_value(json_object_get(record, "version")) != 1 || count == 0 ||
        count > DEPOSIT_FILES_MAX ||
        json_integer_value(json_object_get(record, "piece_bytes")) != DEPOSIT_PIECE_BYTES ||
        !take_text(self->bucket, sizeof self->bucket, record, "bucket") ||
        !take_text(self->prefix, sizeof self->prefix, record, "prefix"))
        return false;
    self->complete = json_is_true(json_object_get(record, "complete"));
    self->files = memory_zeroed(count, sizeof *self->files);
    if (self->files == NULL)
        return false;
    self->count = count;
    for (size_t i = 0; i < count; i++) {
        if (!take_file(&self->files[i], json_array_get(rows, i)) ||
            (self->complete && self->files[i].etag[0] == '\0'))
            return false;
        self->files[i].first_piece = pieces;
        pieces += deposit_pieces_of(self->files[i].bytes);
    }
    return strcmp(self->files[count - 1].name, DEPOSIT_MANIFEST) == 0;
}

int deposit_read(int job_fd, deposit **ret_deposit, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    bool no_memory = false;
    deposit *self = NULL;
    int status = file_read_text(job_fd, DEPOSIT_RECORD, RECORD_BYTES_MAX, &text, &bytes, error);
    if (status != DIDI_OK)
        return status;
    json_t *record = json_load(text, bytes, JSON_REJECT_DUPLICATES, NULL, &no_memory);
    self = memory_zeroed(1, sizeof *self);
    if (self == NULL || no_memory)
        status = didi_fail(error, DIDI_NO_MEMORY, DEPOSIT_RECORD, "out of memory");
    else if (!take_record(self, record))
        status = didi_fail(error, DIDI_FORMAT, DEPOSIT_RECORD,
                           "the record of what was stored at S3 cannot be read");
    json_decref(record);
    free(text);
    if (status == DIDI_OK)
        *ret_deposit = self;
    else
        deposit_free(self);
    return status;
}

/* ---- writing ---- */

static json_t *file_json(const deposit_file *file)
{
    json_t *parts = json_array();
    for (size_t i = 0; i < file->part_count; i++)
        json_array_append_new(parts, json_pack("{s:s, s:s}", "etag", file->parts[i].etag, "sha256",
                                               file->parts[i].sha256));
    return json_pack("{s:s, s:I, s:s, s:s?, s:s?, s:I, s:o}", "name", file->name, "bytes",
                     (json_int_t)file->bytes, "sha256", file->sha256, "etag",
                     file->etag[0] != '\0' ? file->etag : NULL, "upload", file->upload,
                     "part_bytes", (json_int_t)file->part_bytes, "parts", parts);
}

int deposit_write(const deposit *self, int job_fd, didi_error *error)
{
    json_t *files = json_array();
    bool whole = files != NULL;
    for (size_t i = 0; i < self->count && whole; i++)
        whole = json_array_append_new(files, file_json(&self->files[i])) == 0;
    json_t *record =
        json_pack("{s:i, s:s, s:s, s:i, s:b, s:o}", "version", 1, "bucket", self->bucket, "prefix",
                  self->prefix, "piece_bytes", (int)DEPOSIT_PIECE_BYTES, "complete", self->complete,
                  "files", files);
    char *text = whole && record != NULL ? json_dumps(record, JSON_COMPACT) : NULL;
    int status = text != NULL
                     ? file_write_durable(job_fd, DEPOSIT_RECORD, text, strlen(text), error)
                     : didi_fail(error, DIDI_NO_MEMORY, DEPOSIT_RECORD, "out of memory");
    free(text);
    json_decref(record);
    return status;
}

/* ---- a new record ---- */

/* Digests of a file and of its pieces. */
typedef struct digesting {
    const atomic_bool *end;
    const deposit_source *source;
    int pieces_fd;
    deposit_file *file;
    uint64_t piece;
    char *buffer;
} digesting;

static int next_piece(void *context, const void **ret_bytes, size_t *ret_count, didi_error *error)
{
    digesting *self = context;
    const deposit_file *file = self->file;
    const uint64_t at = self->piece * DEPOSIT_PIECE_BYTES;
    char hex[65];
    *ret_count = 0;
    if (at >= file->bytes)
        return DIDI_OK;
    if (self->end != NULL && atomic_load(self->end))
        return didi_fail(error, DIDI_CANCELLED, file->name, "ended");
    const size_t bytes = (size_t)smaller(file->bytes - at, DEPOSIT_PIECE_BYTES);
    int status = self->source->read(self->source->context, file, self->buffer, bytes, at, error);
    if (status == DIDI_OK)
        status = file_sha256_bytes(self->buffer, bytes, hex, error);
    if (status == DIDI_OK)
        status = file_pwrite_all(self->pieces_fd, hex, 64, 64 * (file->first_piece + self->piece),
                                 DEPOSIT_PIECES, error);
    self->piece++;
    *ret_bytes = self->buffer;
    *ret_count = bytes;
    return status;
}

static int digest_file(digesting *run, didi_error *error)
{
    deposit_file *file = run->file;
    char found[65];
    uint64_t bytes = 0;
    run->piece = 0;
    int status = run->source->open(run->source->context, file, &bytes, error);
    if (status != DIDI_OK)
        return status;
    if (file->sha256[0] == '\0')
        file->bytes = bytes; /* the manifest, which lists not itself */
    status = bytes == file->bytes
                 ? file_sha256_pieces(next_piece, run, found, error)
                 : didi_fail(error, DIDI_CHANGED, file->name,
                             "%s has not the size that the manifest says", file->name);
    if (status == DIDI_OK && file->sha256[0] != '\0' && strcmp(file->sha256, found) != 0)
        status = didi_fail(error, DIDI_CHANGED, file->name,
                           "%s is not what the manifest says: its SHA-256 is another", file->name);
    if (status == DIDI_OK)
        memcpy(file->sha256, found, sizeof found);
    return status;
}

int deposit_digest(deposit *self, int job_fd, const deposit_source *source, const atomic_bool *end,
                   didi_error *error)
{
    digesting run = {.end = end, .source = source};
    uint64_t pieces = 0;
    int status = DIDI_OK;
    run.buffer = memory_aligned(DEPOSIT_PIECE_BYTES, 1);
    if (run.buffer == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, DEPOSIT_PIECES, "out of memory");
    run.pieces_fd =
        openat(job_fd, DEPOSIT_PIECES, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (run.pieces_fd < 0)
        status = didi_fail_errno(error, errno, DEPOSIT_PIECES, "cannot create");
    for (size_t i = 0; i < self->count && status == DIDI_OK; i++) {
        run.file = &self->files[i];
        run.file->first_piece = pieces;
        status = digest_file(&run, error);
        pieces += deposit_pieces_of(run.file->bytes);
    }
    if (status == DIDI_OK)
        status = file_sync(run.pieces_fd, DEPOSIT_PIECES, error);
    file_close(run.pieces_fd);
    free(run.buffer);
    return status;
}

int deposit_list(deposit *self, const char *text, size_t bytes, didi_error *error)
{
    int status = DIDI_OK;
    json_t *manifest = json_load(text, bytes, JSON_REJECT_DUPLICATES, NULL, NULL);
    const json_t *rows = json_object_get(manifest, "files");
    const size_t count = json_array_size(rows);
    bool good = json_is_object(manifest) && count < DEPOSIT_FILES_MAX;
    self->files = good ? memory_zeroed(count + 1, sizeof *self->files) : NULL;
    self->count = self->files != NULL ? count + 1 : 0;
    good = good && self->files != NULL;
    for (size_t i = 0; i < count && good; i++) {
        deposit_file *file = &self->files[i];
        const json_t *row = json_array_get(rows, i);
        const char *name = json_string_value(json_object_get(row, "name"));
        const json_int_t size = json_integer_value(json_object_get(row, "bytes"));
        good = name != NULL && name_is_good(name) && size >= 0 &&
               take_text(file->sha256, sizeof file->sha256, row, "sha256") &&
               digest_is_good(file->sha256);
        file->bytes = (uint64_t)size;
        file->name = good ? memory_string(name) : NULL;
        good = file->name != NULL;
    }
    if (good)
        self->files[count].name = memory_string(DEPOSIT_MANIFEST);
    if (!good || self->files[count].name == NULL)
        status = didi_fail(error, DIDI_FORMAT, DEPOSIT_MANIFEST,
                           "the manifest lists files that cannot be stored");
    json_decref(manifest);
    return status;
}

/* ---- files that are here ---- */

typedef struct local_files {
    int artifacts_fd, fd;
} local_files;

static int local_open(void *context, deposit_file *file, uint64_t *ret_bytes, didi_error *error)
{
    local_files *self = context;
    struct stat facts;
    file_close(self->fd);
    self->fd = openat(self->artifacts_fd, file->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (self->fd < 0 || fstat(self->fd, &facts) != 0)
        return didi_fail_errno(error, errno, file->name, "cannot open %s", file->name);
    *ret_bytes = (uint64_t)facts.st_size;
    return DIDI_OK;
}

static int local_read(void *context, const deposit_file *file, char *buffer, size_t bytes,
                      uint64_t at, didi_error *error)
{
    const local_files *self = context;
    return file_pread_all(self->fd, buffer, bytes, at, file->name, error);
}

static int digest_local(deposit *self, int job_fd, int artifacts_fd, const atomic_bool *end,
                        didi_error *error)
{
    local_files files = {artifacts_fd, -1};
    const deposit_source source = {&files, local_open, local_read};
    int status = deposit_digest(self, job_fd, &source, end, error);
    file_close(files.fd);
    return status;
}

static int list_local(deposit *self, int artifacts_fd, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    int status = file_read_text(artifacts_fd, DEPOSIT_MANIFEST, DEPOSIT_MANIFEST_BYTES_MAX, &text,
                                &bytes, error);
    if (status == DIDI_OK)
        status = deposit_list(self, text, bytes, error);
    free(text);
    return status;
}

/* True when an earlier record is of the same files at the same place. */
static bool is_same(const deposit *before, const deposit *now, const char *manifest_sha256)
{
    bool same = before->count == now->count && strcmp(before->bucket, now->bucket) == 0 &&
                strcmp(before->prefix, now->prefix) == 0 &&
                strcmp(before->files[before->count - 1].sha256, manifest_sha256) == 0;
    for (size_t i = 0; i + 1 < now->count && same; i++)
        same = strcmp(before->files[i].name, now->files[i].name) == 0 &&
               strcmp(before->files[i].sha256, now->files[i].sha256) == 0 &&
               before->files[i].bytes == now->files[i].bytes;
    return same;
}

static int digest_manifest(int artifacts_fd, char ret_hex[65], didi_error *error)
{
    int fd = -1;
    int status = file_open_beneath(artifacts_fd, DEPOSIT_MANIFEST, DEPOSIT_MANIFEST, &fd, error);
    if (status == DIDI_OK)
        status = file_sha256(fd, NULL, NULL, ret_hex, NULL, DEPOSIT_MANIFEST, error);
    file_close(fd);
    return status;
}

int deposit_begin(int job_fd, const char *bucket, const char *prefix, const atomic_bool *end,
                  deposit **ret_deposit, didi_error *error)
{
    deposit *before = NULL;
    deposit *self = memory_zeroed(1, sizeof *self);
    char hex[65];
    int artifacts_fd = -1;
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, DEPOSIT_RECORD, "out of memory");
    (void)snprintf(self->bucket, sizeof self->bucket, "%s", bucket);
    (void)snprintf(self->prefix, sizeof self->prefix, "%s", prefix);
    int status = file_open_directory(job_fd, "artifacts", 0, &artifacts_fd, error);
    if (status == DIDI_OK)
        status = list_local(self, artifacts_fd, error);
    if (status == DIDI_OK)
        status = digest_manifest(artifacts_fd, hex, error);
    if (status == DIDI_OK && deposit_read(job_fd, &before, NULL) == DIDI_OK &&
        is_same(before, self, hex)) {
        deposit_free(self);
        self = before;
        before = NULL;
    } else if (status == DIDI_OK) {
        status = digest_local(self, job_fd, artifacts_fd, end, error);
        if (status == DIDI_OK)
            status = deposit_write(self, job_fd, error);
    }
    file_close(artifacts_fd);
    deposit_free(before);
    if (status == DIDI_OK)
        *ret_deposit = self;
    else
        deposit_free(self);
    return status;
}

int deposit_piece_digest(int job_fd, const deposit_file *file, uint64_t piece, char ret_hex[65],
                         didi_error *error)
{
    int fd = openat(job_fd, DEPOSIT_PIECES, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return didi_fail_errno(error, errno, DEPOSIT_PIECES, "cannot open");
    int status =
        file_pread_all(fd, ret_hex, 64, 64 * (file->first_piece + piece), DEPOSIT_PIECES, error);
    ret_hex[64] = '\0';
    file_close(fd);
    return status;
}
