/* SPDX-License-Identifier: Apache-2.0 */
/* Events of a job as they come (server-sent events): numbers and JSON are those of the pages.
 *
 * A viewer holds the number of the last event it was given, and no thread. Each time the edge asks,
 * a bounded number of rows is read. */
#include "daemon/api/event_stream.h"

#include "daemon/api/api_internal.h"
#include "proto/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    STREAM_ROWS = 32, /* read at once: well below a millisecond */
    STREAM_RETRY_MILLISECONDS = 2000,
    STREAM_FRAME_BYTES = 96, /* of an event, beside its JSON */
};

static const char media_type[] = "text/event-stream";

typedef struct event_stream {
    api *owner;
    char job_id[ID_BYTES];
    int64_t after;   /* number of the last event given */
    bool greeted;    /* the hint when to come again was given */
    char client[64]; /* http_client of the request */
} event_stream;

/* ---- who wants one ---- */

/* Reads one media range of Accept, up to its comma: is it ours, and not with a weight of 0? */
static bool range_asks(const char *range, size_t bytes)
{
    size_t type = strcspn(range, ",; \t");
    if (type != sizeof media_type - 1 || strncasecmp(range, media_type, type) != 0)
        return false;
    for (const char *at = range + type; at < range + bytes; at++) {
        if (*at != ';')
            continue;
        at += 1 + strspn(at + 1, " \t");
        if (strncasecmp(at, "q=0", 3) == 0)
            return at[3] == '.' && strcspn(at + 4, "123456789") < strcspn(at + 4, ",; \t");
    }
    return true;
}

static bool accept_asks(const char *accept)
{
    while (accept != NULL && *accept != '\0') {
        accept += strspn(accept, ", \t");
        size_t bytes = strcspn(accept, ",");
        if (range_asks(accept, bytes))
            return true;
        accept += bytes;
    }
    return false;
}

bool api_event_stream_asked(http_request *request, bool *ret_stream)
{
    const char *asked = http_query(request, "stream");
    long long number = 0;
    if (!http_query_number(request, "stream", 0, 1, &number))
        return false;
    *ret_stream = asked != NULL ? number == 1 : accept_asks(http_header(request, "Accept"));
    if (!*ret_stream)
        return true;
    static const char *const others[] = {"limit", "wait", "last"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (http_query(request, others[i]) != NULL)
            return http_refuse_parameter(request, others[i], "a stream has no pages");
    return true;
}

/* ---- what is in it ---- */

/* Says how many events are gone before one; 0 when none is, or it does not fit. */
static size_t write_dropped(const event_stream *self, char *buffer, size_t room, int64_t number)
{
    const long long dropped = number - self->after - 1;
    if (dropped == 0)
        return 0;
    int bytes =
        snprintf(buffer, room, "event: dropped\ndata: {\"after\":%lld,\"dropped\":%lld}\n\n",
                 (long long)self->after, dropped);
    return (size_t)bytes < room ? (size_t)bytes : 0;
}

/* Writes one event; 0 when it does not fit, or (with *ret_error) there was no memory. */
static size_t write_event(char *buffer, size_t room, const store_event *event, didi_error *error)
{
    json_t *value = api_event_json(event);
    char *text = value == NULL ? NULL : document_render(value);
    size_t bytes = 0;
    json_decref(value);
    if (text == NULL)
        didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    else if (strlen(text) + STREAM_FRAME_BYTES < room)
        bytes = (size_t)snprintf(buffer, room, "id: %lld\nevent: %s\ndata: %s\n\n",
                                 (long long)event->number, event->kind, text);
    free(text);
    return bytes;
}

static int write_news(event_stream *self, char *buffer, size_t room, size_t *bytes,
                      didi_error *error)
{
    store_event *events = NULL;
    size_t count = 0;
    int status = store_event_list(self->owner->records, self->job_id, self->after, STREAM_ROWS,
                                  &events, &count, error);
    for (size_t i = 0; status == DIDI_OK && i < count; i++) {
        didi_error own = {0};
        size_t gap = write_dropped(self, buffer + *bytes, room - *bytes, events[i].number);
        size_t written = write_event(buffer + *bytes + gap, room - *bytes - gap, &events[i], &own);
        if (own.status != DIDI_OK) {
            *error = own;
            status = own.status;
        }
        if (written == 0)
            break;
        *bytes += gap + written;
        self->after = events[i].number;
    }
    store_events_free(events, count);
    return status;
}

/* Says that nothing follows; `state` is NULL when the job was removed. */
static size_t write_end(const event_stream *self, char *buffer, size_t room, const char *state)
{
    int bytes = snprintf(buffer, room, "event: end\ndata: {\"next\":%lld,\"state\":%s%s%s}\n\n",
                         (long long)self->after, state == NULL ? "null" : "\"",
                         state == NULL ? "" : state, state == NULL ? "" : "\"");
    return (size_t)bytes < room ? (size_t)bytes : 0;
}

static bool is_end(job_state state)
{
    return state != JOB_QUEUED && state != JOB_RUNNING;
}

static int stream_produce(void *context, char *buffer, size_t room, size_t *ret_count,
                          bool *ret_end, didi_error *error)
{
    event_stream *self = context;
    store_event_reach reach = {0};
    didi_error own = {0};
    size_t bytes = 0;
    if (!access_holds(self->owner->access, self->client))
        return didi_fail(error, DIDI_CANCELLED, NULL, "the client's token was revoked, or is over");
    if (!self->greeted)
        bytes = (size_t)snprintf(buffer, room, "retry: %d\n\n", STREAM_RETRY_MILLISECONDS);
    int status = store_event_reach_get(self->owner->records, self->job_id, &reach, &own);
    if (status == DIDI_OK && self->after < reach.number)
        status = write_news(self, buffer, room, &bytes, &own);
    bool gone = status == DIDI_NOT_FOUND;
    if (status != DIDI_OK && !gone) {
        *error = own;
        return status;
    }
    *ret_end = false;
    if (gone || (is_end(reach.state) && self->after >= reach.number)) {
        size_t last = write_end(self, buffer + bytes, room - bytes,
                                gone ? NULL : job_state_name(reach.state));
        *ret_end = last > 0; /* else the next time */
        bytes += last;
    }
    self->greeted = true;
    *ret_count = bytes;
    return DIDI_OK;
}

bool api_event_start(http_request *request, long long *ret_after, bool *ret_again)
{
    const char *last = http_header(request, "Last-Event-ID");
    *ret_again = last != NULL;
    if (!http_query_number(request, "after", 0, LIMIT_SAFE_INTEGER, ret_after))
        return false;
    return !*ret_again || http_number_parse(last, 0, LIMIT_SAFE_INTEGER, ret_after) ||
           http_refuse_parameter(request, "Last-Event-ID", "it must be the number of an event");
}

void api_event_stream(api *self, http_request *request)
{
    const char *job_id = http_path_part(request, 0);
    store_event_reach reach = {0};
    didi_error error = {0};
    long long after = 0;
    bool again = false;
    if (!api_event_start(request, &after, &again))
        return;
    http_watch(request, job_id);
    if (store_event_reach_get(self->records, job_id, &reach, &error) != DIDI_OK) {
        api_reply_job_error(request, &error);
        return;
    }
    if (again && is_end(reach.state) && after >= reach.number) {
        http_reply_empty(request, 204); /* tells a browser's EventSource to stay away */
        return;
    }
    event_stream *stream = memory_zeroed(1, sizeof *stream);
    if (stream == NULL) {
        http_reply_json(request, 200, NULL);
        return;
    }
    stream->owner = self;
    stream->after = after;
    snprintf(stream->client, sizeof stream->client, "%s", http_client(request));
    snprintf(stream->job_id, sizeof stream->job_id, "%s", job_id);
    http_reply_header(request, "Vary", "Accept");
    http_reply_events(request, &(http_events){stream, stream_produce, free});
}
