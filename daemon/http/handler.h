/* SPDX-License-Identifier: Apache-2.0 */
/* What handlers ask of a request, and how they reply. Part of http.h. */
#pragma once

#include "daemon/http/http.h"

/* What the route of the request asks for. */
http_access http_request_access(const http_request *request);

/* Whose request it is: the address at the other end ("127.0.0.1", "::1", "unix"), or behind a
 * trusted proxy the client's. Lives as long as the request. */
const char *http_peer_address(const http_request *request);

/* The user at the other end of a Unix socket (SO_PEERCRED); false over TCP. */
bool http_peer_user(const http_request *request, uid_t *ret_user);

/* Says whose request it is, "" for nobody's: for the log and for limits by client. For `admit`. */
void http_identify(http_request *request, const char *client);
const char *http_client(const http_request *request);

/* The id of the request, as the client and the log get it; 26 characters. */
const char *http_request_id(const http_request *request);
/* The W3C traceparent that came with the request, as trace_read gives it, or NULL. */
const char *http_traceparent(http_request *request);
/* The length its Content-Length gives; false when there is none (no body, or chunks). */
bool http_body_length(const http_request *request, uint64_t *ret_bytes);

/* The text a "{}" (from 0) matched; a "{...}" is joined with slashes. Decoded. */
const char *http_path_part(const http_request *request, size_t index);

/* A query parameter, or NULL. */
const char *http_query(const http_request *request, const char *name);

/* Refuses a query parameter or header, saying why. Returns false: a reply was made. */
bool http_refuse_parameter(http_request *request, const char *name, const char *detail);

/* Reads a whole-number parameter; *number keeps its value when absent. False: a reply was made. */
bool http_query_number(http_request *request, const char *name, long long lowest, long long highest,
                       long long *number);

/* A request header, or NULL. */
const char *http_header(const http_request *request, const char *name);

/* The body, within body_bytes_max. Never NULL, not NUL-terminated. */
const char *http_body(const http_request *request, size_t *ret_bytes);

/* Waiting: call http_watch before looking, then http_wait instead of a reply if there was nothing.
 * The handler runs again when the job changed or the time is over (http_wait_is_over). Beyond
 * waits_max the request is refused with 429 instead. */
void http_watch(http_request *request, const char *job_id);
bool http_wait_is_over(const http_request *request);
void http_wait(http_request *request, int64_t milliseconds);

/* Replies; the first one counts. `value` is taken; NULL means that there was no memory for it. What
 * answers a GET with 200 gets an ETag by its bytes, and If-None-Match its 304. */
void http_reply_json(http_request *request, int status, json_t *value);
/* A text that is rendered already; malloc'ed, and taken. NULL as above. `media_type` is static. */
void http_reply_text(http_request *request, int status, const char *media_type, char *text);
/* `media_type` and `text` are static. */
void http_reply_static(http_request *request, int status, const char *media_type, const char *text,
                       size_t bytes);
/* No body: 204, 304. */
void http_reply_empty(http_request *request, int status);
/* `bytes` bytes of the file from `offset`; the descriptor is taken. */
void http_reply_file(http_request *request, int status, const char *media_type, int fd,
                     uint64_t offset, uint64_t bytes);

/* Where a reply's bytes come from while it is sent, on a thread of the reply's own. `read` gives at
 * most `room` bytes and at least one; what it fails with is logged, and the reply is cut. `close`
 * is called once, on any thread. */
typedef struct http_source {
    void *context;
    int (*read)(void *context, void *buffer, size_t room, size_t *ret_count, didi_error *error);
    void (*close)(void *context);
} http_source;
/* `bytes` bytes of the source, which is taken. */
void http_reply_stream(http_request *request, int status, const char *media_type,
                       const http_source *source, uint64_t bytes);

/* Where the bytes of an open-ended reply come from (server-sent events). */
typedef struct http_events {
    void *context;
    /* Writes at most `room` bytes of whole events and gives their number; 0: nothing new. Sets
     * *ret_end when none will follow. On the edge's thread, when the watched job changed, when
     * there is room again, and at most ten times a second: must not take more than a millisecond.
     * What it fails with is logged, and the reply is cut. */
    int (*produce)(void *context, char *buffer, size_t room, size_t *ret_count, bool *ret_end,
                   didi_error *error);
    void (*close)(void *context); /* once, on any thread */
} http_events;
enum { HTTP_EVENTS_BYTES = 16 * 1024 /* room that produce gets at least */ };
/* An open-ended reply as text/event-stream; the producer is taken. Call http_watch before. A
 * comment line goes out every 15 seconds. It holds no thread, and ends when the server stops. */
void http_reply_events(http_request *request, const http_events *producer);

/* Where a body goes that is not kept in memory: for routes with `streams_body`. */
typedef struct http_sink {
    void *context;
    /* Takes a piece of the body. On a worker: may block; nothing more is read meanwhile. */
    int (*write)(void *context, const void *bytes, size_t count, didi_error *error);
    /* The body is whole (`status` 0), or write failed: must reply. On a worker, or see lasts. */
    void (*done)(void *context, http_request *request, int status, const didi_error *error);
    /* Whether done may take more than a moment: then it runs on one of two threads for such work,
     * which holds nobody else's request up. On the edge's thread. NULL: it does not. */
    bool (*lasts)(void *context);
    void (*close)(void *context); /* once, on any thread: after done, or when the client left */
} http_sink;
/* Takes the body into a sink, instead of a reply: at most `bytes_max` bytes. The sink is taken. A
 * body must keep up with reply_bytes_per_second. */
void http_take_body(http_request *request, const http_sink *sink, uint64_t bytes_max);

/* Adds a header to the reply to come; `name` is static, `value` is copied. */
void http_reply_header(http_request *request, const char *name, const char *value);

/* A problem document. Any of the last three may be NULL; `detail` is copied. */
typedef struct http_problem {
    problem type;
    const char *detail;
    const char *pointer;   /* JSON pointer into the body */
    const char *parameter; /* query parameter or header */
    const char *subject;   /* anything else at fault */
} http_problem;
void http_reply_problem(http_request *request, const http_problem *description);

/* The problem of a failed call; its subject is a pointer when it starts with a slash. */
void http_reply_error(http_request *request, problem type, const didi_error *error);
