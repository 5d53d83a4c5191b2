/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP edge: listens, reads requests strictly, keeps limits, finds the route, sends replies.
 *
 * Threads: one event loop reads and sends for all connections, and runs quick handlers. Slow
 * handlers and body sinks run on two workers, what lasts after a body on two more. docs/edge.md
 * tells why, and what is refused. */
#pragma once

#include "daemon/http/range.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct http http;
typedef struct http_request http_request;

enum { HTTP_ROUTE_PARAMETERS_MAX = 5 };

/* Must reply exactly once, or call http_wait or http_take_body and return. */
typedef void (*http_handler)(void *context, http_request *request);

/* Who may use a route. */
typedef enum http_access {
    HTTP_ACCESS_READ, /* the least that a token allows; also what a route has that says nothing */
    HTTP_ACCESS_SUBMIT,
    HTTP_ACCESS_ADMIN,
    HTTP_ACCESS_PUBLIC, /* anybody: /livez, and what checks a signature of its own */
} http_access;

typedef struct http_route {
    const char *method;  /* "GET" (serves HEAD too), "POST", "PUT", "PATCH" or "DELETE" */
    const char *pattern; /* "/v1/jobs/{}/events"; a last "{...}" takes one or more segments,
                          * a last "/" stands for itself */
    http_handler handle;
    bool slow;         /* may take more than a millisecond or two: runs on a worker */
    bool takes_body;   /* JSON; other routes refuse a body */
    bool any_media;    /* with takes_body: of any media type, as it came */
    bool streams_body; /* of any media type and length: see http_take_body */
    bool yields;       /* a "{...}" that matches too serves the other methods of the path */
    bool vital;        /* served by the connections of the reserve, as are admins' routes */
    http_access access;
    const char *parameters[HTTP_ROUTE_PARAMETERS_MAX + 1]; /* of the query; others are refused */
} http_route;

/* A request that was answered, or cut. Texts live during the call. */
typedef struct http_observation {
    const char *method, *target, *route; /* the route's pattern, NULL where none was found */
    int status;                          /* 0: no reply was made */
    int64_t milliseconds;                /* from its head to the end of the reply */
    const char *client, *address;        /* http_identify; http_peer_address */
    const char *request_id;
    const char *traceparent; /* NULL: none came */
} http_observation;

typedef struct http_settings {
    const char *listen;                    /* see http_listeners_open */
    const char *control;                   /* unix:/PATH for local administration, whatever `listen`
                                            * says; mode 0600; http_address is silent; or NULL */
    bool any_address;                      /* beyond loopback in plain text too */
    bool tls;                              /* on listeners that do not say: needs both files */
    const char *tls_certificate, *tls_key; /* PEM files; NULL: none */
    const char *hosts;                     /* NAME,...: what may stand in Host besides; or NULL */
    const char *origins;                   /* ORIGIN,...: pages that may call; or NULL */
    const char *trusted_proxies;           /* see http_networks_parse; or NULL */
    size_t connections_max;                /* at once */
    size_t connections_reserved;           /* beyond them, for /livez, /readyz and admin routes */
    size_t address_connections_max;        /* of one address */
    size_t waits_max;                      /* long polls and event streams of one address/client */
    size_t downloads_max;                  /* of one address, of one client */
    size_t requests_per_second, requests_burst; /* of one address; 0 = no limit */
    size_t body_bytes_max;
    size_t head_seconds;           /* for a head to arrive */
    size_t request_seconds;        /* for a request to arrive whole */
    size_t idle_seconds;           /* between requests */
    size_t reply_seconds;          /* for a reply to be taken, and ... */
    size_t reply_bytes_per_second; /* ... a second more for so many bytes that were taken */
    const http_route *routes;      /* static; literal patterns stand before "{...}" ones */
    size_t route_count;
    void *context; /* handed to handlers */
    /* Lets a request pass whose headers are there and whose route is found, before its body is
     * taken; or replies and returns false. On the thread of the edge: must not block. NULL: all
     * pass. */
    bool (*admit)(void *context, http_request *request);
    /* Told of every request at its end. On the thread of the edge: must not block. May be NULL. */
    void (*observe)(void *context, const http_observation *seen);
} http_settings;

/* Starts serving. Texts of the settings need not outlive the call, but routes do. Errors: those of
 * http_listeners_open, http_networks_parse and http_tls_open, DIDI_NO_MEMORY, DIDI_IO. */
int http_start(const http_settings *settings, http **ret_http, didi_error *error);

/* "127.0.0.1:7878", "https://..." or "unix:/path", comma-separated, as clients may be told. Lives
 * as long as the server. */
const char *http_address(const http *self);

/* Reads certificate and key again; connections that are there keep theirs. On failure the old ones
 * stay in use. Does nothing without TLS. Thread-safe. Errors: those of http_tls_open. */
int http_reload_tls(http *self, didi_error *error);

/* Something about this job changed: long polls and event streams that watch it look again. NULL
 * wakes all. Thread-safe, does not block; may be the store's listener. */
void http_notify_job(http *self, const char *job_id);

/* Accepts no more connections, ends long polls and event streams, refuses new requests with 503.
 * Returns at once. */
void http_quiesce(http *self);

/* Quiesces, lets replies in progress finish for at most `milliseconds`, cuts the rest and stops all
 * threads. Blocks. What handlers use must still be alive, and may be freed then. NULL is fine. */
void http_stop(http *self, int milliseconds);

/* After http_stop. NULL is fine. */
void http_free(http *self);

#include "daemon/http/handler.h"
#include "daemon/http/refusals.h"
