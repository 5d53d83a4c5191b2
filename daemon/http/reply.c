/* SPDX-License-Identifier: Apache-2.0 */
/* Making replies and handing them to the library. */
#include "daemon/base/base.h"
#include "daemon/http/http_internal.h"
#include "daemon/http/stream.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char out_of_memory[] =
    "{\"type\":\"urn:didid:problem:out-of-memory\",\"title\":\"Memory ran out\",\"status\":503}";

void http_reply_clear(http_reply *reply)
{
    if (!reply->is_static)
        free(reply->body);
    file_close(reply->fd);
    if (reply->source.close != NULL)
        reply->source.close(reply->source.context);
    for (size_t i = 0; i < reply->field_count; i++)
        free(reply->fields[i].value);
    *reply = (http_reply){.fd = -1};
}

void http_reply_header(http_request *request, const char *name, const char *value)
{
    http_reply *reply = &request->reply;
    char *copy = memory_string(value);
    assert(reply->field_count < HTTP_REPLY_HEADERS_MAX);
    if (reply->made || copy == NULL) {
        free(copy);
        return;
    }
    reply->fields[reply->field_count++] = (http_reply_field){name, copy};
}

void http_reply_static(http_request *request, int status, const char *media_type, const char *text,
                       size_t bytes)
{
    http_reply *reply = &request->reply;
    if (reply->made)
        return;
    reply->made = true;
    reply->status = status;
    reply->media_type = media_type;
    reply->is_static = true;
    reply->body = (char *)text; /* never freed, never written */
    reply->bytes = bytes;
}

static void reply_text(http_request *request, int status, const char *media_type, json_t *value)
{
    char *text = value == NULL ? NULL : document_render(value);
    json_decref(value);
    if (text == NULL) {
        http_reply_static(request, 503, PROBLEM_MEDIA_TYPE, out_of_memory,
                          sizeof out_of_memory - 1);
        return;
    }
    if (request->reply.made) {
        free(text);
        return;
    }
    http_reply_static(request, status, media_type, text, strlen(text));
    request->reply.is_static = false;
}

void http_reply_json(http_request *request, int status, json_t *value)
{
    reply_text(request, status, "application/json", value);
}

void http_reply_empty(http_request *request, int status)
{
    http_reply_static(request, status, NULL, "", 0);
}

void http_reply_file(http_request *request, int status, const char *media_type, int fd,
                     uint64_t offset, uint64_t bytes)
{
    http_reply *reply = &request->reply;
    assert(fd >= 0);
    if (reply->made) {
        close(fd);
        return;
    }
    reply->made = true;
    reply->status = status;
    reply->media_type = media_type;
    reply->fd = fd;
    reply->offset = offset;
    reply->file_bytes = bytes;
}

void http_reply_stream(http_request *request, int status, const char *media_type,
                       const http_source *source, uint64_t bytes)
{
    http_reply *reply = &request->reply;
    if (reply->made) {
        source->close(source->context);
        return;
    }
    reply->made = true;
    reply->status = status;
    reply->media_type = media_type;
    reply->source = *source;
    reply->source_bytes = bytes;
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text != NULL && text[0] != '\0')
        json_object_set_new(object, key, json_string(text));
}

void http_reply_problem(http_request *request, const http_problem *description)
{
    int status = problem_http_status(description->type);
    json_t *value = json_object();
    if (value != NULL) {
        set_text(value, "type", problem_type(description->type));
        set_text(value, "title", problem_title(description->type));
        json_object_set_new(value, "status", json_integer(status));
        set_text(value, "detail", description->detail);
        set_text(value, "pointer", description->pointer);
        set_text(value, "parameter", description->parameter);
        set_text(value, "subject", description->subject);
    }
    if (status >= 500)
        log_emit(LOG_LEVEL_WARNING, "request failed", LOG_TEXT("target", request->raw_target),
                 LOG_INTEGER("status", status), LOG_TEXT("detail", description->detail));
    reply_text(request, status, PROBLEM_MEDIA_TYPE, value);
}

void http_reply_error(http_request *request, problem type, const didi_error *error)
{
    bool is_pointer = error->subject[0] == '/';
    http_reply_problem(request, &(http_problem){.type = type,
                                                .detail = error->message,
                                                .pointer = is_pointer ? error->subject : NULL,
                                                .subject = is_pointer ? NULL : error->subject});
}

static struct MHD_Response *stream_response(http_request *request)
{
    http_reply *reply = &request->reply;
    http_stream *stream =
        http_stream_create(request->http, request->connection, &reply->source, reply->source_bytes);
    if (stream == NULL)
        return NULL;
    reply->source = (http_source){0};
    struct MHD_Response *response = MHD_create_response_from_callback(
        reply->source_bytes, HTTP_STREAM_BLOCK_BYTES, http_stream_take, stream, http_stream_free);
    if (response == NULL)
        http_stream_free(stream);
    return response;
}

/* Moves body, descriptor or source into a response of the library. */
static struct MHD_Response *reply_response(http_request *request)
{
    http_reply *reply = &request->reply;
    struct MHD_Response *response;
    if (reply->source.close != NULL)
        return stream_response(request);
    if (reply->fd >= 0) {
        response =
            MHD_create_response_from_fd_at_offset64(reply->file_bytes, reply->fd, reply->offset);
        if (response != NULL)
            reply->fd = -1;
        return response;
    }
    response = MHD_create_response_from_buffer(reply->bytes, reply->body,
                                               reply->is_static ? MHD_RESPMEM_PERSISTENT
                                                                : MHD_RESPMEM_MUST_FREE);
    if (response != NULL)
        reply->body = NULL;
    return response;
}

static void reply_fields(const http_reply *reply, struct MHD_Response *response)
{
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (reply->media_type != NULL)
        MHD_add_response_header(response, "Content-Type", reply->media_type);
    if (reply->fd < 0 && reply->media_type != NULL)
        MHD_add_response_header(response, "Cache-Control", "no-store");
    if (reply->close)
        MHD_add_response_header(response, "Connection", "close");
    for (size_t i = 0; i < reply->field_count; i++)
        MHD_add_response_header(response, reply->fields[i].name, reply->fields[i].value);
}

enum MHD_Result http_reply_send(http_request *request)
{
    http_reply *reply = &request->reply;
    if (!reply->made) {
        http_reply_problem(
            request, &(http_problem){.type = PROBLEM_INTERNAL, .detail = "no reply was made"});
    }
    reply->close = reply->close || http_is_quiescing(request->http);
    struct MHD_Response *response = reply_response(request);
    if (response == NULL)
        return MHD_NO;
    reply_fields(reply, response);
    enum MHD_Result result =
        MHD_queue_response(request->connection, (unsigned)reply->status, response);
    MHD_destroy_response(response);
    request->phase = HTTP_PHASE_SENT;
    return result;
}
