/* SPDX-License-Identifier: Apache-2.0 */
/* A task's model that was not exported: made while it is sent, without a file. */
#include "daemon/api/api_internal.h"
#include "src/base/base.h"
#include "src/didi.h"
#include "src/package/package.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { API_STREAMS_MAX = 2, API_STREAM_RETRY_SECONDS = 10 };

typedef struct model_stream {
    api *self;
    didi_stream *stream;
    char client[64]; /* http_client of the request */
} model_stream;

static int stream_read(void *context, void *buffer, size_t room, size_t *ret_count,
                       didi_error *error)
{
    model_stream *stream = context;
    if (!access_holds(stream->self->access, stream->client))
        return didi_fail(error, DIDI_CANCELLED, NULL, "the client's token was revoked, or is over");
    return didi_stream_read(stream->stream, buffer, room, ret_count, error);
}

static void stream_close(void *context)
{
    model_stream *stream = context;
    didi_stream_close(stream->stream);
    atomic_fetch_sub(&stream->self->streams, 1);
    free(stream);
}

/* One of those that run at once. False: there are enough. */
static bool stream_claim(api *self)
{
    if (atomic_fetch_add(&self->streams, 1) < API_STREAMS_MAX)
        return true;
    atomic_fetch_sub(&self->streams, 1);
    return false;
}

static int verify_file(api *self, const didi_export *order, const json_t *row, didi_error *error)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *wanted = json_string_value(json_object_get(row, "sha256"));
    char found[API_DIGEST_BYTES];
    struct stat facts;
    int fd = -1;
    if (name == NULL || wanted == NULL)
        return didi_fail(error, DIDI_FORMAT, "manifest.json", "a base file has no name or digest");
    int status = file_open_within(order->base_fd, name, &order->links, name, &fd, error);
    if (status != DIDI_OK)
        return status;
    status = fstat(fd, &facts) == 0 ? api_digests_of_file(self->digests, fd, &facts, found, error)
                                    : didi_fail(error, DIDI_IO, name, "cannot stat");
    file_close(fd);
    return status != DIDI_OK || strcmp(found, wanted) == 0
               ? status
               : didi_fail(error, DIDI_CHANGED, name, "%s is not the base file that was merged",
                           name);
}

/* What is streamed is told by the merge and the task; the digest is of these. */
static int stream_etag(const json_t *manifest, const char *task, char ret_etag[API_ETAG_BYTES],
                       didi_error *error)
{
    const char *fingerprint = json_string_value(json_object_get(manifest, "fingerprint"));
    char hex[API_DIGEST_BYTES];
    if (fingerprint == NULL)
        return didi_fail(error, DIDI_FORMAT, "manifest.json", "the manifest has no fingerprint");
    char *text = memory_format("%s %s", fingerprint, task);
    int status = text != NULL ? file_sha256_bytes(text, strlen(text), hex, error)
                              : didi_fail(error, DIDI_NO_MEMORY, task, "name of a stream");
    if (status == DIDI_OK)
        (void)snprintf(ret_etag, API_ETAG_BYTES, "\"stream-%s\"", hex);
    free(text);
    return status;
}

/* Opens the stream first, so that a base that is replaced after its digests were compared is
 * noticed at the end. */
static int stream_open(api *self, const store_job *job, const char *task, json_t *manifest,
                       model_stream *stream, uint64_t *ret_bytes, didi_error *error)
{
    didi_export order = {.artifact_fd = -1,
                         .base_fd = -1,
                         .output_fd = -1,
                         .task_fd = -1,
                         .links = model_roots_bounds(registry_roots(self->models)),
                         .base_label = job->base,
                         .task = task};
    const json_t *files = manifest_file_base(manifest);
    int status = scheduler_open_package(self->jobs, job->id, &order.artifact_fd, error);
    if (status == DIDI_OK)
        status =
            model_roots_open_model(registry_roots(self->models), job->base, &order.base_fd, error);
    if (status == DIDI_OK)
        status = didi_stream_open(&order, &stream->stream, ret_bytes, error);
    for (size_t i = 0; i < json_array_size(files) && status == DIDI_OK; i++)
        status = verify_file(self, &order, json_array_get(files, i), error);
    file_close(order.base_fd);
    file_close(order.artifact_fd);
    return status;
}

static void stream_send(api *self, http_request *request, const store_job *job, const char *task,
                        json_t *manifest)
{
    didi_error error = {0};
    uint64_t bytes = 0;
    model_stream *stream = memory_zeroed(1, sizeof *stream);
    int status =
        stream != NULL ? DIDI_OK : didi_fail(&error, DIDI_NO_MEMORY, task, "stream of a model");
    if (stream == NULL) {
        atomic_fetch_sub(&self->streams, 1);
        http_reply_error(request, problem_from_status(status), &error);
        return;
    }
    stream->self = self;
    (void)snprintf(stream->client, sizeof stream->client, "%s", http_client(request));
    status = stream_open(self, job, task, manifest, stream, &bytes, &error);
    if (status != DIDI_OK) {
        stream_close(stream);
        http_reply_error(request, problem_from_status(status), &error);
        return;
    }
    http_source source = {.context = stream, .read = stream_read, .close = stream_close};
    http_reply_header(request, "Accept-Ranges", "none");
    http_reply_stream(request, 200, "application/octet-stream", &source, bytes);
}

void api_stream_model(api *self, http_request *request, const store_job *job, const char *task)
{
    char etag[API_ETAG_BYTES];
    didi_error error = {0};
    json_t *manifest = NULL;
    const char *if_match = http_header(request, "If-Match");
    const char *if_none_match = http_header(request, "If-None-Match");
    int status = api_manifest_read(self->jobs, job->id, &manifest, &error);
    if (status == DIDI_OK)
        status = stream_etag(manifest, task, etag, &error);
    if (status != DIDI_OK) {
        http_reply_error(request, problem_from_status(status), &error);
    } else if (if_match != NULL && !http_etag_in_list(if_match, etag, false)) {
        http_reply_header(request, "ETag", etag);
        http_reply_problem(request, &(http_problem){.type = PROBLEM_PRECONDITION_FAILED,
                                                    .detail = "If-Match does not name this file",
                                                    .parameter = "If-Match"});
    } else if (if_none_match != NULL && http_etag_in_list(if_none_match, etag, true)) {
        http_reply_header(request, "ETag", etag);
        http_reply_empty(request, 304);
    } else if (!stream_claim(self)) {
        char seconds[16];
        (void)snprintf(seconds, sizeof seconds, "%d", (int)API_STREAM_RETRY_SECONDS);
        http_reply_header(request, "Retry-After", seconds);
        http_reply_problem(request, &(http_problem){.type = PROBLEM_TOO_MANY_STREAMS,
                                                    .detail = "other models are being streamed"});
    } else {
        http_reply_header(request, "ETag", etag);
        stream_send(self, request, job, task, manifest);
    }
    json_decref(manifest);
}
