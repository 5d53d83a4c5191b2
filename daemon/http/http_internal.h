/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP edge share. Included by them alone. */
#pragma once

#include "daemon/http/http.h"
#include "daemon/http/listen.h"
#include "daemon/http/target.h"

#include <microhttpd.h>
#include <pthread.h>

enum {
    HTTP_WORKERS = 2,
    HTTP_PARTS_MAX = 4,
    HTTP_REPLY_HEADERS_MAX = 8,
    HTTP_WATCH_BYTES = 65,
    HTTP_TICK_MILLISECONDS = 50,
    HTTP_STREAM_BLOCK_BYTES = 256 << 10, /* handed to the library at once */
};

typedef struct http_reply_field {
    const char *name;
    char *value;
} http_reply_field;

typedef struct http_reply {
    bool made;
    bool close; /* the connection, after it */
    int status;
    const char *media_type; /* NULL for none */
    char *body;             /* malloc'ed unless is_static */
    size_t bytes;
    bool is_static;
    int fd; /* -1 for none */
    uint64_t offset, file_bytes;
    http_source source; /* no `close`: none */
    uint64_t source_bytes;
    http_reply_field fields[HTTP_REPLY_HEADERS_MAX];
    size_t field_count;
} http_reply;

typedef enum http_phase {
    HTTP_PHASE_HEADERS, /* the handler has not been called */
    HTTP_PHASE_BODY,
    HTTP_PHASE_RUN, /* whole; being handled, or waiting */
    HTTP_PHASE_SENT,
} http_phase;

/* A client connection, in the list of its server. */
typedef struct http_peer {
    struct http_peer *next;
    int fd;
    bool busy;           /* a request is being handled or answered; guarded by http.lock */
    int64_t deadline_ms; /* when it must have arrived; guarded by http.lock */
} http_peer;

struct http_request {
    http *http;
    struct MHD_Connection *connection;
    http_peer *peer;
    http_phase phase;
    int64_t began_ms;
    char *raw_target;
    const char *method; /* the library's */
    http_target target;
    const char *target_fault; /* NULL when the target is fine */
    const http_route *route;
    const char *parts[HTTP_PARTS_MAX];
    char rest[HTTP_TARGET_BYTES_MAX];

    char *body;
    size_t body_bytes, body_capacity;
    bool body_too_large;

    http_reply reply;

    /* Waiting. `parked` and `changed` are guarded by http.lock. */
    char watched[HTTP_WATCH_BYTES]; /* a job's id, "" for none */
    bool in_watch_list, parked, changed;
    bool wait_asked;
    int64_t wait_until_ms; /* 0 before the first wait */
    struct http_request *watch_next;

    struct http_request *work_next; /* queue of the workers */
};

struct http {
    http_settings settings;
    http_listener listener;
    struct MHD_Daemon *daemon;
    pthread_t threads[HTTP_WORKERS + 1]; /* the last one is the timer */
    size_t thread_count;

    pthread_mutex_t lock; /* guards what follows, and what says so above */
    pthread_cond_t work_arrived, tick;
    http_request *work_first, *work_last;
    http_request *watch_first;
    http_peer *peer_first;
    struct http_stream *stream_first; /* with a thread each */
    size_t stream_threads;
    pthread_cond_t stream_ended;
    bool quiescing; /* no new requests */
    bool finishing; /* threads end */
};

/* ---- callbacks.c: the library's callbacks ---- */
void *http_callbacks_target(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result http_callbacks_access(void *cls, struct MHD_Connection *connection, const char *url,
                                      const char *method, const char *version,
                                      const char *upload_data, size_t *upload_data_size,
                                      void **con_cls);
void http_callbacks_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                              enum MHD_RequestTerminationCode code);
void http_callbacks_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                               enum MHD_ConnectionNotificationCode code);

/* ---- http.c ---- */
bool http_is_quiescing(http *self);

/* ---- gate.c ---- */

/* Checks framing, host, origin, media type and length of a request whose headers are there, and
 * finds its route. False: a reply was made. */
bool http_gate_admit(http_request *request);

/* ---- request.c ---- */

/* Sets route and parts. False: a reply was made (404, 405). */
bool http_route_find(http_request *request);
/* Refuses a query parameter that the route does not take. */
void http_route_check_query(http_request *request);

/* ---- threads.c ---- */
int http_threads_start(http *self, didi_error *error);
/* Workers finish what is queued and end, as does the timer. */
void http_threads_stop(http *self);
/* Hands a suspended request to a worker. False when the workers have ended. */
bool http_threads_work(http *self, http_request *request);
/* Suspends a request until its job changes or its time is over; it may be resumed already. */
void http_threads_park(http_request *request);
void http_threads_unwatch(http_request *request);
/* Shuts down the connections whose request is late, or all. */
void http_threads_cut_peers(http *self, bool all);

/* ---- reply.c ---- */

/* Queues the reply that was made, or a 500 if none was. */
enum MHD_Result http_reply_send(http_request *request);
void http_reply_clear(http_reply *reply);
