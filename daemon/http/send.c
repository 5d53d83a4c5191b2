/* SPDX-License-Identifier: Apache-2.0 */
/* Sending: a turn sends at most a slice of one reply, so that many share the line. */
#include "daemon/base/base.h"
#include "daemon/http/connection.h"
#include "daemon/http/stream.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    SLICE_BYTES = 256 * 1024, /* of a file, a turn */
    RECORD_BYTES = 16 * 1024, /* of TLS */
    AHEAD_BYTES = 2 << 20,    /* of a file that the kernel is asked to read before it is needed */
};

typedef enum send_state {
    SEND_GOES_ON,
    SEND_DONE,
    SEND_BLOCKED, /* until the peer takes more */
    SEND_READS,   /* TLS wants to read first */
    SEND_WAITS,   /* until there is more to send */
    SEND_FAILED,
} send_state;

static send_state state_of(ssize_t result)
{
    if (result > 0)
        return SEND_GOES_ON;
    if (result == HTTP_IO_WANT_READ)
        return SEND_READS;
    return result == HTTP_IO_WANT_WRITE ? SEND_BLOCKED : SEND_FAILED;
}

/* Over TLS small pieces go out as one record. */
static ssize_t write_tls(http_connection *connection, const struct iovec *pieces, size_t count)
{
    char record[RECORD_BYTES];
    size_t bytes = 0;
    if (count == 1 || pieces[0].iov_len >= sizeof record)
        return http_tls_write(connection->tls, pieces[0].iov_base, pieces[0].iov_len);
    for (size_t i = 0; i < count; i++) {
        size_t part = (size_t)smaller(pieces[i].iov_len, sizeof record - bytes);
        memcpy(record + bytes, pieces[i].iov_base, part);
        bytes += part;
    }
    return http_tls_write(connection->tls, record, bytes);
}

static ssize_t write_some(http_connection *connection, struct iovec *pieces, size_t count,
                          bool more)
{
    if (connection->tls != NULL)
        return write_tls(connection, pieces, count);
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    if (sent >= 0)
        return sent;
    return errno == EAGAIN || errno == EINTR ? HTTP_IO_WANT_WRITE : HTTP_IO_FAILED;
}

bool http_send_raw(http_connection *connection, const char *bytes, size_t count)
{
    struct iovec piece = {(char *)bytes, count};
    return write_some(connection, &piece, 1, false) == (ssize_t)count;
}

/* Sends of the head, then of `body`. */
static send_state send_pieces(http_connection *connection, const char *body, size_t bytes,
                              bool more, size_t *ret_body)
{
    http_sending *sending = &connection->request->sending;
    size_t head_left = sending->head_bytes - sending->head_sent;
    struct iovec pieces[2];
    size_t count = 0;
    *ret_body = 0;
    if (head_left > 0)
        pieces[count++] = (struct iovec){sending->head + sending->head_sent, head_left};
    if (bytes > 0)
        pieces[count++] = (struct iovec){(char *)body, bytes};
    if (count == 0)
        return SEND_GOES_ON;
    ssize_t sent = write_some(connection, pieces, count, more);
    if (sent <= 0)
        return state_of(sent);
    size_t of_head = (size_t)smaller((uint64_t)sent, head_left);
    sending->head_sent += of_head;
    *ret_body = (size_t)sent - of_head;
    return SEND_GOES_ON;
}

static send_state send_buffer(http_connection *connection)
{
    http_request *request = connection->request;
    http_sending *sending = &request->sending;
    size_t left = sending->no_body ? 0 : request->reply.bytes - (size_t)sending->body_sent;
    size_t sent;
    send_state state =
        send_pieces(connection, request->reply.body + sending->body_sent, left, false, &sent);
    sending->body_sent += sent;
    if (state != SEND_GOES_ON)
        return state;
    return sent == left && sending->head_sent == sending->head_bytes ? SEND_DONE : SEND_GOES_ON;
}

static send_state send_file_plain(http_connection *connection, size_t bytes)
{
    http_request *request = connection->request;
    off_t offset = (off_t)(request->reply.offset + request->sending.body_sent);
    ssize_t sent = sendfile(connection->fd, request->reply.fd, &offset, bytes);
    if (sent > 0)
        request->sending.body_sent += (uint64_t)sent;
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? SEND_BLOCKED : SEND_FAILED;
    return sent == 0 ? SEND_FAILED : SEND_GOES_ON; /* 0: the file became shorter */
}

static send_state send_file_tls(http_connection *connection, size_t bytes)
{
    http_request *request = connection->request;
    http_sending *sending = &request->sending;
    char *buffer = request->http->scratch_out;
    ssize_t count =
        pread(request->reply.fd, buffer, (size_t)smaller(bytes, sizeof request->http->scratch_out),
              (off_t)(request->reply.offset + sending->body_sent));
    for (ssize_t done = 0; done < count;) {
        ssize_t sent = http_tls_write(connection->tls, buffer + done, (size_t)(count - done));
        if (sent <= 0)
            return state_of(sent);
        sending->body_sent += (uint64_t)sent;
        done += sent;
    }
    return count <= 0 ? SEND_FAILED : SEND_GOES_ON;
}

static send_state send_file(http_connection *connection)
{
    http_request *request = connection->request;
    http_sending *sending = &request->sending;
    size_t sent;
    if (sending->head_sent < sending->head_bytes) {
        bool more = !sending->no_body && sending->body_bytes > 0;
        return send_pieces(connection, NULL, 0, more, &sent);
    }
    uint64_t left = sending->no_body ? 0 : sending->body_bytes - sending->body_sent;
    if (left == 0)
        return SEND_DONE;
    if (sending->body_sent % AHEAD_BYTES < SLICE_BYTES)
        posix_fadvise(request->reply.fd, (off_t)(request->reply.offset + sending->body_sent),
                      2 * AHEAD_BYTES, POSIX_FADV_WILLNEED);
    size_t slice = (size_t)smaller(left, SLICE_BYTES);
    return connection->tls != NULL ? send_file_tls(connection, slice)
                                   : send_file_plain(connection, slice);
}

static send_state send_stream(http_connection *connection)
{
    http_sending *sending = &connection->request->sending;
    const char *place = NULL;
    size_t bytes = 0;
    size_t sent = 0;
    bool wanted = !sending->no_body && sending->body_sent < sending->body_bytes;
    if (wanted && !http_stream_look(sending->stream, &place, &bytes))
        return SEND_FAILED;
    if (wanted && bytes == 0 && sending->head_sent == sending->head_bytes)
        return SEND_WAITS;
    send_state state = send_pieces(connection, place, bytes, false, &sent);
    if (sent > 0)
        http_stream_taken(sending->stream, sent);
    sending->body_sent += sent;
    if (state != SEND_GOES_ON || sending->head_sent < sending->head_bytes)
        return state;
    return sending->no_body || sending->body_sent == sending->body_bytes ? SEND_DONE : SEND_GOES_ON;
}

static send_state send_events(http_connection *connection)
{
    http_request *request = connection->request;
    http_sending *sending = &request->sending;
    size_t sent;
    if (sending->no_body)
        return send_buffer(connection);
    bool head_is_sent = sending->head_sent == sending->head_bytes;
    if (sending->piece_sent == sending->piece_bytes && !sending->ended &&
        !http_events_produce(request))
        return SEND_FAILED;
    size_t left = sending->piece_bytes - sending->piece_sent;
    if (left == 0 && head_is_sent)
        return sending->ended ? SEND_DONE : SEND_WAITS;
    send_state state = send_pieces(connection, left > 0 ? sending->piece + sending->piece_sent : "",
                                   left, false, &sent);
    sending->piece_sent += sent;
    sending->body_sent += sent;
    return state;
}

static send_state send_step(http_connection *connection)
{
    const http_request *request = connection->request;
    if (request->reply.events.close != NULL)
        return send_events(connection);
    if (request->sending.stream != NULL)
        return send_stream(connection);
    return request->reply.fd >= 0 ? send_file(connection) : send_buffer(connection);
}

/* A peer has reply_seconds, and a second more for each reply_bytes_per_second it took. */
static void await_peer(http_connection *connection, int events)
{
    const http_settings *settings = &connection->http->settings;
    const http_sending *sending = &connection->request->sending;
    int64_t seconds = (int64_t)settings->reply_seconds;
    int64_t base = sending->began_ms;
    if (connection->request->reply.events.close != NULL)
        base = connection->progress_ms; /* it may last for days: only standing still ends it */
    else
        seconds += (int64_t)(sending->body_sent / settings->reply_bytes_per_second);
    http_connection_mark_sending(connection, true);
    http_connection_deadline(connection, base + seconds * 1000);
    http_connection_poll(connection, events);
}

static void await_more(http_connection *connection)
{
    http_request *request = connection->request;
    bool events = request->reply.events.close != NULL;
    http_connection_mark_sending(connection, false);
    http_connection_deadline(connection,
                             events ? clock_monotonic_ms() + http_events_pause(request) : 0);
    http_connection_poll(connection, events ? UV_DISCONNECT : 0);
    if (!events)
        request->sending.began_ms = clock_monotonic_ms(); /* waiting is not the peer's fault */
}

void http_send_more(http_connection *connection)
{
    size_t slices = 0;
    send_state state = SEND_GOES_ON;
    uint64_t before = connection->request->sending.body_sent;
    while (state == SEND_GOES_ON && connection->request->sending.body_sent - before < SLICE_BYTES &&
           slices++ < 64)
        state = send_step(connection);
    connection->progress_ms = clock_monotonic_ms();
    switch (state) {
    case SEND_GOES_ON:
    case SEND_BLOCKED:
        await_peer(connection, UV_WRITABLE);
        return;
    case SEND_READS:
        await_peer(connection, UV_READABLE);
        return;
    case SEND_WAITS:
        await_more(connection);
        return;
    case SEND_DONE:
        http_exchange_end(connection, false);
        return;
    case SEND_FAILED:
        http_exchange_end(connection, true);
        return;
    }
}

/* What a reply may need beyond its bytes: a place among downloads, a stream. */
static void prepare(http_request *request)
{
    http_reply *reply = &request->reply;
    bool large = reply->file_bytes >= HTTP_DOWNLOAD_BYTES || reply->source.close != NULL;
    bool events = reply->events.close != NULL;
    bool close = reply->close;
    if ((large || events) && !http_exchange_claim(request, large)) {
        http_exchange_refuse_held(request, !events);
        reply->close = close;
        return;
    }
    if (reply->source.close == NULL)
        return;
    request->sending.stream = http_stream_create(request, &reply->source, reply->source_bytes);
    if (request->sending.stream != NULL) {
        reply->source = (http_source){0};
        return;
    }
    http_reply_forget(request);
    http_reply_retry(request, HTTP_RETRY_SECONDS);
    http_reply_problem(request, &(http_problem){.type = PROBLEM_OUT_OF_MEMORY,
                                                .detail = "no memory for the stream"});
    reply->close = close;
}

void http_send_begin(http_connection *connection)
{
    http_request *request = connection->request;
    http_reply *reply = &request->reply;
    http_sending *sending = &request->sending;
    if (atomic_load(&request->http->quiescing))
        reply->close = true;
    prepare(request);
    bool events = reply->events.close != NULL;
    sending->no_body =
        strcmp(request->head.method, "HEAD") == 0 || reply->status == 204 || reply->status == 304;
    sending->chunked = events && !request->head.is_1_0;
    if (events && request->head.is_1_0)
        reply->close = true;
    sending->body_bytes = reply->bytes;
    if (reply->fd >= 0)
        sending->body_bytes = reply->file_bytes;
    else if (sending->stream != NULL)
        sending->body_bytes = reply->source_bytes;
    sending->began_ms = sending->spoke_ms = clock_monotonic_ms();
    sending->head = http_reply_head(request, &sending->head_bytes);
    if (sending->head == NULL)
        http_exchange_end(connection, true);
    else
        http_send_more(connection);
}
