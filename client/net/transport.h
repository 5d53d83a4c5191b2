/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP exchanges with one server, one at a time on one kept connection; the only file of the client
 * that knows libcurl. Redirects and proxies are never used. */
#pragma once

#include "client/base/base.h"
#include "client/net/interrupt.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TRANSPORT_BODY_BYTES_MAX = 256 << 20, /* of an answer kept in memory */
    TRANSPORT_HEADER_BYTES_MAX = 512,     /* of one header's value; longer ones count as absent */
    TRANSPORT_ATTEMPTS_MAX = 5,           /* of a request that may be repeated */
};

typedef struct client_transport client_transport;

/* Why no server answered. */
typedef enum transport_failure {
    TRANSPORT_ANSWERED, /* or nothing is known */
    TRANSPORT_REFUSED,
    TRANSPORT_UNKNOWN_NAME,
    TRANSPORT_NO_SOCKET,
    TRANSPORT_SOCKET_CLOSED, /* to this user */
    TRANSPORT_UNTRUSTED,     /* the certificate */
    TRANSPORT_NOT_TLS,
    TRANSPORT_NOT_HTTP,
    TRANSPORT_SILENT,
    TRANSPORT_FAILURE_COUNT,
} transport_failure;

typedef struct transport_response {
    int status; /* HTTP status code */
    char content_type[TRANSPORT_HEADER_BYTES_MAX];
    char content_range[TRANSPORT_HEADER_BYTES_MAX];
    char etag[TRANSPORT_HEADER_BYTES_MAX];
    char repr_digest[TRANSPORT_HEADER_BYTES_MAX];
    int64_t content_length;  /* -1 when the server does not say */
    int retry_after_seconds; /* 0 when the server does not say */
    char *body;              /* NUL-terminated, owned; NULL when it went to a sink */
    size_t body_bytes;
} transport_response;

/* Takes the body of a 200 or 206. All return a client_exit; non-zero ends the exchange. */
typedef struct transport_sink {
    void *context;
    int (*begin)(void *context, const transport_response *head, didi_error *error);
    int (*write)(void *context, const void *bytes, size_t count, didi_error *error);
    /* At least once a second from `begin` on; NULL for none. May use other transports. */
    int (*idle)(void *context, didi_error *error);
} transport_sink;

typedef struct transport_request {
    const char *method;
    const char *target;         /* path and query; must begin with "/" */
    const char *const *headers; /* "Name: value" lines, NULL-terminated; may be NULL */
    const char *body;           /* NULL for none */
    size_t body_bytes;
    bool repeatable;            /* sent again after a broken connection, 429, 502, 503, 504 */
    int extra_seconds;          /* the answer is expected this much later (long poll) */
    const transport_sink *sink; /* NULL keeps the body in memory */
} transport_request;

/* To the host of the settings, with their token and authorities. `interrupt` must outlive the
 * object. Caller closes. Errors: CLIENT_USAGE (host), CLIENT_FAILURE. */
int transport_open(const client_settings *settings, client_interrupt *interrupt,
                   client_transport **ret_transport, didi_error *error);
void transport_close(client_transport *transport);

/* One exchange. Any HTTP status is success here. Caller clears *ret_response.
 * Errors: CLIENT_UNREACHABLE (no or broken answer), CLIENT_FAILURE (answer over the limit, no
 * memory), CLIENT_INTERRUPTED, and what a sink returns. */
int transport_exchange(client_transport *transport, const transport_request *request,
                       transport_response *ret_response, didi_error *error);
/* Of the last exchange. */
transport_failure transport_last_failure(const client_transport *transport);
void transport_response_clear(transport_response *response);

/* Percent-encodes one path segment or query value. Caller frees; NULL when out of memory. */
char *transport_escape(const char *text);
