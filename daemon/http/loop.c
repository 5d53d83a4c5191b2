/* SPDX-License-Identifier: Apache-2.0 */
/* The loop's thread: its start, what wakes it, and its end. */
#include "daemon/base/base.h"
#include "daemon/http/connection.h"
#include "src/base/base.h"

#include <fcntl.h>
#include <unistd.h>

static void loop_stop_listening(http *self)
{
    if (!self->is_listening)
        return;
    self->is_listening = false;
    for (size_t i = 0; i < self->listener_count; i++) {
        uv_close((uv_handle_t *)&self->listening[i], NULL);
        http_listener_close(&self->listeners[i]);
    }
}

/* Closes what waits for a request, or (`all`) everything. */
static void loop_cut(http *self, bool all)
{
    http_connection *connection = TAILQ_FIRST(&self->connections);
    while (connection != NULL) {
        http_connection *next = TAILQ_NEXT(connection, all);
        if (all || (connection->is_idle && connection->stage != HTTP_STAGE_LINGER))
            http_connection_close(connection);
        connection = next;
    }
}

static void on_drained(uv_timer_t *timer)
{
    loop_cut(timer->data, true);
}

void http_loop_finish(http *self)
{
    if (!self->closing || self->alive > 0 || uv_is_closing((uv_handle_t *)&self->wake))
        return;
    uv_close((uv_handle_t *)&self->wake, NULL);
    uv_close((uv_handle_t *)&self->again, NULL);
    uv_close((uv_handle_t *)&self->drain, NULL);
}

static http_request *take_ready(http *self)
{
    pthread_mutex_lock(&self->lock);
    http_request *request = self->ready_first;
    if (request != NULL) {
        self->ready_first = request->ready_next;
        request->ready = false;
    }
    pthread_mutex_unlock(&self->lock);
    return request;
}

/* The list is a stack and grows while it is worked on: a turn takes what was there, in order. */
static void run_ready(http *self)
{
    http_request *ordered = NULL;
    pthread_mutex_lock(&self->lock);
    while (self->ready_first != NULL) {
        http_request *request = self->ready_first;
        self->ready_first = request->ready_next;
        request->ready_next = ordered;
        ordered = request;
    }
    self->ready_first = ordered;
    pthread_mutex_unlock(&self->lock);
    http_request *request;
    while ((request = take_ready(self)) != NULL)
        http_exchange_ready(request);
}

static void on_wake(uv_async_t *wake)
{
    http *self = wake->data;
    pthread_mutex_lock(&self->lock);
    int drain_milliseconds = self->drain_milliseconds;
    pthread_mutex_unlock(&self->lock);
    if (atomic_load(&self->quiescing)) {
        loop_stop_listening(self);
        loop_cut(self, false);
    }
    run_ready(self);
    if (drain_milliseconds >= 0 && !self->closing) {
        self->closing = true;
        uv_timer_start(&self->drain, on_drained, (uint64_t)drain_milliseconds, 0);
    }
    http_loop_finish(self);
}

static void on_idle(uv_idle_t *idle)
{
    http *self = idle->data;
    http_connections_look(self);
    if (TAILQ_EMPTY(&self->pending))
        uv_idle_stop(idle);
}

void http_connection_look(http_connection *connection)
{
    http *self = connection->http;
    if (connection->is_pending || connection->stage == HTTP_STAGE_CLOSED)
        return;
    connection->is_pending = true;
    TAILQ_INSERT_TAIL(&self->pending, connection, again);
    uv_idle_start(&self->again, on_idle);
}

static void *loop_main(void *context)
{
    http *self = context;
    uv_run(&self->loop, UV_RUN_DEFAULT);
    return NULL;
}

int http_loop_start(http *self, didi_error *error)
{
    if (uv_loop_init(&self->loop) != 0)
        return didi_fail(error, DIDI_IO, NULL, "cannot create the event loop");
    self->loop_is_open = true;
    if (uv_async_init(&self->loop, &self->wake, on_wake) != 0)
        return didi_fail(error, DIDI_IO, NULL, "cannot create the event loop");
    uv_idle_init(&self->loop, &self->again);
    uv_timer_init(&self->loop, &self->drain);
    self->wake.data = self->again.data = self->drain.data = self;
    self->has_handles = true;
    self->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < self->listener_count; i++) {
        if (uv_poll_init(&self->loop, &self->listening[i], self->listeners[i].fd) != 0)
            return didi_fail(error, DIDI_IO, self->listeners[i].address, "cannot serve on %s",
                             self->listeners[i].address);
        self->listening[i].data = self;
        uv_poll_start(&self->listening[i], UV_READABLE, http_accept_ready);
    }
    self->is_listening = true;
    int code = pthread_create(&self->loop_thread, NULL, loop_main, self);
    if (code != 0)
        return didi_fail_errno(error, code, NULL, "cannot start a thread");
    self->loop_runs = true;
    return DIDI_OK;
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void http_loop_stop(http *self, int milliseconds)
{
    if (self->loop_runs) {
        pthread_mutex_lock(&self->lock);
        self->drain_milliseconds = milliseconds;
        pthread_mutex_unlock(&self->lock);
        uv_async_send(&self->wake);
        pthread_join(self->loop_thread, NULL);
        self->loop_runs = false;
    } else if (self->loop_is_open) { /* it never ran */
        uv_walk(&self->loop, close_handle, NULL);
        uv_run(&self->loop, UV_RUN_DEFAULT);
    }
}

void http_loop_close(http *self)
{
    if (self->loop_is_open)
        uv_loop_close(&self->loop);
    self->loop_is_open = false;
    file_close(self->spare_fd);
}
