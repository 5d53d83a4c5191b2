/* SPDX-License-Identifier: Apache-2.0 */
/* Replies whose bytes are made while they are sent. Internal to the HTTP edge. */
#pragma once

#include "daemon/http/http_internal.h"

/* A streamed reply; its thread starts with the first look for bytes. NULL when out of memory: the
 * source is then still the caller's. */
http_stream *http_stream_create(http_request *request, const http_source *source, uint64_t bytes);
/* What can be sent now; none: the request is made ready when there is some. False: no more comes.
 */
bool http_stream_look(http_stream *self, const char **ret_place, size_t *ret_bytes);
/* So much of it was sent. */
void http_stream_taken(http_stream *self, size_t bytes);
void http_stream_free(http_stream *self);
/* Cuts all; waits for their threads. No other starts: `finishing` is set. */
void http_streams_stop(http *self);
