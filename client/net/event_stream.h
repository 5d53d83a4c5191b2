/* SPDX-License-Identifier: Apache-2.0 */
/* The events of a job as they come: server-sent events (WHATWG HTML, 9.2). */
#pragma once

#include "client/net/service.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EVENT_STREAM_BYTES_MAX = 1 << 20,       /* of one event */
    EVENT_STREAM_SILENCE_SECONDS = 20,      /* a live server says something more often */
    EVENT_STREAM_PAUSE_MILLISECONDS = 1000, /* before a stream that broke is taken up again */
};

/* Splits a stream into events. `event` gets kind ("message" where none is given) and data, the
 * lines of which are joined by "\n"; both live for the call. It returns a client_exit. */
typedef struct event_parser {
    void *context;
    int (*event)(void *context, const char *kind, const char *data, didi_error *error);
    char *line, *data; /* the rest is the parser's */
    size_t line_bytes, line_room, data_bytes, data_room;
    char kind[32];
    bool has_data, after_return;
} event_parser;

/* Takes the next bytes. Errors: CLIENT_FAILURE (too long, no memory), what `event` returns. */
int event_parser_take(event_parser *self, const char *bytes, size_t count, didi_error *error);
void event_parser_clear(event_parser *self);

typedef struct event_viewer {
    void *context;
    /* An event of the job, numbered above the one before. Returns a client_exit. */
    int (*event)(void *context, const json_t *event, didi_error *error);
    /* Now and then while the stream lasts, at least once a second. NULL for none. */
    int (*idle)(void *context, didi_error *error);
} event_viewer;

typedef enum event_stream_end {
    EVENT_STREAM_OVER,    /* the job is finished or removed, and all its events came */
    EVENT_STREAM_BROKEN,  /* ended before: to be taken up again after a while */
    EVENT_STREAM_REFUSED, /* the server has no streams */
} event_stream_end;

/* Follows the job from the event after *after, which is kept up to date, also when this fails.
 * Errors: those of service_fetch (a connection that breaks is CLIENT_UNREACHABLE), what the viewer
 * returns. */
int event_stream_follow(client_service *service, const char *job_id, int64_t *after,
                        const event_viewer *viewer, event_stream_end *ret_end, didi_error *error);
