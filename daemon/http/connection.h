/* SPDX-License-Identifier: Apache-2.0 */
/* A connection from accept to close, and what happens on it. Internal to the HTTP edge. */
#pragma once

#include "daemon/http/http_internal.h"

#include <netinet/in.h>

typedef enum http_stage {
    HTTP_STAGE_HANDSHAKE,
    HTTP_STAGE_HEAD, /* between requests, or in the head of one */
    HTTP_STAGE_BODY,
    HTTP_STAGE_RUN,    /* whole: being handled, or waiting */
    HTTP_STAGE_REPLY,  /* being sent */
    HTTP_STAGE_LINGER, /* nothing is sent or read any more, only thrown away */
    HTTP_STAGE_CLOSED,
} http_stage;

struct http_connection {
    http *http;
    const http_listener *listener;
    int fd;
    http_stage stage;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned handles;              /* not closed yet */
    int events;                    /* that poll looks for */
    int64_t deadline_ms, armed_ms; /* 0: none */
    int64_t progress_ms;           /* when its peer took something last */
    char address[INET6_ADDRSTRLEN];
    uid_t user; /* of a local peer */
    bool has_user, is_reserved, address_is_full, feeding, head_begun, line_skipped, served;
    http_holder *holder;
    http_tls_session *tls;
    http_request *request;
    char *pending; /* what was read and not looked at */
    size_t pending_bytes, pending_capacity, seen;
    size_t linger_bytes;
    bool is_idle, is_sending, is_pending; /* in the lists of that name */
    TAILQ_ENTRY(http_connection) all, idle_all, idle_own, reserve, again;
};

/* ---- loop.c ---- */
int http_loop_start(http *self, didi_error *error);
/* Drains, cuts and joins the loop. */
void http_loop_stop(http *self, int milliseconds);
/* After the former. */
void http_loop_close(http *self);
/* Ends the loop when it is to end and nothing is left. */
void http_loop_finish(http *self);

/* ---- accept.c ---- */
void http_accept_ready(uv_poll_t *handle, int uv_status, int events);

/* ---- connection.c ---- */

/* Takes the descriptor, even when there is no memory. */
void http_connection_open(http *self, const http_listener *listener, int fd, http_holder *holder,
                          const http_connection *peer);
/* At once; frees later. */
void http_connection_close(http_connection *connection);
/* Frees it when nothing uses its memory any more. */
void http_connection_release(http_connection *connection);
/* Sets the time at which http_connection_late is called; 0: none. */
void http_connection_deadline(http_connection *connection, int64_t deadline_ms);
/* Looks for these events of uv_poll from now on. */
void http_connection_poll(http_connection *connection, int events);
void http_connection_mark_idle(http_connection *connection, bool is_idle);
void http_connection_mark_sending(http_connection *connection, bool is_sending);
/* Waits for the next request, or for what was read of it already. */
void http_connection_next(http_connection *connection);
/* Says goodbye and reads on for a while, so that the peer gets to read what was sent. */
void http_connection_linger(http_connection *connection);
/* Looks again at what was read, at the next turn; http_connections_look does. */
void http_connection_look(http_connection *connection);
void http_connections_look(http *self);
/* Counts it. */
void http_refused(http_refusal why);

/* ---- exchange.c: one request ---- */

/* Takes what it can of a head (a body): returns how many bytes. */
size_t http_exchange_head(http_connection *connection, const char *bytes, size_t count);
size_t http_exchange_body(http_connection *connection, const char *bytes, size_t count);
/* Refuses what comes before it is a request. */
void http_exchange_refuse(http_connection *connection, const http_fault *fault);
/* Waits for more of a body that a sink takes. */
void http_exchange_await(http_connection *connection);
/* Goes on after a worker, a change of the job, or the end of a wait. */
void http_exchange_resume(http_connection *connection);
/* The reply was sent, or (`cut`) cannot be. */
void http_exchange_end(http_connection *connection, bool cut);
/* Looks at a request that was made ready. */
void http_exchange_ready(http_request *request);
/* Gives back what the request holds; frees it now, or once its worker has done. */
void http_exchange_drop(http_request *request);
void http_exchange_free(http_request *request);
/* What holds the limits of the client's address. */
http_holder *http_exchange_holder(const http_request *request);
/* Waits or downloads of the address and the client: false when either has its full number. */
bool http_exchange_claim(http_request *request, bool download);
/* Replies that there are as many already, for a claim that failed. */
void http_exchange_refuse_held(http_request *request, bool download);

/* ---- send.c ---- */
void http_send_begin(http_connection *connection);
/* There is room again, or more to send. */
void http_send_more(http_connection *connection);
/* Writes a few bytes at once that need no reply object; true when all went. */
bool http_send_raw(http_connection *connection, const char *bytes, size_t count);

/* ---- watch.c ---- */
/* With http.lock: has the loop look at the request. */
void http_ready_locked(http_request *request);
/* True: parked, until its job changes. */
bool http_watch_park(http_request *request);
/* True: it was parked, and is no more. */
bool http_watch_unpark(http_request *request);
bool http_watch_is_parked(http_request *request);
void http_watch_leave(http_request *request);

/* ---- events.c, sink.c, stream.c, workers.c ---- */
/* Asks the producer for more. False: it failed. */
bool http_events_produce(http_request *request);
/* Milliseconds until it is to be asked again whatever happens. */
int64_t http_events_pause(http_request *request);
/* Has a worker write what came of the body, or end it. */
void http_sink_run(http_request *request);
/* The worker has. */
void http_sink_resume(http_request *request);
int http_workers_start(http *self, didi_error *error);
void http_workers_stop(http *self);
void http_workers_hand(http_request *request, http_task task);
