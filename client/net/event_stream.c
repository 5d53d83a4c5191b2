/* SPDX-License-Identifier: Apache-2.0 */
/* The events of a job as they come. */
#include "client/net/event_stream.h"

#include "client/base/base.h"
#include "src/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the format ---- */

static int append(char **text, size_t *bytes, size_t *room, const char *more, size_t count,
                  didi_error *error)
{
    if (count > EVENT_STREAM_BYTES_MAX - *bytes)
        return didi_fail(error, CLIENT_FAILURE, NULL, "an event of the server is over %d KiB",
                         EVENT_STREAM_BYTES_MAX >> 10);
    size_t needed = *bytes + count + 1;
    if (needed > *room) {
        char *grown = realloc(*text, 2 * needed);
        if (grown == NULL)
            return client_fail_memory(error);
        *text = grown;
        *room = 2 * needed;
    }
    memcpy(*text + *bytes, more, count);
    *bytes += count;
    (*text)[*bytes] = '\0';
    return CLIENT_OK;
}

static int dispatch(event_parser *self, didi_error *error)
{
    int status = CLIENT_OK;
    if (self->has_data)
        status = self->event(self->context, self->kind[0] != '\0' ? self->kind : "message",
                             self->data != NULL ? self->data : "", error);
    self->has_data = false;
    self->data_bytes = 0;
    self->kind[0] = '\0';
    return status;
}

/* A line without its end; an empty one ends an event. Unknown fields are passed over. */
static int take_line(event_parser *self, const char *line, didi_error *error)
{
    if (line[0] == '\0')
        return dispatch(self, error);
    size_t name = strcspn(line, ":");
    const char *value = line[name] == ':' ? line + name + 1 : line + name;
    value += *value == ' ';
    if (name == 5 && memcmp(line, "event", 5) == 0)
        snprintf(self->kind, sizeof self->kind, "%s", value);
    if (name != 4 || memcmp(line, "data", 4) != 0)
        return CLIENT_OK;
    int status = CLIENT_OK;
    if (self->has_data)
        status = append(&self->data, &self->data_bytes, &self->data_room, "\n", 1, error);
    self->has_data = true;
    return status != CLIENT_OK ? status
                               : append(&self->data, &self->data_bytes, &self->data_room, value,
                                        strlen(value), error);
}

int event_parser_take(event_parser *self, const char *bytes, size_t count, didi_error *error)
{
    int status = CLIENT_OK;
    while (status == CLIENT_OK && count > 0) {
        if (self->after_return && *bytes == '\n') { /* of a "\r\n" */
            self->after_return = false;
            bytes++;
            count--;
            continue;
        }
        self->after_return = false;
        size_t end = 0;
        while (end < count && bytes[end] != '\n' && bytes[end] != '\r')
            end++;
        status = append(&self->line, &self->line_bytes, &self->line_room, bytes, end, error);
        if (status != CLIENT_OK || end == count)
            break;
        self->after_return = bytes[end] == '\r';
        self->line_bytes = 0;
        status = take_line(self, self->line, error);
        bytes += end + 1;
        count -= end + 1;
    }
    return status;
}

void event_parser_clear(event_parser *self)
{
    free(self->line);
    free(self->data);
    self->line = self->data = NULL;
}

/* ---- a job ---- */

typedef struct follower {
    event_parser parser;
    const event_viewer *viewer;
    int64_t *after;
    bool is_stream, over;
} follower;

static int take_event(void *context, const char *kind, const char *data, didi_error *error)
{
    follower *self = context;
    if (strcmp(kind, "end") == 0) {
        self->over = true;
        return CLIENT_OK;
    }
    if (strcmp(kind, "dropped") == 0) /* the numbers tell too */
        return CLIENT_OK;
    json_t *event = json_load(data, strlen(data), JSON_REJECT_DUPLICATES, NULL, NULL);
    int64_t number = record_integer(event, "number");
    int status = CLIENT_OK;
    if (!json_is_object(event) || number < 0)
        status = didi_fail(error, CLIENT_FAILURE, NULL, "the server sent an event that is none");
    else if (number > *self->after)
        status = self->viewer->event(self->viewer->context, event, error);
    if (status == CLIENT_OK && number > *self->after)
        *self->after = number;
    json_decref(event);
    return status;
}

static int begin(void *context, const transport_response *head, didi_error *error)
{
    follower *self = context;
    size_t bytes = strcspn(head->content_type, "; \t");
    self->is_stream = bytes == 17 && strncasecmp(head->content_type, "text/event-stream", 17) == 0;
    (void)error;
    return CLIENT_OK;
}

static int take_bytes(void *context, const void *bytes, size_t count, didi_error *error)
{
    follower *self = context;
    return self->is_stream && !self->over ? event_parser_take(&self->parser, bytes, count, error)
                                          : CLIENT_OK; /* a page of a server without streams */
}

static int pass_time(void *context, didi_error *error)
{
    const follower *self = context;
    const event_viewer *viewer = self->viewer;
    return self->is_stream && viewer->idle != NULL ? viewer->idle(viewer->context, error)
                                                   : CLIENT_OK;
}

int event_stream_follow(client_service *service, const char *job_id, int64_t *after,
                        const event_viewer *viewer, event_stream_end *ret_end, didi_error *error)
{
    follower self = {.viewer = viewer, .after = after};
    self.parser.context = &self;
    self.parser.event = take_event;
    const transport_sink sink = {&self, begin, take_bytes, pass_time};
    char *target = memory_format("/v1/jobs/%s/events?after=%lld", job_id, (long long)*after);
    char *last = memory_format("Last-Event-ID: %lld", (long long)*after);
    transport_response response = {0};
    didi_error own = {0};
    int status = CLIENT_OK;
    if (target == NULL || last == NULL) {
        status = client_fail_memory(error);
        goto out;
    }
    const char *headers[] = {"Accept: text/event-stream, application/json;q=0.5",
                             *after > 0 ? last : NULL, NULL};
    const transport_request request = {.method = "GET",
                                       .target = target,
                                       .headers = headers,
                                       .repeatable = true,
                                       .extra_seconds = EVENT_STREAM_SILENCE_SECONDS,
                                       .sink = &sink};
    status = service_fetch(service, &request, &response, &own);
    bool nothing = service_last_status(service) == 204 && status == CLIENT_FAILURE;
    if (nothing)
        status = CLIENT_OK;
    if (status == CLIENT_OK || self.over) {
        *ret_end = nothing || self.over ? EVENT_STREAM_OVER
                   : self.is_stream     ? EVENT_STREAM_BROKEN
                                        : EVENT_STREAM_REFUSED;
        status = CLIENT_OK;
    } else {
        *error = own;
    }
    transport_response_clear(&response);
out:
    event_parser_clear(&self.parser);
    free(target);
    free(last);
    return status;
}
