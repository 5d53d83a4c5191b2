/* SPDX-License-Identifier: Apache-2.0 */
/* Replies whose bytes are made while they are sent: a thread of the reply's own fills a ring, the
 * loop empties it. While the ring is empty the loop does other things; whoever finds `waiting` set
 * under the lock takes it back and has the loop look again. */
#include "daemon/http/stream.h"

#include "daemon/base/base.h"
#include "daemon/http/connection.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM_RING_BYTES = 4 << 20, STREAM_WAKE_BYTES = 256 << 10 };

struct http_stream {
    http *http;
    http_request *request; /* whose reply it is, until freed; guarded by http.lock */
    http_source source;
    char *ring;
    bool started;             /* the loop's */
    struct http_stream *next; /* of those with a thread; guarded by http.lock */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t emptied;
    size_t first, used;
    uint64_t left; /* to be made */
    bool waiting;  /* the loop, for bytes */
    bool failed;   /* no more will be made, or are wanted */
    unsigned holders;
};

http_stream *http_stream_create(http_request *request, const http_source *source, uint64_t bytes)
{
    http_stream *self = memory_zeroed(1, sizeof *self);
    char *ring = memory_aligned(STREAM_RING_BYTES, 1);
    if (self == NULL || ring == NULL) {
        free(self);
        free(ring);
        return NULL;
    }
    *self = (http_stream){.http = request->http,
                          .request = request,
                          .source = *source,
                          .ring = ring,
                          .left = bytes,
                          .holders = 1};
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->emptied, NULL);
    return self;
}

static void stream_release(http_stream *self)
{
    pthread_mutex_lock(&self->lock);
    bool last = --self->holders == 0;
    pthread_mutex_unlock(&self->lock);
    if (!last)
        return;
    self->source.close(self->source.context);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->emptied);
    free(self->ring);
    free(self);
}

static void stream_cancel(http_stream *self)
{
    pthread_mutex_lock(&self->lock);
    self->failed = true;
    pthread_cond_signal(&self->emptied);
    pthread_mutex_unlock(&self->lock);
}

void http_stream_free(http_stream *self)
{
    pthread_mutex_lock(&self->http->lock);
    self->request = NULL;
    pthread_mutex_unlock(&self->http->lock);
    stream_cancel(self);
    stream_release(self);
}

/* Waits for room; gives the next free bytes that lie together, 0 when no more are to be made. */
static size_t stream_room(http_stream *self, char **ret_place)
{
    pthread_mutex_lock(&self->lock);
    while (self->used == STREAM_RING_BYTES && !self->failed)
        pthread_cond_wait(&self->emptied, &self->lock);
    size_t end = (self->first + self->used) % STREAM_RING_BYTES;
    size_t room = end < self->first ? self->first - end : STREAM_RING_BYTES - end;
    bool over = self->failed || self->left == 0;
    pthread_mutex_unlock(&self->lock);
    *ret_place = self->ring + end;
    return over ? 0 : room;
}

/* Notes what was made, and wakes the connection once that is worth it. */
static void stream_put(http_stream *self, size_t count, bool failed)
{
    pthread_mutex_lock(&self->lock);
    self->used += count;
    self->left -= count;
    self->failed |= failed;
    bool wake =
        self->waiting && (self->failed || self->left == 0 || self->used >= STREAM_WAKE_BYTES);
    if (wake)
        self->waiting = false;
    pthread_mutex_unlock(&self->lock);
    if (!wake)
        return;
    pthread_mutex_lock(&self->http->lock);
    if (self->request != NULL)
        http_ready_locked(self->request);
    pthread_mutex_unlock(&self->http->lock);
}

static void stream_leave(http_stream *self)
{
    http *owner = self->http;
    pthread_mutex_lock(&owner->lock);
    http_stream **link = &owner->stream_first;
    while (*link != self)
        link = &(*link)->next;
    *link = self->next;
    pthread_mutex_unlock(&owner->lock);
    stream_release(self);
    pthread_mutex_lock(&owner->lock);
    owner->stream_threads--;
    pthread_cond_broadcast(&owner->stream_ended);
    pthread_mutex_unlock(&owner->lock);
}

static void *stream_main(void *context)
{
    http_stream *self = context;
    char *place = NULL;
    size_t room = 0;
    while ((room = stream_room(self, &place)) > 0) {
        didi_error error = {0};
        size_t count = 0;
        int status = self->source.read(self->source.context, place, room, &count, &error);
        if (status != DIDI_OK)
            log_emit(LOG_LEVEL_WARNING, "a streamed reply is cut", LOG_TEXT("error", error.message),
                     LOG_TEXT("subject", error.subject));
        stream_put(self, count, status != DIDI_OK || count == 0);
    }
    stream_leave(self);
    return NULL;
}

static void stream_start(http_stream *self)
{
    http *owner = self->http;
    pthread_attr_t attributes;
    pthread_t thread;
    self->started = true;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    self->holders++; /* nobody else has it yet */
    pthread_mutex_lock(&owner->lock);
    bool begun = !owner->finishing && pthread_create(&thread, &attributes, stream_main, self) == 0;
    if (begun) {
        self->next = owner->stream_first;
        owner->stream_first = self;
        owner->stream_threads++;
    }
    pthread_mutex_unlock(&owner->lock);
    pthread_attr_destroy(&attributes);
    if (!begun) {
        self->holders--;
        self->failed = true;
    }
}

bool http_stream_look(http_stream *self, const char **ret_place, size_t *ret_bytes)
{
    if (!self->started)
        stream_start(self);
    pthread_mutex_lock(&self->lock);
    bool over = self->used == 0 && (self->failed || self->left == 0);
    *ret_place = self->ring + self->first;
    *ret_bytes = (size_t)smaller(self->used, STREAM_RING_BYTES - self->first);
    self->waiting = self->used == 0 && !over;
    pthread_mutex_unlock(&self->lock);
    return !over;
}

void http_stream_taken(http_stream *self, size_t bytes)
{
    pthread_mutex_lock(&self->lock);
    assert(bytes <= self->used);
    self->first = (self->first + bytes) % STREAM_RING_BYTES;
    self->used -= bytes;
    pthread_cond_signal(&self->emptied);
    pthread_mutex_unlock(&self->lock);
}

void http_streams_stop(http *self)
{
    pthread_mutex_lock(&self->lock);
    assert(self->finishing);
    for (http_stream *stream = self->stream_first; stream != NULL; stream = stream->next)
        stream_cancel(stream);
    while (self->stream_threads > 0)
        pthread_cond_wait(&self->stream_ended, &self->lock);
    pthread_mutex_unlock(&self->lock);
}
