/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP edge: listens, guards framing and limits, finds the route, sends replies.
 *
 * Threads: libmicrohttpd runs one epoll thread, on which quick handlers run. Slow handlers run on
 * two worker threads while their connection is suspended. One timer thread ends long polls and
 * connections whose request does not arrive in time. */
#pragma once

#include "daemon/http/range.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct http http;
typedef struct http_request http_request;

enum { HTTP_ROUTE_PARAMETERS_MAX = 4 };

/* Must reply exactly once, or call http_wait and return. */
typedef void (*http_handler)(void *context, http_request *request);

typedef struct http_route {
    const char *method;  /* "GET" (serves HEAD too), "POST" or "DELETE" */
    const char *pattern; /* "/v1/jobs/{}/events"; a last "{...}" takes one or more segments */
    http_handler handle;
    bool slow;       /* may take more than a few milliseconds */
    bool takes_body; /* JSON; other routes refuse a body */
    const char *parameters[HTTP_ROUTE_PARAMETERS_MAX + 1]; /* of the query; others are refused */
} http_route;

typedef struct http_settings {
    const char *listen; /* see http_listener_open */
    size_t connections_max;
    size_t body_bytes_max;
    size_t request_seconds;   /* for a request to arrive whole */
    const http_route *routes; /* static; literal patterns stand before "{...}" ones */
    size_t route_count;
    void *context; /* handed to handlers */
} http_settings;

/* Starts serving. Errors: those of http_listener_open, DIDI_NO_MEMORY, DIDI_IO. */
int http_start(const http_settings *settings, http **ret_http, didi_error *error);

/* "127.0.0.1:7878" or "unix:/path", as clients may be told. Lives as long as the server. */
const char *http_address(const http *self);

/* Something about this job changed: long polls that watch it look again. NULL wakes all.
 * Thread-safe, does not block; may be the store's listener. */
void http_notify_job(http *self, const char *job_id);

/* Accepts no more connections, ends long polls, refuses new requests with 503. Returns at once. */
void http_quiesce(http *self);

/* Quiesces, lets replies in progress finish for at most `milliseconds`, cuts the rest, stops all
 * threads and frees. Blocks. What handlers use must still be alive. NULL is fine. */
void http_stop(http *self, int milliseconds);

/* ---- for handlers ---- */

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
 * The handler runs again when the job changed or the time is over (http_wait_is_over). */
void http_watch(http_request *request, const char *job_id);
bool http_wait_is_over(const http_request *request);
void http_wait(http_request *request, int64_t milliseconds);

/* Replies; the first one counts. `value` is taken; NULL means that there was no memory for it. */
void http_reply_json(http_request *request, int status, json_t *value);
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
