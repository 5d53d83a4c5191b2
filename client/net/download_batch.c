/* SPDX-License-Identifier: Apache-2.0 */
/* Several artifacts side by side: threads that take one file after the other. */
#include "client/net/download_batch.h"

#include "client/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH_OBSERVE_MILLISECONDS = 100 };

typedef struct batch_state batch_state;

typedef struct batch_worker {
    batch_state *state;
    client_service *service;
    pthread_t thread;
    int64_t bytes; /* of the file in hand */
} batch_worker;

struct batch_state {
    const download_batch *batch;
    download_outcome *outcomes;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t ended; /* a worker has */
    batch_worker workers[DOWNLOAD_PARALLEL_MAX];
    size_t started, working;
    size_t next, done; /* files */
    int64_t done_bytes;
    int status; /* of the first that failed */
    didi_error error;
};

static int observe(void *context, int64_t bytes, didi_error *error)
{
    batch_worker *worker = context;
    batch_state *state = worker->state;
    pthread_mutex_lock(&state->lock);
    worker->bytes = bytes;
    const bool failed = state->status != CLIENT_OK;
    pthread_mutex_unlock(&state->lock);
    return failed ? didi_fail(error, CLIENT_FAILURE, NULL, "another file failed") : CLIENT_OK;
}

/* Takes the next file; false when there is none, or one failed. */
static bool take_file(batch_worker *worker, size_t *ret_file)
{
    batch_state *state = worker->state;
    pthread_mutex_lock(&state->lock);
    const bool taken = state->status == CLIENT_OK && state->next < state->batch->count;
    worker->bytes = 0;
    *ret_file = taken ? state->next++ : 0;
    pthread_mutex_unlock(&state->lock);
    return taken;
}

static void give_file(batch_worker *worker, size_t file, int status, const didi_error *error)
{
    batch_state *state = worker->state;
    pthread_mutex_lock(&state->lock);
    worker->bytes = 0;
    if (status == CLIENT_OK) {
        state->done++;
        state->done_bytes += state->batch->files[file].bytes;
    } else if (state->status == CLIENT_OK) {
        state->status = status;
        state->error = *error;
    }
    pthread_mutex_unlock(&state->lock);
}

static void *work(void *context)
{
    batch_worker *worker = context;
    batch_state *state = worker->state;
    const download_batch *batch = state->batch;
    const download_observer observer = {.context = worker, .observe = observe};
    size_t file = 0;
    while (take_file(worker, &file)) {
        didi_error error = {0};
        int status = download_run(worker->service, batch->directory_fd, &batch->files[file],
                                  &observer, &state->outcomes[file], &error);
        give_file(worker, file, status, &error);
    }
    pthread_mutex_lock(&state->lock);
    state->working--;
    pthread_cond_signal(&state->ended);
    pthread_mutex_unlock(&state->lock);
    return NULL;
}

static int start(batch_state *self, const client_settings *settings, client_interrupt *interrupt,
                 didi_error *error)
{
    const size_t wanted =
        self->batch->parallel < self->batch->count ? self->batch->parallel : self->batch->count;
    for (size_t i = 0; i < wanted; i++) {
        batch_worker *worker = &self->workers[i];
        worker->state = self;
        int status = service_open(settings, interrupt, &worker->service, error);
        if (status != CLIENT_OK)
            return status;
        pthread_mutex_lock(&self->lock);
        self->working++;
        pthread_mutex_unlock(&self->lock);
        const int refused = pthread_create(&worker->thread, NULL, work, worker);
        if (refused != 0) {
            pthread_mutex_lock(&self->lock);
            self->working--;
            pthread_mutex_unlock(&self->lock);
            service_close(worker->service);
            /* Fewer threads do as well; none do not. */
            return self->started > 0
                       ? CLIENT_OK
                       : didi_fail(error, CLIENT_FAILURE, NULL, "no thread: %s", strerror(refused));
        }
        self->started++;
    }
    return CLIENT_OK;
}

/* Tells how far all are until no worker is left. */
static void watch(batch_state *self)
{
    const download_batch *batch = self->batch;
    pthread_mutex_lock(&self->lock);
    for (;;) {
        const bool over = self->working == 0;
        int64_t bytes = self->done_bytes;
        const size_t done = self->done;
        for (size_t i = 0; i < self->started; i++)
            bytes += self->workers[i].bytes;
        pthread_mutex_unlock(&self->lock);
        batch->observe(batch->context, done, bytes);
        if (over)
            return;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += BATCH_OBSERVE_MILLISECONDS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_mutex_lock(&self->lock);
        if (self->working > 0)
            (void)pthread_cond_timedwait(&self->ended, &self->lock, &until);
    }
}

int download_all(const client_settings *settings, client_interrupt *interrupt,
                 const download_batch *batch, download_outcome *ret_outcomes, didi_error *error)
{
    assert(batch->parallel >= 1 && batch->parallel <= DOWNLOAD_PARALLEL_MAX);
    batch_state *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return client_fail_memory(error);
    self->batch = batch;
    self->outcomes = ret_outcomes;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->ended, NULL);
    int status = start(self, settings, interrupt, error);
    if (status != CLIENT_OK) { /* those that run already must end */
        pthread_mutex_lock(&self->lock);
        self->status = status;
        pthread_mutex_unlock(&self->lock);
    }
    watch(self);
    for (size_t i = 0; i < self->started; i++) {
        pthread_join(self->workers[i].thread, NULL);
        service_close(self->workers[i].service);
    }
    if (status == CLIENT_OK && self->status != CLIENT_OK) {
        status = self->status;
        *error = self->error;
    }
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->ended);
    free(self);
    return status;
}
