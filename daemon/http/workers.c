/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads for handlers that may block and for bodies that go to disk, and two for what lasts
 * after a body. One address does not get both of a pair while another waits. */
#include "daemon/http/connection.h"

#include <stdlib.h>

/* The first whose address has no worker now, else the first. */
static http_request *work_take(http *self, http_pace pace)
{
    struct http_work *work = &self->work[pace];
    http_request **chosen = &work->first;
    http_request *before = NULL;
    http_request *last = NULL;
    for (http_request **link = &work->first; *link != NULL; link = &(*link)->work_next) {
        if (http_exchange_holder(*link)->running[pace] == 0) {
            chosen = link;
            before = last;
            break;
        }
        last = *link;
    }
    http_request *request = *chosen;
    if (request == NULL)
        return NULL;
    *chosen = request->work_next;
    if (work->last == request)
        work->last = before;
    return request;
}

static void work_run(http *self, http_request *request)
{
    http_sink *sink = &request->sink;
    switch (request->task) {
    case HTTP_TASK_HANDLE:
        request->route->handle(self->settings.context, request);
        return;
    case HTTP_TASK_SINK_WRITE:
        request->sink_status =
            sink->write(sink->context, request->body, request->body_bytes, request->sink_error);
        return;
    case HTTP_TASK_SINK_DONE:
        sink->done(sink->context, request, request->sink_status, request->sink_error);
        return;
    }
}

static void *worker_main(void *context)
{
    const struct http_worker *worker = context;
    const http_pace pace = worker->pace;
    http *self = worker->owner;
    pthread_mutex_lock(&self->lock);
    for (;;) {
        http_request *request = work_take(self, pace);
        if (request == NULL && self->finishing)
            break;
        if (request == NULL) {
            pthread_cond_wait(&self->work[pace].arrived, &self->lock);
            continue;
        }
        http_holder *holder = http_exchange_holder(request);
        bool wanted = !request->abandoned;
        holder->running[pace]++;
        pthread_mutex_unlock(&self->lock);
        if (wanted)
            work_run(self, request);
        pthread_mutex_lock(&self->lock);
        holder->running[pace]--;
        http_ready_locked(request);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* What a task needs after its bytes are on disk may last: a digest of all of a file. */
static http_pace pace_of(const http_request *request, http_task task)
{
    const http_sink *sink = &request->sink;
    const bool lasts = task == HTTP_TASK_SINK_DONE && request->sink_status == DIDI_OK &&
                       sink->lasts != NULL && sink->lasts(sink->context);
    return lasts ? HTTP_PACE_LONG : HTTP_PACE_SHORT;
}

void http_workers_hand(http_request *request, http_task task)
{
    http *self = request->http;
    struct http_work *work = &self->work[pace_of(request, task)];
    request->task = task;
    request->with_worker = true;
    pthread_mutex_lock(&self->lock);
    request->work_next = NULL;
    if (work->last != NULL)
        work->last->work_next = request;
    else
        work->first = request;
    work->last = request;
    pthread_cond_signal(&work->arrived);
    pthread_mutex_unlock(&self->lock);
}

int http_workers_start(http *self, didi_error *error)
{
    for (size_t i = 0; i < sizeof self->workers / sizeof self->workers[0]; i++) {
        struct http_worker *worker = &self->workers[i];
        worker->owner = self;
        worker->pace = i < HTTP_WORKERS ? HTTP_PACE_SHORT : HTTP_PACE_LONG;
        int code = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (code != 0)
            return didi_fail_errno(error, code, NULL, "cannot start a thread");
        self->worker_count++;
    }
    return DIDI_OK;
}

void http_workers_stop(http *self)
{
    pthread_mutex_lock(&self->lock);
    self->finishing = true;
    for (size_t i = 0; i < HTTP_PACES; i++)
        pthread_cond_broadcast(&self->work[i].arrived);
    pthread_mutex_unlock(&self->lock);
    for (; self->worker_count > 0; self->worker_count--)
        pthread_join(self->workers[self->worker_count - 1].thread, NULL);
}
