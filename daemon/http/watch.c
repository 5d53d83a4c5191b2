/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a job to change, without a thread. A request that waits is parked; whoever finds it
 * so under the lock takes it out and puts it among the ready ones, which the loop looks at. */
#include "daemon/base/base.h"
#include "daemon/http/connection.h"

#include <assert.h>
#include <string.h>

static http_request **watch_bucket(http *self, const char *job_id)
{
    uint32_t hash = 2166136261U; /* FNV-1a */
    for (; *job_id != '\0'; job_id++)
        hash = (hash ^ (unsigned char)*job_id) * 16777619U;
    return &self->watch[hash % HTTP_WATCH_BUCKETS];
}

void http_ready_locked(http_request *request)
{
    http *self = request->http;
    if (request->ready)
        return;
    bool first = self->ready_first == NULL;
    request->ready = true;
    request->ready_next = self->ready_first;
    self->ready_first = request;
    if (first)
        uv_async_send(&self->wake);
}

void http_watch(http_request *request, const char *job_id)
{
    http *self = request->http;
    pthread_mutex_lock(&self->lock);
    request->changed = false;
    if (!request->in_watch_list && strlen(job_id) < sizeof request->watched) {
        http_request **bucket = watch_bucket(self, job_id);
        memcpy(request->watched, job_id, strlen(job_id) + 1);
        request->watch_next = *bucket;
        *bucket = request;
        request->in_watch_list = true;
    }
    pthread_mutex_unlock(&self->lock);
}

void http_watch_leave(http_request *request)
{
    http *self = request->http;
    pthread_mutex_lock(&self->lock);
    if (request->in_watch_list) {
        http_request **link = watch_bucket(self, request->watched);
        while (*link != request)
            link = &(*link)->watch_next;
        *link = request->watch_next;
        request->in_watch_list = false;
    }
    if (request->ready) {
        http_request **link = &self->ready_first;
        while (*link != request)
            link = &(*link)->ready_next;
        *link = request->ready_next;
        request->ready = false;
        request->with_worker = false; /* ready means that the worker gave it back */
    }
    request->parked = false;
    pthread_mutex_unlock(&self->lock);
}

void http_wait(http_request *request, int64_t milliseconds)
{
    assert(!request->reply.made && milliseconds > 0);
    if (request->wait_until_ms == 0)
        request->wait_until_ms = clock_monotonic_ms() + milliseconds;
    request->wait_asked = true;
}

bool http_watch_park(http_request *request)
{
    http *self = request->http;
    assert(!request->reply.made || request->reply.events.close != NULL);
    pthread_mutex_lock(&self->lock);
    request->parked = !request->changed && !atomic_load(&self->quiescing) && request->in_watch_list;
    request->changed = false;
    bool parked = request->parked;
    pthread_mutex_unlock(&self->lock);
    return parked;
}

bool http_watch_unpark(http_request *request)
{
    http *self = request->http;
    pthread_mutex_lock(&self->lock);
    bool parked = request->parked;
    request->parked = false;
    pthread_mutex_unlock(&self->lock);
    return parked;
}

bool http_watch_is_parked(http_request *request)
{
    pthread_mutex_lock(&request->http->lock);
    bool parked = request->parked;
    pthread_mutex_unlock(&request->http->lock);
    return parked;
}

static void notify_bucket(http_request *first, const char *job_id)
{
    for (http_request *request = first; request != NULL; request = request->watch_next) {
        if (job_id != NULL && strcmp(request->watched, job_id) != 0)
            continue;
        request->changed = true;
        if (request->parked) {
            request->parked = false;
            http_ready_locked(request);
        }
    }
}

void http_notify_job(http *self, const char *job_id)
{
    pthread_mutex_lock(&self->lock);
    if (job_id != NULL)
        notify_bucket(*watch_bucket(self, job_id), job_id);
    for (size_t i = 0; i < HTTP_WATCH_BUCKETS && job_id == NULL; i++)
        notify_bucket(self->watch[i], NULL);
    pthread_mutex_unlock(&self->lock);
}
