/* SPDX-License-Identifier: Apache-2.0 */
/* The server and its requests, as the files of the HTTP edge share them. Included by them alone.
 *
 * Connections and requests belong to the loop's thread. A request that is lent to a worker is the
 * worker's until the loop takes it back (`with_worker`). Nothing blocks while http.lock is held. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/http/chunks.h"
#include "daemon/http/forwarded.h"
#include "daemon/http/head.h"
#include "daemon/http/http.h"
#include "daemon/http/limits.h"
#include "daemon/http/listen.h"
#include "daemon/http/reply.h"
#include "daemon/http/target.h"
#include "daemon/http/tls.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

enum {
    HTTP_WORKERS = 2, /* of each pace */
    HTTP_PARTS_MAX = 4,
    HTTP_WATCH_BYTES = 65,
    HTTP_WATCH_BUCKETS = 256,
    HTTP_CLIENT_BYTES = 64,
    HTTP_REQUEST_ID_BYTES = 27,
    HTTP_SCRATCH_BYTES = 64 * 1024,   /* read at once */
    HTTP_SMALL_HEAD_BYTES = 1024,     /* kept in the request itself */
    HTTP_SINK_BYTES = 256 * 1024,     /* written at once */
    HTTP_DOWNLOAD_BYTES = 256 * 1024, /* a reply from there on counts as a download */
    HTTP_RETRY_SECONDS = 2,           /* told to those who are refused for a while */
    HTTP_RESERVED_SECONDS = 2,        /* for a request over a connection of the reserve */
};

typedef struct http_connection http_connection;

/* What a worker is to do for a request. */
typedef enum http_task { HTTP_TASK_HANDLE, HTTP_TASK_SINK_WRITE, HTTP_TASK_SINK_DONE } http_task;

/* Workers of their own for what is short and for what may last: neither waits for the other. */
typedef enum http_pace { HTTP_PACE_SHORT, HTTP_PACE_LONG, HTTP_PACES } http_pace;

struct http_request {
    http *http;
    http_connection *connection;
    uint64_t began_us;
    char id[HTTP_REQUEST_ID_BYTES];
    char client[HTTP_CLIENT_BYTES];
    char trace[TRACE_BYTES]; /* "" until asked for, and where there is none */
    const http_route *route;
    const char *parts[HTTP_PARTS_MAX];
    size_t rest_from;           /* the segment with which a "{...}" begins */
    const char *allowed_origin; /* of a page that may read the reply, or NULL */

    bool body_is_whole;
    bool body_promised; /* its sender waits for 100 */
    http_chunks *chunks;
    uint64_t body_left, body_taken; /* left: without chunks */
    char *body;                     /* or what the sink gets next */
    size_t body_bytes, body_capacity;
    http_sink sink; /* no `close`: none */
    uint64_t sink_bytes_max;
    int sink_status;
    didi_error *sink_error; /* malloc'ed when there is one */

    http_reply reply;
    http_sending sending;
    char forwarded[INET6_ADDRSTRLEN]; /* the client's address as a proxy says, or "" */
    http_holder *forwarded_holder;    /* of that address, or NULL */
    http_holder *client_holder;       /* of `client`, while something is counted there */
    bool counts_wait, counts_download;

    /* Waiting. `parked`, `changed`, `in_watch_list` and `ready` are guarded by http.lock. */
    char watched[HTTP_WATCH_BYTES]; /* a job's id */
    bool in_watch_list, parked, changed;
    bool wait_asked;
    int64_t wait_until_ms; /* 0 before the first wait */
    struct http_request *watch_next;

    bool with_worker, abandoned; /* abandoned: its connection is gone */
    http_task task;
    bool ready; /* in the list of those that the loop looks at */
    struct http_request *work_next, *ready_next;

    /* Not zeroed. */
    http_head head;
    char small_head[HTTP_SMALL_HEAD_BYTES], small_reply[HTTP_SMALL_HEAD_BYTES];
    http_target target;
};

struct http {
    http_settings settings;
    http_listener listeners[HTTP_LISTENERS_MAX + 1]; /* the last is for local administration */
    size_t listener_count;
    char *address, *certificate, *key;
    char *hosts, *origins; /* copies of the settings' */
    http_networks proxies; /* that are trusted */

    /* The loop's. */
    uv_loop_t loop;
    uv_async_t wake;
    uv_idle_t again;
    uv_timer_t drain;
    uv_poll_t listening[HTTP_LISTENERS_MAX + 1];
    bool loop_is_open, has_handles, is_listening, closing;
    int spare_fd; /* given up for a moment when there are no more descriptors */
    http_holders *holders;
    size_t connection_count, reserved_count; /* open ones; reserved are not in the former */
    size_t alive;                            /* not freed yet */
    struct http_connection_list connections, idle, reserved, pending; /* all; by what they do */
    char scratch[HTTP_SCRATCH_BYTES], scratch_out[HTTP_SCRATCH_BYTES];
    char last_id[HTTP_REQUEST_ID_BYTES];
    char date[40];
    int64_t date_second;

    struct http_worker {
        http *owner;
        http_pace pace;
        pthread_t thread;
    } workers[HTTP_PACES * HTTP_WORKERS];
    size_t worker_count;
    pthread_t loop_thread;
    bool loop_runs;

    pthread_mutex_t lock; /* guards what follows, and what says so elsewhere */
    pthread_cond_t stream_ended;
    struct http_work { /* by pace */
        http_request *first, *last;
        pthread_cond_t arrived;
    } work[HTTP_PACES];
    http_request *ready_first;
    http_request *watch[HTTP_WATCH_BUCKETS];
    http_stream *stream_first; /* with a thread each */
    size_t stream_threads;
    http_tls *tls;
    int drain_milliseconds; /* -1: goes on */
    bool finishing;         /* threads end */
    atomic_bool quiescing;  /* no new requests */
};
