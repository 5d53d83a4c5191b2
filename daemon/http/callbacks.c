/* SPDX-License-Identifier: Apache-2.0 */
/* The library's callbacks: from the request line to the queued reply. All run on its thread. */
#include "daemon/base/base.h"
#include "daemon/http/http_internal.h"
#include "src/base/base.h"

#include <stdlib.h>
#include <string.h>

enum { HTTP_BODY_START_BYTES = 4096 };

static http_peer *connection_peer(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

void http_callbacks_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                               enum MHD_ConnectionNotificationCode code)
{
    http *self = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        http_peer *peer = memory_zeroed(1, sizeof *peer);
        *socket_context = peer;
        if (peer == NULL || info == NULL)
            return; /* its requests are refused */
        peer->fd = info->connect_fd;
        peer->deadline_ms = clock_monotonic_ms() + (int64_t)self->settings.request_seconds * 1000;
        pthread_mutex_lock(&self->lock);
        peer->next = self->peer_first;
        self->peer_first = peer;
        pthread_cond_signal(&self->tick);
        pthread_mutex_unlock(&self->lock);
        return;
    }
    http_peer *peer = *socket_context;
    if (peer == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    http_peer **link = &self->peer_first;
    while (*link != NULL && *link != peer)
        link = &(*link)->next;
    if (*link != NULL)
        *link = peer->next;
    pthread_mutex_unlock(&self->lock);
    free(peer);
}

void *http_callbacks_target(void *cls, const char *uri, struct MHD_Connection *connection)
{
    http_request *request = memory_zeroed(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->http = cls;
    request->connection = connection;
    request->reply.fd = -1;
    request->began_ms = clock_monotonic_ms();
    request->raw_target = memory_string(uri);
    request->target_fault = http_target_parse(uri, &request->target);
    return request;
}

static void request_busy(http_request *request, bool busy)
{
    http *self = request->http;
    if (request->peer == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    request->peer->busy = busy;
    request->peer->deadline_ms =
        clock_monotonic_ms() + (int64_t)self->settings.request_seconds * 1000;
    pthread_mutex_unlock(&self->lock);
}

void http_callbacks_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                              enum MHD_RequestTerminationCode code)
{
    http_request *request = *con_cls;
    (void)cls;
    (void)connection;
    if (request == NULL)
        return;
    log_emit(LOG_LEVEL_DEBUG, "request", LOG_TEXT("method", request->method),
             LOG_TEXT("target", request->raw_target), LOG_INTEGER("status", request->reply.status),
             LOG_INTEGER("milliseconds", clock_monotonic_ms() - request->began_ms),
             LOG_INTEGER("end", code));
    http_threads_unwatch(request);
    request_busy(request, false);
    http_reply_clear(&request->reply);
    free(request->body);
    free(request->raw_target);
    free(request);
    *con_cls = NULL;
}

/* Runs the handler, or gets it run; a reply is queued here or when the connection is resumed. */
static enum MHD_Result request_run(http_request *request)
{
    http *self = request->http;
    for (;;) {
        if (request->reply.made)
            return http_reply_send(request);
        if (request->wait_asked) {
            request->wait_asked = false;
            http_threads_park(request);
            return MHD_YES;
        }
        if (request->route->slow) {
            MHD_suspend_connection(request->connection);
            if (http_threads_work(self, request))
                return MHD_YES;
            http_reply_problem(request, &(http_problem){.type = PROBLEM_UNAVAILABLE,
                                                        .detail = "the service is stopping"});
            MHD_resume_connection(request->connection);
            return MHD_YES;
        }
        request->route->handle(self->settings.context, request);
        if (!request->reply.made && !request->wait_asked)
            return http_reply_send(request);
    }
}

/* Keeps a piece of the body; what is over the limit is read and dropped, and refused at the end. */
static void request_take(http_request *request, const char *data, size_t bytes)
{
    if (request->body_too_large ||
        bytes > request->http->settings.body_bytes_max - request->body_bytes) {
        request->body_too_large = true;
        return;
    }
    if (request->body_capacity - request->body_bytes < bytes) {
        size_t capacity =
            request->body_capacity == 0 ? HTTP_BODY_START_BYTES : request->body_capacity * 2;
        while (capacity - request->body_bytes < bytes)
            capacity *= 2;
        char *grown = realloc(request->body, capacity);
        if (grown == NULL) {
            request->body_too_large = true;
            return;
        }
        request->body = grown;
        request->body_capacity = capacity;
    }
    memcpy(request->body + request->body_bytes, data, bytes);
    request->body_bytes += bytes;
}

static enum MHD_Result request_body(http_request *request, const char *data, size_t *bytes)
{
    if (*bytes > 0) {
        request_take(request, data, *bytes);
        *bytes = 0;
        return MHD_YES;
    }
    request_busy(request, true);
    if (request->body_too_large) {
        request->reply.close = true;
        http_reply_problem(request, &(http_problem){.type = PROBLEM_BODY_TOO_LARGE,
                                                    .detail = "the body is longer than the limit"});
        return http_reply_send(request);
    }
    request->phase = HTTP_PHASE_RUN;
    http_route_check_query(request);
    return request_run(request);
}

enum MHD_Result http_callbacks_access(void *cls, struct MHD_Connection *connection, const char *url,
                                      const char *method, const char *version,
                                      const char *upload_data, size_t *upload_data_size,
                                      void **con_cls)
{
    http_request *request = *con_cls;
    (void)cls;
    (void)url;
    (void)version;
    if (request == NULL || request->raw_target == NULL)
        return MHD_NO;
    switch (request->phase) {
    case HTTP_PHASE_HEADERS:
        request->peer = connection_peer(connection);
        request->method = method;
        if (request->peer == NULL)
            return MHD_NO;
        if (!http_gate_admit(request)) {
            request_busy(request, true);
            return http_reply_send(request);
        }
        request->phase = HTTP_PHASE_BODY;
        return MHD_YES;
    case HTTP_PHASE_BODY:
        return request_body(request, upload_data, upload_data_size);
    case HTTP_PHASE_RUN:
        return request_run(request);
    default:
        return MHD_YES;
    }
}
