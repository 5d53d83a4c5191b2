/* SPDX-License-Identifier: Apache-2.0 */
/* Threads beside the library's own: two workers run slow handlers, one timer looks at deadlines.
 *
 * A suspended request belongs to whoever took it from the queue or the watch list under the lock;
 * that thread alone resumes it. Nothing is suspended or resumed while the lock is held. */
#include "daemon/base/base.h"
#include "daemon/http/http_internal.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static void *worker_main(void *context)
{
    http *self = context;
    pthread_mutex_lock(&self->lock);
    for (;;) {
        http_request *request = self->work_first;
        if (request == NULL && self->finishing)
            break;
        if (request == NULL) {
            pthread_cond_wait(&self->work_arrived, &self->lock);
            continue;
        }
        self->work_first = request->work_next;
        if (self->work_first == NULL)
            self->work_last = NULL;
        pthread_mutex_unlock(&self->lock);
        request->route->handle(self->settings.context, request);
        MHD_resume_connection(request->connection);
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

bool http_threads_work(http *self, http_request *request)
{
    pthread_mutex_lock(&self->lock);
    bool open = !self->finishing;
    if (open) {
        request->work_next = NULL;
        if (self->work_last != NULL)
            self->work_last->work_next = request;
        else
            self->work_first = request;
        self->work_last = request;
        pthread_cond_signal(&self->work_arrived);
    }
    pthread_mutex_unlock(&self->lock);
    return open;
}

void http_watch(http_request *request, const char *job_id)
{
    http *self = request->http;
    pthread_mutex_lock(&self->lock);
    request->changed = false;
    if (!request->in_watch_list && strlen(job_id) < sizeof request->watched) {
        memcpy(request->watched, job_id, strlen(job_id) + 1);
        request->watch_next = self->watch_first;
        self->watch_first = request;
        request->in_watch_list = true;
    }
    pthread_mutex_unlock(&self->lock);
}

void http_threads_unwatch(http_request *request)
{
    http *self = request->http;
    pthread_mutex_lock(&self->lock);
    if (request->in_watch_list) {
        http_request **link = &self->watch_first;
        while (*link != request)
            link = &(*link)->watch_next;
        *link = request->watch_next;
        request->in_watch_list = false;
    }
    pthread_mutex_unlock(&self->lock);
}

void http_threads_park(http_request *request)
{
    http *self = request->http;
    assert(request->wait_until_ms != 0 && !request->reply.made);
    MHD_suspend_connection(request->connection);
    pthread_mutex_lock(&self->lock);
    request->parked = !request->changed && !self->quiescing && request->in_watch_list;
    bool parked = request->parked;
    pthread_mutex_unlock(&self->lock);
    if (!parked)
        MHD_resume_connection(request->connection);
}

/* Takes one parked request whose job changed or whose time is over. */
static http_request *take_due(http *self, int64_t now_ms)
{
    for (http_request *request = self->watch_first; request != NULL;
         request = request->watch_next) {
        bool due = self->quiescing || request->wait_until_ms <= now_ms;
        if (request->parked && (due || request->changed)) {
            request->parked = false;
            return request;
        }
    }
    return NULL;
}

static void resume_due(http *self)
{
    int64_t now_ms = clock_monotonic_ms();
    for (;;) {
        pthread_mutex_lock(&self->lock);
        http_request *request = take_due(self, now_ms);
        pthread_mutex_unlock(&self->lock);
        if (request == NULL)
            return;
        MHD_resume_connection(request->connection);
    }
}

void http_notify_job(http *self, const char *job_id)
{
    bool any = false;
    pthread_mutex_lock(&self->lock);
    for (http_request *request = self->watch_first; request != NULL;
         request = request->watch_next) {
        if (job_id == NULL || strcmp(request->watched, job_id) == 0) {
            request->changed = true;
            any = true;
        }
    }
    pthread_mutex_unlock(&self->lock);
    if (any)
        resume_due(self);
}

/* The library has no absolute deadline: a header line a second would keep a connection for ever. */
void http_threads_cut_peers(http *self, bool all)
{
    int64_t now_ms = clock_monotonic_ms();
    pthread_mutex_lock(&self->lock);
    for (http_peer *peer = self->peer_first; peer != NULL; peer = peer->next)
        if (all || (!peer->busy && (self->quiescing || now_ms >= peer->deadline_ms)))
            shutdown(peer->fd, SHUT_RDWR);
    pthread_mutex_unlock(&self->lock);
}

static void *timer_main(void *context)
{
    http *self = context;
    pthread_mutex_lock(&self->lock);
    while (!self->finishing) {
        if (self->peer_first == NULL) {
            pthread_cond_wait(&self->tick, &self->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += HTTP_TICK_MILLISECONDS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&self->tick, &self->lock, &until);
        pthread_mutex_unlock(&self->lock);
        http_threads_cut_peers(self, false);
        resume_due(self);
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

int http_threads_start(http *self, didi_error *error)
{
    for (size_t i = 0; i <= HTTP_WORKERS; i++) {
        int code = pthread_create(&self->threads[i], NULL,
                                  i < HTTP_WORKERS ? worker_main : timer_main, self);
        if (code != 0)
            return didi_fail_errno(error, code, NULL, "cannot start a thread");
        self->thread_count++;
    }
    return DIDI_OK;
}

void http_threads_stop(http *self)
{
    pthread_mutex_lock(&self->lock);
    self->finishing = true;
    pthread_cond_broadcast(&self->work_arrived);
    pthread_cond_broadcast(&self->tick);
    pthread_mutex_unlock(&self->lock);
    for (; self->thread_count > 0; self->thread_count--)
        pthread_join(self->threads[self->thread_count - 1], NULL);
}
