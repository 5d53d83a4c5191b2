/* SPDX-License-Identifier: Apache-2.0 */
/* Making replies, and the head that goes before them. */
#include "daemon/base/base.h"
#include "daemon/http/connection.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
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
    if (reply->events.close != NULL)
        reply->events.close(reply->events.context);
    for (size_t i = 0; i < reply->field_count; i++)
        free(reply->fields[i].value);
    *reply = (http_reply){.fd = -1};
}

void http_reply_forget(http_request *request)
{
    http_reply_clear(&request->reply);
}

void http_reply_header(http_request *request, const char *name, const char *value)
{
    http_reply *reply = &request->reply;
    char *copy = memory_string(value);
    assert(reply->field_count < HTTP_REPLY_HEADERS_MAX);
    assert(http_is_token(name, strlen(name)));
    if (reply->made || copy == NULL || !http_is_field_value(copy, strlen(copy))) {
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

static bool reply_has(const http_reply *reply, const char *name)
{
    for (size_t i = 0; i < reply->field_count; i++)
        if (strcmp(reply->fields[i].name, name) == 0)
            return true;
    return false;
}

/* Names what a GET answers with, so that who asks again gets no body while it is the same. True
 * when a reply was made. */
static bool reply_unchanged(http_request *request, int status, const char *text)
{
    enum { DIGITS = 32 };
    char digest[65];
    char etag[DIGITS + 3];
    didi_error error = {0};
    const char *method = request->head.method;
    const char *known = http_header(request, "If-None-Match");
    if (status != 200 || (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) ||
        reply_has(&request->reply, "ETag") ||
        file_sha256_bytes(text, strlen(text), digest, &error) != DIDI_OK)
        return false;
    (void)snprintf(etag, sizeof etag, "\"%.*s\"", (int)DIGITS, digest);
    http_reply_header(request, "ETag", etag);
    if (known == NULL || !http_etag_in_list(known, etag, true))
        return false;
    http_reply_empty(request, 304);
    return true;
}

void http_reply_text(http_request *request, int status, const char *media_type, char *text)
{
    if (text == NULL) {
        http_reply_static(request, 503, PROBLEM_MEDIA_TYPE, out_of_memory,
                          sizeof out_of_memory - 1);
        return;
    }
    if (request->reply.made || reply_unchanged(request, status, text)) {
        free(text);
        return;
    }
    http_reply_static(request, status, media_type, text, strlen(text));
    request->reply.is_static = false;
}

static void reply_value(http_request *request, int status, const char *media_type, json_t *value)
{
    char *text = value == NULL ? NULL : document_render(value);
    json_decref(value);
    http_reply_text(request, status, media_type, text);
}

void http_reply_json(http_request *request, int status, json_t *value)
{
    reply_value(request, status, "application/json", value);
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

void http_reply_events(http_request *request, const http_events *producer)
{
    http_reply *reply = &request->reply;
    if (reply->made) {
        producer->close(producer->context);
        return;
    }
    reply->made = true;
    reply->status = 200;
    reply->media_type = "text/event-stream";
    reply->events = *producer;
}

void http_reply_retry(http_request *request, int64_t seconds)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)(seconds < 1 ? 1 : seconds));
    http_reply_header(request, "Retry-After", text);
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
    metric_add(METRIC_HTTP_REFUSALS,
               METRIC_LABELS(problem_type(description->type) + strlen(PROBLEM_TYPE_PREFIX)), 1);
    if (value != NULL) {
        set_text(value, "type", problem_type(description->type));
        set_text(value, "title", problem_title(description->type));
        json_object_set_new(value, "status", json_integer(status));
        set_text(value, "detail", description->detail);
        set_text(value, "pointer", description->pointer);
        set_text(value, "parameter", description->parameter);
        set_text(value, "subject", description->subject);
        set_text(value, "request_id", request->id);
    }
    if (status >= 500)
        log_emit(LOG_LEVEL_WARNING, "request failed", LOG_TEXT("target", request->head.target),
                 LOG_INTEGER("status", status), LOG_TEXT("detail", description->detail),
                 LOG_TEXT("request_id", request->id));
    reply_value(request, status, PROBLEM_MEDIA_TYPE, value);
}

void http_reply_error(http_request *request, problem type, const didi_error *error)
{
    bool is_pointer = error->subject[0] == '/';
    http_reply_problem(request, &(http_problem){.type = type,
                                                .detail = error->message,
                                                .pointer = is_pointer ? error->subject : NULL,
                                                .subject = is_pointer ? NULL : error->subject});
}

/* ---- the head ---- */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {{200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {206, "Partial Content"},
                   {302, "Found"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {409, "Conflict"},
                   {410, "Gone"},
                   {412, "Precondition Failed"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {415, "Unsupported Media Type"},
                   {416, "Range Not Satisfiable"},
                   {417, "Expectation Failed"},
                   {421, "Misdirected Request"},
                   {422, "Unprocessable Content"},
                   {429, "Too Many Requests"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {503, "Service Unavailable"},
                   {505, "HTTP Version Not Supported"},
                   {507, "Insufficient Storage"}};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "Status";
}

/* Text that grows at the end of a buffer; `bytes` may outgrow `room`. */
typedef struct rendering {
    char *buffer;
    size_t room, bytes;
} rendering;

static void put(rendering *to, const char *text)
{
    size_t bytes = strlen(text);
    if (to->bytes + bytes <= to->room)
        memcpy(to->buffer + to->bytes, text, bytes);
    to->bytes += bytes;
}

static void put_number(rendering *to, uint64_t number)
{
    char digits[24];
    char *from = digits + sizeof digits;
    *--from = '\0';
    do {
        *--from = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(to, from);
}

static void put_field(rendering *to, const char *name, const char *value)
{
    put(to, name);
    put(to, ": ");
    put(to, value);
    put(to, "\r\n");
}

/* The time as RFC 9110 wants it; rendered once a second. */
static const char *date_now(http *self)
{
    int64_t second = clock_now_ms() / 1000;
    if (second != self->date_second) {
        time_t now = (time_t)second;
        struct tm parts;
        gmtime_r(&now, &parts);
        strftime(self->date, sizeof self->date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
        self->date_second = second;
    }
    return self->date;
}

static void put_limits(rendering *to, http_request *request)
{
    http *self = request->http;
    const http_settings *settings = &self->settings;
    const http_holder *holder = http_exchange_holder(request);
    if (request->counts_wait || request->counts_download) {
        bool wait = request->counts_wait;
        const char *name = wait ? "\"waits\"" : "\"downloads\"";
        size_t most = wait ? settings->waits_max : settings->downloads_max;
        size_t held = wait ? holder->waits : holder->downloads;
        put(to, "RateLimit-Policy: ");
        put(to, name);
        put(to, ";q=");
        put_number(to, most);
        put(to, ";qu=\"concurrent-requests\"\r\nRateLimit: ");
        put(to, name);
        put(to, ";r=");
        put_number(to, most > held ? most - held : 0);
        put(to, "\r\n");
    } else if (settings->requests_per_second > 0 && request->route != NULL) {
        put(to, "RateLimit-Policy: \"requests\";q=");
        put_number(to, settings->requests_burst);
        put(to, ";w=");
        put_number(to, (settings->requests_burst + settings->requests_per_second - 1) /
                           settings->requests_per_second);
        put(to, "\r\nRateLimit: \"requests\";r=");
        put_number(to, http_holder_left(self->holders, holder, clock_monotonic_ms()));
        put(to, ";t=1\r\n");
    }
}

static void render_head(rendering *to, http_request *request)
{
    const http_reply *reply = &request->reply;
    const http_sending *sending = &request->sending;
    put(to, "HTTP/1.1 ");
    put_number(to, (uint64_t)reply->status);
    put(to, " ");
    put(to, reason_of(reply->status));
    put(to, "\r\n");
    put_field(to, "Date", date_now(request->http));
    put_field(to, "X-Content-Type-Options", "nosniff");
    put_field(to, "X-Request-Id", request->id);
    if (reply->media_type != NULL)
        put_field(to, "Content-Type", reply->media_type);
    if (reply->fd < 0 && reply->media_type != NULL && !reply_has(reply, "Cache-Control"))
        put_field(to, "Cache-Control", "no-store");
    if (sending->chunked) {
        put_field(to, "Transfer-Encoding", "chunked");
    } else if (reply->status != 204 && reply->status != 304 && reply->events.close == NULL) {
        put(to, "Content-Length: ");
        put_number(to, sending->body_bytes);
        put(to, "\r\n");
    }
    if (reply->close)
        put_field(to, "Connection", "close");
    else if (request->head.is_1_0)
        put_field(to, "Connection", "keep-alive");
    if (request->allowed_origin != NULL) {
        put_field(to, "Access-Control-Allow-Origin", request->allowed_origin);
        put_field(to, "Access-Control-Expose-Headers",
                  "Content-Range, ETag, Location, RateLimit, RateLimit-Policy, Repr-Digest, "
                  "Retry-After, X-Request-Id");
        put_field(to, "Vary", "Origin");
    }
    put_limits(to, request);
    for (size_t i = 0; i < reply->field_count; i++)
        put_field(to, reply->fields[i].name, reply->fields[i].value);
    put(to, "\r\n");
}

char *http_reply_head(http_request *request, size_t *ret_bytes)
{
    rendering small = {request->small_reply, sizeof request->small_reply, 0};
    render_head(&small, request);
    *ret_bytes = small.bytes;
    if (small.bytes <= small.room)
        return small.buffer;
    rendering large = {memory_resized(NULL, small.bytes, 1), small.bytes, 0};
    if (large.buffer != NULL)
        render_head(&large, request);
    return large.buffer;
}
