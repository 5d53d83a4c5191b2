/* SPDX-License-Identifier: Apache-2.0 */
/* One request on its connection: head, gate, body, handler, reply, end. */
#include "daemon/base/base.h"
#include "daemon/http/connection.h"
#include "daemon/http/gate.h"
#include "daemon/http/stream.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_START_BYTES = 4096 };

static const char out_of_memory[] =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: " PROBLEM_MEDIA_TYPE
    "\r\nContent-Length: 88\r\nRetry-After: 2\r\nConnection: close\r\n\r\n"
    "{\"type\":\"urn:didid:problem:out-of-memory\",\"title\":\"Memory ran out\","
    "\"status\":503}      \r\n";

static http_request *request_create(http_connection *connection)
{
    http *self = connection->http;
    http_request *request = memory_resized(NULL, 1, sizeof *request);
    if (request == NULL)
        return NULL;
    memset(request, 0, offsetof(http_request, head));
    memset(&request->head, 0, offsetof(http_head, fields));
    request->head.method = "";
    request->head.target = "";
    request->http = self;
    request->connection = connection;
    request->reply.fd = -1;
    request->began_us = uv_hrtime() / 1000;
    if (id_next(clock_now_ms(), self->last_id[0] == '\0' ? NULL : self->last_id, request->id) == 0)
        memcpy(self->last_id, request->id, sizeof self->last_id);
    return request;
}

/* ---- the end of it ---- */

void http_exchange_free(http_request *request)
{
    assert(!request->with_worker && !request->ready && !request->in_watch_list);
    http_reply_clear(&request->reply);
    if (request->sending.stream != NULL)
        http_stream_free(request->sending.stream);
    if (request->sending.head != request->small_reply)
        free(request->sending.head);
    if (request->sink.close != NULL)
        request->sink.close(request->sink.context);
    if (request->head.text != request->small_head)
        free((char *)request->head.text);
    http_holders_put(request->forwarded_holder);
    free(request->sending.piece);
    free(request->sink_error);
    free(request->chunks);
    free(request->body);
    free(request);
}

http_holder *http_exchange_holder(const http_request *request)
{
    return request->forwarded_holder != NULL ? request->forwarded_holder
                                             : request->connection->holder;
}

/* Long polls, event streams and downloads that there are now. */
static void count_held(const http_request *request, bool download, double by)
{
    bool events = request->reply.events.close != NULL;
    metric_add(download ? METRIC_HTTP_DOWNLOADS
               : events ? METRIC_HTTP_STREAMS
                        : METRIC_HTTP_LONG_POLLS,
               NULL, by);
}

static void give_back(http_request *request)
{
    http_holder *holders[] = {http_exchange_holder(request), request->client_holder};
    if (!request->counts_wait && !request->counts_download && request->client_holder == NULL)
        return;
    for (size_t i = 0; i < 2; i++) {
        if (holders[i] == NULL)
            continue;
        holders[i]->waits -= request->counts_wait;
        holders[i]->downloads -= request->counts_download;
    }
    http_holders_put(request->client_holder);
    if (request->counts_wait)
        count_held(request, false, -1);
    if (request->counts_download)
        count_held(request, true, -1);
    request->client_holder = NULL;
    request->counts_wait = request->counts_download = false;
}

void http_exchange_drop(http_request *request)
{
    http *self = request->http;
    give_back(request);
    http_watch_leave(request);
    pthread_mutex_lock(&self->lock);
    request->abandoned = true;
    pthread_mutex_unlock(&self->lock);
    if (request->with_worker)
        request->connection->handles++; /* its memory is the request's too */
    else
        http_exchange_free(request);
}

bool http_exchange_claim(http_request *request, bool download)
{
    http *self = request->http;
    const http_settings *settings = &self->settings;
    if (download ? request->counts_download : request->counts_wait)
        return true;
    if (request->client[0] != '\0' && request->client_holder == NULL) {
        char key[HTTP_HOLDER_KEY_BYTES];
        snprintf(key, sizeof key, "client:%s", request->client);
        request->client_holder = http_holders_get(self->holders, key, clock_monotonic_ms());
    }
    http_holder *own = http_exchange_holder(request);
    http_holder *client = request->client_holder;
    size_t most = download ? settings->downloads_max : settings->waits_max;
    size_t held = download ? own->downloads : own->waits;
    if (client != NULL)
        held = (size_t)larger(held, download ? client->downloads : client->waits);
    if (held >= most)
        return false;
    own->downloads += download;
    own->waits += !download;
    if (client != NULL) {
        client->downloads += download;
        client->waits += !download;
    }
    request->counts_download |= download;
    request->counts_wait |= !download;
    count_held(request, download, 1);
    return true;
}

static void note_end(http_request *request, bool cut)
{
    http *self = request->http;
    uint64_t took = uv_hrtime() / 1000 - request->began_us;
    const char *traceparent = http_traceparent(request);
    metric_add(METRIC_HTTP_SENT, NULL,
               (double)(request->sending.head_sent + request->sending.body_sent));
    log_emit(LOG_LEVEL_DEBUG, "request", LOG_TEXT("method", request->head.method),
             LOG_TEXT("target", request->head.target), LOG_INTEGER("status", request->reply.status),
             LOG_INTEGER("milliseconds", took / 1000), LOG_TEXT("request_id", request->id),
             LOG_TEXT("traceparent", traceparent), LOG_TEXT("address", http_peer_address(request)),
             LOG_TEXT("client", request->client), LOG_TEXT("end", cut ? "cut" : "whole"));
    if (self->settings.observe != NULL)
        self->settings.observe(
            self->settings.context,
            &(http_observation){.method = request->head.method,
                                .target = request->head.target,
                                .route = request->route != NULL ? request->route->pattern : NULL,
                                .status = request->reply.status,
                                .milliseconds = (int64_t)(took / 1000),
                                .client = request->client,
                                .address = http_peer_address(request),
                                .request_id = request->id,
                                .traceparent = traceparent});
}

void http_exchange_end(http_connection *connection, bool cut)
{
    http_request *request = connection->request;
    /* A reply may have begun before the server was to stop. */
    bool close = cut || request->reply.close || atomic_load(&request->http->quiescing);
    bool rest = !request->body_is_whole || connection->pending_bytes > 0 || connection->feeding;
    note_end(request, cut);
    connection->request = NULL;
    http_exchange_drop(request);
    if (cut || (close && !rest))
        http_connection_close(connection);
    else if (close)
        http_connection_linger(connection);
    else
        http_connection_next(connection);
}

/* ---- the handler ---- */

static void exchange_reply(http_connection *connection)
{
    http_request *request = connection->request;
    if (!request->body_is_whole || connection->is_reserved ||
        atomic_load(&request->http->quiescing) || !request->head.keep_alive)
        request->reply.close = true;
    connection->stage = HTTP_STAGE_REPLY;
    http_connection_mark_idle(connection, false);
    http_send_begin(connection);
}

void http_exchange_refuse_held(http_request *request, bool download)
{
    const http_settings *settings = &request->http->settings;
    const char *what = download ? "downloads" : "waits";
    size_t most = download ? settings->downloads_max : settings->waits_max;
    char detail[96];
    char text[80];
    http_refused(download ? HTTP_REFUSAL_DOWNLOADS : HTTP_REFUSAL_WAITS);
    http_reply_forget(request);
    http_reply_retry(request, HTTP_RETRY_SECONDS);
    snprintf(text, sizeof text, "\"%s\";q=%zu;qu=\"concurrent-requests\"", what, most);
    http_reply_header(request, "RateLimit-Policy", text);
    snprintf(text, sizeof text, "\"%s\";r=0", what);
    http_reply_header(request, "RateLimit", text);
    snprintf(detail, sizeof detail, "one address or client has at most %zu %s at once", most,
             download ? "downloads" : "long polls and streams");
    http_reply_problem(request,
                       &(http_problem){.type = PROBLEM_TOO_MANY_REQUESTS, .detail = detail});
}

/* True when the request waits now. */
static bool exchange_park(http_connection *connection)
{
    http_request *request = connection->request;
    request->wait_asked = false;
    if (!http_exchange_claim(request, false)) {
        http_exchange_refuse_held(request, false);
        return false;
    }
    if (!http_watch_park(request))
        return false;
    http_connection_deadline(connection, request->wait_until_ms);
    return true;
}

void http_exchange_await(http_connection *connection)
{
    const http_settings *settings = &connection->http->settings;
    const http_request *request = connection->request;
    int64_t seconds = (int64_t)settings->request_seconds +
                      (int64_t)(request->body_taken / settings->reply_bytes_per_second);
    connection->stage = HTTP_STAGE_BODY;
    http_connection_deadline(connection, (int64_t)(request->began_us / 1000) + seconds * 1000);
    if (request->body_promised && !http_send_raw(connection, "HTTP/1.1 100 Continue\r\n\r\n", 25)) {
        http_connection_close(connection);
        return;
    }
    connection->request->body_promised = false;
    http_connection_poll(connection, UV_READABLE);
    if (!connection->feeding)
        http_connection_look(connection);
}

/* A handler that did nothing is our mistake, and the client's answer. */
static void exchange_check(http_request *request)
{
    if (!request->reply.made && !request->wait_asked && request->sink.close == NULL)
        http_reply_problem(
            request, &(http_problem){.type = PROBLEM_INTERNAL, .detail = "no reply was made"});
}

/* Runs the handler, or has it run, until there is a reply or something to wait for. */
static void exchange_run(http_connection *connection)
{
    http_request *request = connection->request;
    http *self = request->http;
    connection->stage = HTTP_STAGE_RUN;
    http_connection_mark_idle(connection, false);
    http_connection_deadline(connection, 0);
    for (;;) {
        if (request->reply.made) {
            exchange_reply(connection);
            return;
        }
        if (request->wait_asked) {
            if (exchange_park(connection))
                return;
            if (request->reply.made)
                continue;
        }
        if (request->sink.close != NULL) {
            if (request->body_is_whole)
                http_sink_run(request);
            else
                http_exchange_await(connection);
            return;
        }
        if (request->route->slow) {
            http_workers_hand(request, HTTP_TASK_HANDLE);
            return;
        }
        request->route->handle(self->settings.context, request);
        exchange_check(request);
    }
}

void http_exchange_resume(http_connection *connection)
{
    http_request *request = connection->request;
    switch (connection->stage) {
    case HTTP_STAGE_RUN:
        if (request->with_worker)
            return;
        if (request->task != HTTP_TASK_HANDLE && !request->reply.made) {
            http_sink_resume(request);
            return;
        }
        if (request->wait_until_ms == 0 || request->wait_asked || request->reply.made)
            exchange_check(request); /* a worker was here */
        http_watch_unpark(request);
        exchange_run(connection);
        return;
    case HTTP_STAGE_REPLY:
        http_send_more(connection);
        return;
    default:
        return;
    }
}

void http_exchange_ready(http_request *request)
{
    http_connection *connection = request->connection;
    request->with_worker = false;
    if (!request->abandoned) {
        http_exchange_resume(connection);
        return;
    }
    http_exchange_free(request);
    http_connection_release(connection);
}

/* ---- the body ---- */

static void body_refuse(http_connection *connection, problem type, const char *detail)
{
    http_request *request = connection->request;
    http_reply_problem(request, &(http_problem){.type = type, .detail = detail});
    request->reply.close = true;
    exchange_reply(connection);
}

static void body_too_large(http_connection *connection, uint64_t most)
{
    char detail[80];
    snprintf(detail, sizeof detail, "the body is longer than %llu bytes", (unsigned long long)most);
    body_refuse(connection, PROBLEM_BODY_TOO_LARGE, detail);
}

static bool body_keep(http_request *request, const char *data, size_t bytes)
{
    size_t needed = request->body_bytes + bytes;
    size_t capacity = (size_t)larger(request->body_capacity, BODY_START_BYTES);
    if (needed > request->body_capacity) {
        while (capacity < needed)
            capacity *= 2;
        char *grown = memory_resized(request->body, capacity, 1);
        if (grown == NULL)
            return false;
        request->body = grown;
        request->body_capacity = capacity;
    }
    memcpy(request->body + request->body_bytes, data, bytes);
    request->body_bytes = needed;
    return true;
}

/* Data of the body. False: the request is refused, or its sink is at work. */
static bool body_take(http_connection *connection, const char *data, size_t bytes)
{
    http_request *request = connection->request;
    bool sinks = request->sink.close != NULL;
    uint64_t most = sinks ? request->sink_bytes_max : request->http->settings.body_bytes_max;
    if (bytes > most - request->body_taken) {
        body_too_large(connection, most);
        return false;
    }
    request->body_taken += bytes;
    if (!body_keep(request, data, bytes)) {
        body_refuse(connection, PROBLEM_OUT_OF_MEMORY, "no memory for the body");
        return false;
    }
    return true;
}

static size_t body_step(http_connection *connection, const char *bytes, size_t count)
{
    http_request *request = connection->request;
    const char *data = bytes;
    size_t data_bytes = (size_t)smaller(count, request->body_left);
    size_t taken = data_bytes;
    const char *fault = NULL;
    if (request->chunks != NULL) {
        taken = http_chunks_take(request->chunks, bytes, count, &data, &data_bytes, &fault);
        request->body_is_whole = request->chunks->phase == HTTP_CHUNK_END;
    } else {
        request->body_left -= data_bytes;
        request->body_is_whole = request->body_left == 0;
    }
    if (fault != NULL) {
        http_refused(HTTP_REFUSAL_MALFORMED);
        body_refuse(connection, PROBLEM_MALFORMED_REQUEST, fault);
    } else if (data_bytes > 0 && !body_take(connection, data, data_bytes)) {
        return taken;
    }
    return taken;
}

size_t http_exchange_body(http_connection *connection, const char *bytes, size_t count)
{
    http_request *request = connection->request;
    size_t room = request->sink.close != NULL ? HTTP_SINK_BYTES - request->body_bytes : count;
    size_t taken = body_step(connection, bytes, (size_t)smaller(count, room));
    if (connection->stage != HTTP_STAGE_BODY || connection->request != request)
        return taken;
    if (request->sink.close != NULL) {
        if (request->body_is_whole || request->body_bytes == HTTP_SINK_BYTES)
            http_sink_run(request);
    } else if (request->body_is_whole) {
        exchange_run(connection);
    }
    return taken;
}

/* ---- the head ---- */

static bool head_store(http_request *request, const char *bytes, size_t count)
{
    char *place = request->small_head;
    if (count >= sizeof request->small_head)
        place = memory_resized(NULL, count + 1, 1);
    if (place == NULL)
        return false;
    memcpy(place, bytes, count);
    request->head.text = place;
    return true;
}

static void exchange_fail(http_connection *connection)
{
    http_send_raw(connection, out_of_memory, sizeof out_of_memory - 1);
    http_connection_linger(connection);
}

static void refuse_with(http_connection *connection, const http_fault *fault)
{
    http_request *request = connection->request;
    if (fault->type != PROBLEM_REQUEST_TIMEOUT)
        http_refused(HTTP_REFUSAL_MALFORMED);
    http_reply_problem(request, &(http_problem){.type = fault->type,
                                                .detail = fault->detail,
                                                .parameter = fault->parameter});
    request->reply.close = true;
    request->body_is_whole = false; /* whatever follows is not looked at */
    exchange_reply(connection);
}

void http_exchange_refuse(http_connection *connection, const http_fault *fault)
{
    if (connection->request == NULL)
        connection->request = request_create(connection);
    if (connection->request == NULL)
        exchange_fail(connection);
    else
        refuse_with(connection, fault);
}

/* The head is there and read: is the request let in, and has it a body? */
static void exchange_begin(http_connection *connection)
{
    http_request *request = connection->request;
    const http_settings *settings = &request->http->settings;
    const http_head *head = &request->head;
    request->body_left = head->length;
    request->body_is_whole = !head->chunked && head->length == 0;
    request->body_promised = head->expects_continue && !request->body_is_whole;
    connection->stage = HTTP_STAGE_RUN;
    if (!http_gate_admit(request)) {
        exchange_reply(connection);
        return;
    }
    if (head->chunked && (request->chunks = memory_zeroed(1, sizeof *request->chunks)) == NULL) {
        body_refuse(connection, PROBLEM_OUT_OF_MEMORY, "no memory for the body");
        return;
    }
    if (request->body_is_whole || request->route->streams_body) {
        exchange_run(connection);
        return;
    }
    connection->stage = HTTP_STAGE_BODY;
    http_connection_deadline(connection, (int64_t)(request->began_us / 1000) +
                                             (int64_t)settings->request_seconds * 1000);
    if (request->body_promised && !http_send_raw(connection, "HTTP/1.1 100 Continue\r\n\r\n", 25))
        http_connection_close(connection);
}

/* The deadline of a head runs from its first byte. */
static void head_begins(http_connection *connection)
{
    const http_settings *settings = &connection->http->settings;
    int64_t seconds = (int64_t)smaller(settings->head_seconds, settings->request_seconds);
    if (!connection->head_begun && connection->served)
        http_connection_deadline(connection, clock_monotonic_ms() + seconds * 1000);
    connection->head_begun = true;
}

size_t http_exchange_head(http_connection *connection, const char *bytes, size_t count)
{
    http_fault fault = {0};
    if (!connection->line_skipped && bytes[0] == '\r') {
        head_begins(connection);
        if (count < 2)
            return 0;
        connection->line_skipped = true;
        if (bytes[1] == '\n')
            return 2; /* RFC 9112 section 2.2: one empty line before a request is passed over */
    }
    size_t length = http_head_find(bytes, count, &connection->seen, &fault);
    if (length == 0 && fault.detail == NULL) {
        head_begins(connection);
        return 0;
    }
    http_request *request = request_create(connection);
    connection->request = request;
    if (request == NULL || (length > 0 && !head_store(request, bytes, length))) {
        exchange_fail(connection);
        return count;
    }
    if (length == 0 ||
        !http_head_parse((char *)request->head.text, length, &request->head, &fault)) {
        refuse_with(connection, &fault);
        return count;
    }
    exchange_begin(connection);
    return length;
}
