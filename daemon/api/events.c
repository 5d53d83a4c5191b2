/* SPDX-License-Identifier: Apache-2.0 */
/* Events of a job, by page and by long poll; event_stream.c has them as a stream. */
#include "daemon/api/event_stream.h"

#include "daemon/api/api_internal.h"
#include "proto/proto.h"

#include <math.h>
#include <string.h>

static void set_real(json_t *value, const char *key, double number)
{
    if (isfinite(number))
        json_object_set_new(value, key, json_real(number));
}

static void event_numbers(json_t *value, const store_event *event)
{
    set_real(value, "loss", event->loss);
    set_real(value, "relative_error", event->relative_error);
    set_real(value, "ratio", event->ratio);
    set_real(value, "ratio_target", event->ratio_target);
    set_real(value, "seconds", event->seconds);
    json_object_set_new(value, "step", json_integer((json_int_t)event->step));
    json_object_set_new(value, "items_done", json_integer((json_int_t)event->items_done));
    json_object_set_new(value, "items_total", json_integer((json_int_t)event->items_total));
    json_object_set_new(value, "bytes_read", json_integer((json_int_t)event->bytes_read));
}

json_t *api_event_json(const store_event *event)
{
    json_t *value =
        json_pack("{s:I, s:o, s:s, s:i}", "number", (json_int_t)event->number, "time",
                  clock_json(event->at_ms), "kind", event->kind, "attempt", (int)event->attempt);
    if (value == NULL)
        return NULL;
    if (event->stage[0] != '\0')
        json_object_set_new(value, "stage", json_string(event->stage));
    if (strcmp(event->kind, "point") == 0)
        event_numbers(value, event);
    if (event->text != NULL) {
        const char *key = strcmp(event->kind, "state") == 0 ? "state" : "text";
        json_object_set_new(value, key, json_string(event->text));
    }
    if (event->traceparent[0] != '\0')
        json_object_set_new(value, "traceparent", json_string(event->traceparent));
    return value;
}

static void events_reply(http_request *request, const store_job *job, const store_event *events,
                         size_t count, long long after)
{
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, api_event_json(&events[i]));
    json_int_t next = count == 0 ? after : events[count - 1].number;
    http_reply_json(request, 200,
                    json_pack("{s:o, s:b, s:I, s:I, s:s}", "data", data, "has_more",
                              count > 0 && next < job->event_count, "next", next, "dropped",
                              next - (json_int_t)after - (json_int_t)count, "state",
                              job_state_name(job->state)));
}

void api_events_list(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_job job;
    store_event *events = NULL;
    size_t count = 0;
    long long after = 0;
    long long limit = LIMIT_EVENT_PAGE_DEFAULT;
    long long wait = 0;
    long long last = 0;
    bool stream = false;
    if (!api_event_stream_asked(request, &stream))
        return;
    if (stream) {
        api_event_stream(self, request);
        return;
    }
    bool again = false;
    if (!api_event_start(request, &after, &again) ||
        !http_query_number(request, "limit", 1, LIMIT_EVENT_PAGE, &limit) ||
        !http_query_number(request, "last", 1, LIMIT_EVENT_PAGE, &last) ||
        !http_query_number(request, "wait", 0, LIMIT_WAIT_SECONDS, &wait))
        return;
    http_watch(request, http_path_part(request, 0));
    if (!access_holds(self->access, http_client(request))) {
        access_refuse_ended(request);
        return;
    }
    /* The job first: if it is finished, the events read afterwards are all there are. */
    if (!api_find_job(self, request, &job))
        return;
    bool finished = job.state != JOB_QUEUED && job.state != JOB_RUNNING;
    if (last > 0 && job.event_count - last > after)
        after = job.event_count - last;
    if (store_event_list(self->records, job.id, after, (size_t)limit, &events, &count, &error) !=
        DIDI_OK)
        api_reply_job_error(request, &error);
    else if (count == 0 && wait > 0 && !finished && !http_wait_is_over(request))
        http_wait(request, wait * 1000);
    else
        events_reply(request, &job, events, count, after);
    store_events_free(events, count);
    store_job_clear(&job);
}
