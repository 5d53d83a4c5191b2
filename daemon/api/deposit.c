/* SPDX-License-Identifier: Apache-2.0 */
/* Artifacts that lie at S3: redirected to, or passed on piece by piece. A piece whose digest is not
 * the recorded one is read again and at last refused: no wrong byte goes out. */
#include "daemon/api/artifacts.h"
#include "src/base/base.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPOSIT_STREAMS_MAX = 64, DEPOSIT_RETRY_SECONDS = 5 };

typedef struct deposit_stream {
    api *self;
    deposit *record;
    const deposit_file *file;
    deposit_way way;
    uint64_t at, end;   /* what is to be sent */
    uint64_t piece;     /* that the buffer holds */
    size_t piece_bytes; /* 0: none */
    char client[64];    /* http_client of the request */
    char *buffer;
} deposit_stream;

static int stream_fill(deposit_stream *stream, didi_error *error)
{
    const uint64_t piece = stream->at / DEPOSIT_PIECE_BYTES;
    if (stream->piece_bytes > 0 && stream->piece == piece)
        return DIDI_OK;
    stream->piece_bytes = 0;
    stream->piece = piece;
    return deposit_piece(stream->record, &stream->way, stream->file, piece, stream->buffer,
                         &stream->piece_bytes, error);
}

static int stream_read(void *context, void *buffer, size_t room, size_t *ret_count,
                       didi_error *error)
{
    deposit_stream *stream = context;
    if (!access_holds(stream->self->access, stream->client))
        return didi_fail(error, DIDI_CANCELLED, NULL, "the client's token was revoked, or is over");
    int status = stream_fill(stream, error);
    if (status != DIDI_OK)
        return status;
    const size_t from = (size_t)(stream->at % DEPOSIT_PIECE_BYTES);
    const size_t left = (size_t)smaller(stream->piece_bytes - from, stream->end - stream->at);
    *ret_count = left < room ? left : room;
    memcpy(buffer, stream->buffer + from, *ret_count);
    stream->at += *ret_count;
    return DIDI_OK;
}

static void stream_close(void *context)
{
    deposit_stream *stream = context;
    atomic_fetch_sub(&stream->self->deposit_streams, 1);
    deposit_free(stream->record);
    file_close(stream->way.job_fd);
    free(stream->buffer);
    free(stream);
}

static void reply_failure(http_request *request, int status, const didi_error *error)
{
    http_reply_error(request,
                     status == DIDI_CHANGED ? PROBLEM_ARTIFACT_CHANGED
                     : status == DIDI_INVALID || status == DIDI_NOT_FOUND
                         ? PROBLEM_STORAGE_FAILED
                         : problem_from_status(status),
                     error);
}

/* Takes the record and the directory. The first piece is read before there is a reply, so that what
 * is wrong can be told. */
static void deposit_send_range(api *self, http_request *request, deposit *record, int job_fd,
                               const deposit_file *file, const api_range *range)
{
    didi_error error = {0};
    deposit_stream *stream = memory_zeroed(1, sizeof *stream);
    char *buffer = memory_aligned(DEPOSIT_PIECE_BYTES, 1);
    if (stream == NULL || buffer == NULL) {
        free(stream);
        free(buffer);
        deposit_free(record);
        file_close(job_fd);
        didi_fail(&error, DIDI_NO_MEMORY, file->name, "stream of an artifact");
        reply_failure(request, error.status, &error);
        return;
    }
    *stream = (deposit_stream){.self = self,
                               .record = record,
                               .file = file,
                               .way = {scheduler_s3(self->jobs), job_fd, &self->ending, true},
                               .at = range->first,
                               .end = range->first + range->bytes,
                               .buffer = buffer};
    (void)snprintf(stream->client, sizeof stream->client, "%s", http_client(request));
    const int running = atomic_fetch_add(&self->deposit_streams, 1);
    if (running >= DEPOSIT_STREAMS_MAX) {
        char seconds[16];
        (void)snprintf(seconds, sizeof seconds, "%d", (int)DEPOSIT_RETRY_SECONDS);
        http_reply_header(request, "Retry-After", seconds);
        http_reply_problem(request,
                           &(http_problem){.type = PROBLEM_TOO_MANY_STREAMS,
                                           .detail = "other artifacts are being read from S3"});
        stream_close(stream);
        return;
    }
    int status = range->bytes > 0 ? stream_fill(stream, &error) : DIDI_OK;
    if (status != DIDI_OK) {
        stream_close(stream);
        reply_failure(request, status, &error);
        return;
    }
    stream->way.quick = false;
    http_source source = {.context = stream, .read = stream_read, .close = stream_close};
    http_reply_stream(request, range->status, api_artifact_media_type(file->name), &source,
                      range->bytes);
}

static void deposit_redirect(api *self, http_request *request, const deposit *record, int job_fd,
                             const deposit_file *file)
{
    didi_error error = {0};
    char *url = NULL;
    char *key = memory_format("%s/%s", record->prefix, file->name);
    const deposit_way way = {scheduler_s3(self->jobs), job_fd, &self->ending, true};
    const s3_object object = {.bucket = record->bucket, .key = key};
    int status = key != NULL ? deposit_check(record, &way, file, &error)
                             : didi_fail(&error, DIDI_NO_MEMORY, file->name, "out of memory");
    if (status == DIDI_OK)
        status = s3_presign(way.client, &object, (unsigned)self->settings->s3_redirect_seconds,
                            &url, &error);
    if (status == DIDI_OK) {
        http_reply_header(request, "Location", url);
        http_reply_header(request, "Cache-Control", "no-store");
        http_reply_empty(request, 307);
    } else {
        reply_failure(request, status, &error);
    }
    free(url);
    free(key);
}

static bool is_here(int job_fd, const char *name)
{
    struct stat facts;
    int fd = -1;
    if (file_open_directory(job_fd, "artifacts", 0, &fd, NULL) != DIDI_OK)
        return false;
    const bool here = fstatat(fd, name, &facts, AT_SYMLINK_NOFOLLOW) == 0;
    file_close(fd);
    return here;
}

bool api_deposit_get(api *self, http_request *request, const store_job *job, const char *name)
{
    didi_error error = {0};
    api_range range;
    deposit *record = NULL;
    int job_fd = -1;
    int status = scheduler_open_deposit(self->jobs, job->id, &record, &job_fd, &error);
    if (status == DIDI_NOT_FOUND)
        return false;
    const deposit_file *file = record != NULL ? deposit_find(record, name) : NULL;
    const char *asked = http_query(request, "redirect");
    const bool redirects =
        self->settings->s3_redirect != 0 && (asked == NULL || strcmp(asked, "false") != 0);
    bool handled = true;
    if (status != DIDI_OK) {
        reply_failure(request, status, &error);
    } else if (file == NULL || strcmp(name, "manifest.json") == 0 ||
               (!redirects && is_here(job_fd, name))) {
        handled = false;
    } else if (!api_artifact_asked(request, file->bytes, file->sha256, &range)) {
        ; /* replied */
    } else if (redirects) {
        deposit_redirect(self, request, record, job_fd, file);
    } else {
        deposit_send_range(self, request, record, job_fd, file, &range);
        return true;
    }
    deposit_free(record);
    file_close(job_fd);
    return handled;
}
