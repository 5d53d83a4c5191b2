/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: opening, reading, deadlines, lingering, closing. */
#include "daemon/http/connection.h"

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READS_A_TURN = 4,           /* then others are looked at */
    REQUESTS_A_TURN = 16,       /* of those that were sent ahead */
    LINGER_BYTES = 1024 * 1024, /* thrown away at most */
    LINGER_MILLISECONDS = 2000,
    PENDING_START_BYTES = 2048,
};

void http_refused(http_refusal why)
{
    static const char *const names[] = {HTTP_REFUSAL_TABLE(HTTP_REFUSAL_NAME)};
    metric_add(METRIC_HTTP_TURNED_AWAY, METRIC_LABELS(names[why]), 1);
}

/* ---- what the lists say of it ---- */

void http_connection_mark_idle(http_connection *connection, bool is_idle)
{
    http *self = connection->http;
    if (connection->is_idle == is_idle)
        return;
    connection->is_idle = is_idle;
    if (is_idle) {
        TAILQ_INSERT_TAIL(&self->idle, connection, idle_all);
        TAILQ_INSERT_TAIL(&connection->holder->idle, connection, idle_own);
    } else {
        TAILQ_REMOVE(&self->idle, connection, idle_all);
        TAILQ_REMOVE(&connection->holder->idle, connection, idle_own);
    }
}

void http_connection_mark_sending(http_connection *connection, bool is_sending)
{
    if (connection->is_sending)
        TAILQ_REMOVE(&connection->holder->sending, connection, idle_own);
    connection->is_sending = is_sending;
    if (is_sending) /* the one that stands still longest comes first */
        TAILQ_INSERT_TAIL(&connection->holder->sending, connection, idle_own);
}

/* ---- time ---- */

static void on_timer(uv_timer_t *timer);

static void timer_arm(http_connection *connection)
{
    int64_t left = connection->deadline_ms - clock_monotonic_ms();
    uv_update_time(&connection->http->loop);
    uv_timer_start(&connection->timer, on_timer, left > 0 ? (uint64_t)left : 1, 0);
    connection->armed_ms = connection->deadline_ms;
}

/* A later deadline leaves the timer as it is: when it fires, it is set anew. So a busy connection
 * costs nothing here. */
void http_connection_deadline(http_connection *connection, int64_t deadline_ms)
{
    connection->deadline_ms = deadline_ms;
    if (deadline_ms != 0 && (connection->armed_ms == 0 || connection->armed_ms > deadline_ms))
        timer_arm(connection);
}

static void connection_late(http_connection *connection)
{
    static const http_fault late = {PROBLEM_REQUEST_TIMEOUT, "the request took too long to arrive",
                                    NULL};
    bool begun = connection->stage == HTTP_STAGE_BODY || connection->head_begun;
    switch (connection->stage) {
    case HTTP_STAGE_HEAD:
    case HTTP_STAGE_BODY:
        if (begun) {
            http_refused(HTTP_REFUSAL_TIMEOUT);
            http_exchange_refuse(connection, &late);
        } else {
            http_connection_close(connection);
        }
        return;
    case HTTP_STAGE_RUN:
        http_exchange_resume(connection);
        return;
    case HTTP_STAGE_REPLY:
        if (connection->request->reply.events.close != NULL && !connection->is_sending) {
            http_send_more(connection);
            return;
        }
        http_refused(HTTP_REFUSAL_TIMEOUT);
        http_exchange_end(connection, true);
        return;
    default:
        http_connection_close(connection);
    }
}

static void on_timer(uv_timer_t *timer)
{
    http_connection *connection = timer->data;
    connection->armed_ms = 0;
    if (connection->stage == HTTP_STAGE_CLOSED || connection->deadline_ms == 0)
        return;
    if (clock_monotonic_ms() < connection->deadline_ms) {
        timer_arm(connection);
        return;
    }
    connection->deadline_ms = 0;
    connection_late(connection);
}

/* ---- the end ---- */

void http_connection_release(http_connection *connection)
{
    assert(connection->handles > 0);
    if (--connection->handles > 0)
        return;
    assert(connection->request == NULL);
    connection->http->alive--;
    http_holders_put(connection->holder);
    http_loop_finish(connection->http);
    free(connection);
}

static void on_handle_closed(uv_handle_t *handle)
{
    http_connection_release(handle->data);
}

void http_connection_close(http_connection *connection)
{
    http *self = connection->http;
    if (connection->stage == HTTP_STAGE_CLOSED)
        return;
    http_connection_mark_idle(connection, false);
    http_connection_mark_sending(connection, false);
    if (connection->is_pending)
        TAILQ_REMOVE(&self->pending, connection, again);
    TAILQ_REMOVE(&self->connections, connection, all);
    if (connection->is_reserved) {
        TAILQ_REMOVE(&self->reserved, connection, reserve);
        self->reserved_count--;
    } else {
        self->connection_count--;
        connection->holder->connections--;
    }
    connection->is_pending = false;
    connection->stage = HTTP_STAGE_CLOSED;
    if (connection->request != NULL)
        http_exchange_drop(connection->request);
    connection->request = NULL;
    uv_close((uv_handle_t *)&connection->poll, on_handle_closed);
    uv_close((uv_handle_t *)&connection->timer, on_handle_closed);
    if (connection->tls != NULL) {
        http_tls_goodbye(connection->tls);
        http_tls_free(connection->tls);
    }
    close(connection->fd);
    free(connection->pending);
    connection->pending = NULL;
    metric_add(METRIC_HTTP_CONNECTIONS, NULL, -1);
}

void http_connection_linger(http_connection *connection)
{
    if (connection->tls != NULL)
        http_tls_goodbye(connection->tls);
    if (shutdown(connection->fd, SHUT_WR) != 0) {
        http_connection_close(connection);
        return;
    }
    connection->stage = HTTP_STAGE_LINGER;
    connection->pending_bytes = 0;
    http_connection_mark_sending(connection, false);
    http_connection_mark_idle(connection, true);
    http_connection_deadline(connection, clock_monotonic_ms() + LINGER_MILLISECONDS);
    http_connection_poll(connection, UV_READABLE);
}

/* ---- reading ---- */

static ssize_t connection_read(http_connection *connection, void *buffer, size_t room)
{
    if (connection->tls != NULL)
        return http_tls_read(connection->tls, buffer, room);
    ssize_t count = recv(connection->fd, buffer, room, 0);
    if (count >= 0)
        return count;
    return errno == EAGAIN || errno == EINTR ? HTTP_IO_WANT_READ : HTTP_IO_FAILED;
}

static bool pending_reserve(http_connection *connection, size_t bytes)
{
    size_t capacity = (size_t)larger(connection->pending_capacity, PENDING_START_BYTES);
    if (connection->pending_capacity >= bytes)
        return true;
    while (capacity < bytes)
        capacity *= 2;
    char *grown = memory_resized(connection->pending, capacity, 1);
    if (grown == NULL)
        return false;
    connection->pending = grown;
    connection->pending_capacity = capacity;
    return true;
}

/* Keeps what is not needed yet. An idle connection keeps no memory for it. */
static void pending_keep(http_connection *connection, const char *bytes, size_t count)
{
    if (count == 0) {
        free(connection->pending);
        connection->pending = NULL;
        connection->pending_capacity = 0;
    } else if (bytes >= connection->pending &&
               bytes < connection->pending + connection->pending_capacity) {
        memmove(connection->pending, bytes, count);
    } else if (pending_reserve(connection, count)) {
        memcpy(connection->pending, bytes, count);
    } else {
        http_connection_close(connection);
        return;
    }
    connection->pending_bytes = count;
}

/* Hands bytes to the request they belong to, and keeps the rest. */
static void connection_feed(http_connection *connection, const char *bytes, size_t count)
{
    unsigned requests = 0;
    connection->feeding = true;
    connection->pending_bytes = 0;
    while (count > 0) {
        size_t taken = 0;
        if (connection->stage == HTTP_STAGE_HEAD && requests++ < REQUESTS_A_TURN)
            taken = http_exchange_head(connection, bytes, count);
        else if (connection->stage == HTTP_STAGE_BODY)
            taken = http_exchange_body(connection, bytes, count);
        if (taken == 0)
            break;
        bytes += taken;
        count -= taken;
    }
    connection->feeding = false;
    if (connection->stage == HTTP_STAGE_CLOSED || connection->stage == HTTP_STAGE_LINGER)
        return;
    pending_keep(connection, bytes, count);
    if (connection->stage == HTTP_STAGE_HEAD && requests > REQUESTS_A_TURN)
        http_connection_look(connection);
}

/* One read. True: there may be more, and it is wanted. */
static bool connection_fill(http_connection *connection)
{
    http *self = connection->http;
    size_t kept = connection->pending_bytes;
    char *place = self->scratch;
    size_t room = sizeof self->scratch;
    if (kept > 0) {
        if (!pending_reserve(connection, kept + PENDING_START_BYTES)) {
            http_connection_close(connection);
            return false;
        }
        place = connection->pending + kept;
        room = connection->pending_capacity - kept;
    }
    ssize_t count = connection_read(connection, place, room);
    if (count == HTTP_IO_WANT_READ || count == HTTP_IO_WANT_WRITE) {
        http_connection_poll(connection,
                             UV_READABLE | (count == HTTP_IO_WANT_WRITE ? UV_WRITABLE : 0));
        return false;
    }
    if (count <= 0) {
        http_connection_close(connection);
        return false;
    }
    metric_add(METRIC_HTTP_RECEIVED, NULL, (double)count);
    connection_feed(connection, place - kept, kept + (size_t)count);
    if (connection->stage != HTTP_STAGE_HEAD && connection->stage != HTTP_STAGE_BODY)
        return false;
    return connection->tls != NULL ? http_tls_pending(connection->tls) : (size_t)count == room;
}

static void connection_drain(http_connection *connection)
{
    http *self = connection->http;
    ssize_t count = recv(connection->fd, self->scratch, sizeof self->scratch, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    connection->linger_bytes += count > 0 ? (size_t)count : 0;
    if (count <= 0 || connection->linger_bytes > LINGER_BYTES)
        http_connection_close(connection);
}

static void connection_fill_all(http_connection *connection)
{
    unsigned reads = 0;
    while (connection_fill(connection)) {
        if (++reads == READS_A_TURN) {
            http_connection_look(connection);
            return;
        }
    }
}

static void connection_handshake(http_connection *connection)
{
    static const http_fault plain = {PROBLEM_MALFORMED_REQUEST,
                                     "this port speaks HTTPS, and was sent HTTP", NULL};
    ssize_t result = http_tls_handshake(connection->tls);
    if (result == HTTP_IO_WANT_READ || result == HTTP_IO_WANT_WRITE) {
        http_connection_poll(connection, result == HTTP_IO_WANT_READ ? UV_READABLE : UV_WRITABLE);
        return;
    }
    if (result == HTTP_IO_NOT_TLS) {
        http_tls_free(connection->tls);
        connection->tls = NULL;
        http_refused(HTTP_REFUSAL_TLS);
        http_exchange_refuse(connection, &plain);
        return;
    }
    if (result <= 0) {
        http_refused(HTTP_REFUSAL_TLS);
        http_connection_close(connection);
        return;
    }
    connection->stage = HTTP_STAGE_HEAD;
    http_connection_poll(connection, UV_READABLE);
    connection_fill_all(connection);
}

void http_connection_next(http_connection *connection)
{
    const http *self = connection->http;
    int64_t seconds = (int64_t)self->settings.idle_seconds;
    connection->stage = HTTP_STAGE_HEAD;
    connection->seen = 0;
    connection->head_begun = connection->line_skipped = false;
    connection->served = true;
    http_connection_mark_sending(connection, false);
    http_connection_mark_idle(connection, true);
    http_connection_deadline(connection, clock_monotonic_ms() + seconds * 1000);
    http_connection_poll(connection, UV_READABLE);
    if (!connection->feeding && (connection->pending_bytes > 0 || connection->tls != NULL))
        http_connection_look(connection);
}

static void connection_look_now(http_connection *connection)
{
    if (connection->stage != HTTP_STAGE_HEAD && connection->stage != HTTP_STAGE_BODY)
        return;
    if (connection->pending_bytes > 0)
        connection_feed(connection, connection->pending, connection->pending_bytes);
    if (connection->stage == HTTP_STAGE_HEAD || connection->stage == HTTP_STAGE_BODY)
        connection_fill_all(connection);
}

void http_connections_look(http *self)
{
    http_connection *connection;
    size_t count = 0;
    TAILQ_FOREACH(connection, &self->pending, again)
    count++;
    for (; count > 0 && (connection = TAILQ_FIRST(&self->pending)) != NULL; count--) {
        TAILQ_REMOVE(&self->pending, connection, again);
        connection->is_pending = false;
        connection_look_now(connection);
    }
}

static void on_events(uv_poll_t *handle, int uv_status, int events)
{
    http_connection *connection = handle->data;
    bool gone = uv_status < 0 || (events & UV_DISCONNECT) != 0;
    switch (connection->stage) {
    case HTTP_STAGE_HANDSHAKE:
        connection_handshake(connection);
        return;
    case HTTP_STAGE_HEAD:
    case HTTP_STAGE_BODY:
        connection_fill_all(connection);
        return;
    case HTTP_STAGE_RUN:
        /* It sent ahead, or left. While it waits for a change, the latter is told apart. */
        if (gone && http_watch_unpark(connection->request))
            http_connection_close(connection);
        else
            http_connection_poll(connection, gone ? 0 : UV_DISCONNECT);
        return;
    case HTTP_STAGE_REPLY:
        if (gone)
            http_exchange_end(connection, true);
        else
            http_send_more(connection);
        return;
    case HTTP_STAGE_LINGER:
        connection_drain(connection);
        return;
    default:
        return;
    }
}

void http_connection_poll(http_connection *connection, int events)
{
    if (connection->events == events || connection->stage == HTTP_STAGE_CLOSED)
        return;
    connection->events = events;
    if (events == 0)
        uv_poll_stop(&connection->poll);
    else
        uv_poll_start(&connection->poll, events, on_events);
}

/* ---- the beginning ---- */

static bool connection_init(http_connection *connection)
{
    http *self = connection->http;
    int yes = 1;
    if (!connection->listener->is_unix)
        setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connection->listener->tls) {
        pthread_mutex_lock(&self->lock);
        connection->tls = http_tls_accept(self->tls, connection->fd);
        pthread_mutex_unlock(&self->lock);
        if (connection->tls == NULL)
            return false;
    }
    if (uv_poll_init(&self->loop, &connection->poll, connection->fd) != 0) {
        http_tls_free(connection->tls);
        return false;
    }
    uv_timer_init(&self->loop, &connection->timer);
    connection->handles = 2;
    return true;
}

void http_connection_open(http *self, const http_listener *listener, int fd, http_holder *holder,
                          const http_connection *peer)
{
    http_connection *connection = memory_zeroed(1, sizeof *connection);
    int64_t seconds = (int64_t)smaller(self->settings.head_seconds, self->settings.request_seconds);
    if (connection != NULL) {
        *connection = *peer;
        connection->http = self;
        connection->listener = listener;
        connection->fd = fd;
        connection->holder = holder;
    }
    if (connection == NULL || !connection_init(connection)) {
        http_holders_put(holder);
        free(connection);
        close(fd);
        return;
    }
    connection->poll.data = connection->timer.data = connection;
    connection->stage = listener->tls ? HTTP_STAGE_HANDSHAKE : HTTP_STAGE_HEAD;
    TAILQ_INSERT_TAIL(&self->connections, connection, all);
    if (connection->is_reserved) {
        TAILQ_INSERT_TAIL(&self->reserved, connection, reserve);
        self->reserved_count++;
        seconds = (int64_t)smaller((uint64_t)seconds, HTTP_RESERVED_SECONDS);
    } else {
        self->connection_count++;
        holder->connections++;
    }
    self->alive++;
    metric_add(METRIC_HTTP_CONNECTIONS, NULL, 1);
    metric_add(METRIC_HTTP_ACCEPTED, NULL, 1);
    http_connection_mark_idle(connection, true);
    http_connection_deadline(connection, clock_monotonic_ms() + seconds * 1000);
    http_connection_poll(connection, UV_READABLE);
}
