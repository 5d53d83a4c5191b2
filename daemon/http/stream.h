/* SPDX-License-Identifier: Apache-2.0 */
/* Replies whose bytes are made while they are sent. */
#pragma once

#include "daemon/http/http_internal.h"

typedef struct http_stream http_stream;

/* A streamed reply; its thread starts with the first look for bytes. NULL when out of memory: the
 * source is then still the caller's. */
http_stream *http_stream_create(http *owner, struct MHD_Connection *connection,
                                const http_source *source, uint64_t bytes);
/* The library's callbacks. */
ssize_t http_stream_take(void *cls, uint64_t position, char *buffer, size_t room);
void http_stream_free(void *cls);
/* Cuts all; waits for their threads. No other starts: `finishing` is set. */
void http_streams_stop(http *self);
