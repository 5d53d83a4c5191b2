/* SPDX-License-Identifier: Apache-2.0 */
/* Open-ended replies: what a producer gives, framed as chunks, and a word now and then so that a
 * peer that is gone is noticed. The producer runs on the loop's thread: a viewer costs no thread,
 * and reading a few rows takes less than handing them over would. So that a busy job with hundreds
 * of viewers does not fill the loop, each of them is asked ten times a second at most. */
#include "daemon/base/base.h"
#include "daemon/http/connection.h"
#include "src/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EVENTS_PAUSE_MILLISECONDS = 100,     /* between two questions */
    EVENTS_SILENCE_MILLISECONDS = 15000, /* then a comment is sent */
    EVENTS_FRAME_BYTES = 32,             /* room for a chunk's size and its end */
};

static const char comment[] = ": \n\n";
static const char line_end[] = {'\r', '\n'};
static const char last_chunk[] = {'0', '\r', '\n', '\r', '\n'};

/* Puts a chunk's size before the bytes at EVENTS_FRAME_BYTES, and its end behind them. */
static void frame(http_sending *sending, size_t bytes)
{
    char *body = sending->piece + EVENTS_FRAME_BYTES;
    char size[EVENTS_FRAME_BYTES];
    size_t digits = 0;
    if (sending->chunked && bytes > 0) {
        digits = (size_t)snprintf(size, sizeof size, "%zx\r\n", bytes);
        memcpy(body - digits, size, digits);
        memcpy(body + bytes, line_end, sizeof line_end);
        bytes += sizeof line_end;
    }
    if (sending->chunked && sending->ended) {
        memcpy(body + bytes, last_chunk, sizeof last_chunk);
        bytes += sizeof last_chunk;
    }
    memmove(sending->piece, body - digits, digits + bytes);
    sending->piece_bytes = digits + bytes;
    sending->piece_sent = 0;
}

static bool produce(http_request *request, size_t *ret_bytes)
{
    http_sending *sending = &request->sending;
    const http_events *events = &request->reply.events;
    didi_error error = {0};
    int status = events->produce(events->context, sending->piece + EVENTS_FRAME_BYTES,
                                 HTTP_EVENTS_BYTES, ret_bytes, &sending->ended, &error);
    if (status != DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "a stream of events is cut", LOG_TEXT("error", error.message),
                 LOG_TEXT("subject", error.subject), LOG_TEXT("request_id", request->id));
    return status == DIDI_OK;
}

bool http_events_produce(http_request *request)
{
    http_sending *sending = &request->sending;
    http *self = request->http;
    int64_t now_ms = clock_monotonic_ms();
    size_t bytes = 0;
    sending->piece_bytes = sending->piece_sent = 0;
    bool quiescing = atomic_load(&self->quiescing);
    bool ask = now_ms - sending->produced_ms >= EVENTS_PAUSE_MILLISECONDS || sending->more;
    bool silent = now_ms - sending->spoke_ms >= EVENTS_SILENCE_MILLISECONDS;
    if (!ask && !silent && !quiescing)
        return true;
    if (sending->piece == NULL)
        sending->piece = memory_resized(NULL, HTTP_EVENTS_BYTES + 2 * EVENTS_FRAME_BYTES, 1);
    if (sending->piece == NULL)
        return false;
    if (ask && !http_watch_park(request)) /* it changed: look before parking again */
        http_watch_park(request);
    if (ask && !produce(request, &bytes))
        return false;
    sending->produced_ms = ask ? now_ms : sending->produced_ms;
    sending->more = bytes > 0;
    sending->ended |= quiescing && bytes == 0;
    if (bytes == 0 && silent) {
        memcpy(sending->piece + EVENTS_FRAME_BYTES, comment, sizeof comment - 1);
        bytes = sizeof comment - 1;
    }
    if (bytes > 0)
        sending->spoke_ms = now_ms;
    frame(sending, bytes);
    if (sending->piece_bytes == 0) { /* hundreds wait: none keeps a buffer */
        free(sending->piece);
        sending->piece = NULL;
    }
    return true;
}

int64_t http_events_pause(http_request *request)
{
    const http_sending *sending = &request->sending;
    int64_t now_ms = clock_monotonic_ms();
    int64_t silence = sending->spoke_ms + EVENTS_SILENCE_MILLISECONDS - now_ms;
    int64_t pause = sending->produced_ms + EVENTS_PAUSE_MILLISECONDS - now_ms;
    int64_t due = silence;
    if (!http_watch_is_parked(request) && pause < due)
        due = pause; /* it changed, and was asked too early */
    return due < 1 ? 1 : due;
}
