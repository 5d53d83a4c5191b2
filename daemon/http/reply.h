/* SPDX-License-Identifier: Apache-2.0 */
/* A reply, as handlers make it and as it is sent. Internal to the HTTP edge. */
#pragma once

#include "daemon/http/http.h"

enum { HTTP_REPLY_HEADERS_MAX = 12 };

typedef struct http_stream http_stream;

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
    http_events events; /* no `close`: none */
    http_reply_field fields[HTTP_REPLY_HEADERS_MAX];
    size_t field_count;
} http_reply;

/* A reply on its way. */
typedef struct http_sending {
    char *head; /* the small one, or malloc'ed */
    size_t head_bytes, head_sent;
    uint64_t body_bytes, body_sent; /* body_bytes means nothing for events */
    bool no_body;                   /* HEAD, 204, 304 */
    bool chunked;
    int64_t began_ms;
    http_stream *stream; /* of a source */
    char *piece;         /* of events: framed, malloc'ed while there is any */
    size_t piece_bytes, piece_sent;
    bool ended, more; /* events: none will follow the piece; there may be more at once */
    int64_t produced_ms, spoke_ms;
} http_sending;

/* Gives back what the reply holds. */
void http_reply_clear(http_reply *reply);
/* Forgets a reply that was made, so that another can be. */
void http_reply_forget(http_request *request);

/* Renders the head into the small buffer, or into fresh memory. Returns it, or NULL. */
char *http_reply_head(http_request *request, size_t *ret_bytes);

/* "Retry-After" with so many seconds, for 429 and 503. */
void http_reply_retry(http_request *request, int64_t seconds);
