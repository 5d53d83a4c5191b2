/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of bytes between those who log and the thread that writes. */
#include "daemon/base/log_queue.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NOTICE_BYTES = 256, WRITE_BYTES_MAX = 64 << 10, RETRY_MILLISECONDS = 100 };

struct log_queue {
    log_queue_settings settings;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t arrived, emptied;
    char *ring;
    size_t first, used, lines; /* `used` bytes from `first` on wait or are being written */
    uint64_t dropped;          /* since the start */
    uint64_t untold;           /* of these, told by no notice yet */
    bool closing;
};

static void ring_append(log_queue *self, const char *line, size_t bytes)
{
    size_t end = (self->first + self->used) % self->settings.bytes;
    size_t before_end = smaller(bytes, self->settings.bytes - end);
    assert(bytes <= self->settings.bytes - self->used);
    memcpy(self->ring + end, line, before_end);
    memcpy(self->ring, line + before_end, bytes - before_end);
    self->used += bytes;
    self->lines++;
    pthread_cond_signal(&self->arrived);
}

/* Under the lock. */
static void tell_dropped(log_queue *self)
{
    char line[NOTICE_BYTES];
    size_t bytes = self->settings.notice(self->untold, line, sizeof line);
    if (bytes > self->settings.bytes - self->used)
        return;
    ring_append(self, line, bytes);
    self->untold = 0;
}

static bool has_room(const log_queue *self, size_t bytes)
{
    const log_queue_settings *settings = &self->settings;
    bool half_free = self->used <= settings->bytes / 2 && self->lines <= settings->lines / 2;
    return (self->untold == 0 || half_free) && self->lines < settings->lines &&
           bytes <= settings->bytes - self->used;
}

void log_queue_add(log_queue *self, const char *line, size_t bytes)
{
    pthread_mutex_lock(&self->lock);
    if (self->untold > 0 && has_room(self, bytes))
        tell_dropped(self);
    if (has_room(self, bytes)) {
        ring_append(self, line, bytes);
    } else {
        self->dropped++;
        self->untold++;
    }
    pthread_mutex_unlock(&self->lock);
}

/* Only here the thread may be cancelled, and it holds no lock. A descriptor that does not take
 * anything now is tried again; one that never will counts as written. */
static size_t write_some(int fd, const char *bytes, size_t count)
{
    int ignored = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &ignored);
    ssize_t written = write(fd, bytes, count);
    if (written < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOSPC)) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        if (errno == ENOSPC)
            ready.fd = -1; /* a pause */
        (void)poll(&ready, 1, RETRY_MILLISECONDS);
        written = 0;
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
    return written < 0 ? count : (size_t)written;
}

static size_t count_lines(const char *bytes, size_t count)
{
    size_t lines = 0;
    for (size_t i = 0; i < count; i++)
        lines += bytes[i] == '\n';
    return lines;
}

static void *queue_main(void *context)
{
    log_queue *self = context;
    int ignored = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
    pthread_setname_np(pthread_self(), "didid-log");
    pthread_mutex_lock(&self->lock);
    for (;;) {
        if (self->used == 0 && self->untold > 0)
            tell_dropped(self);
        if (self->used == 0) {
            pthread_cond_broadcast(&self->emptied);
            if (self->closing)
                break;
            pthread_cond_wait(&self->arrived, &self->lock);
            continue;
        }
        const char *bytes = self->ring + self->first;
        size_t count = smaller(self->used, self->settings.bytes - self->first);
        count = smaller(count, WRITE_BYTES_MAX);
        pthread_mutex_unlock(&self->lock);
        size_t written = write_some(self->settings.fd, bytes, count);
        size_t lines = count_lines(bytes, written);
        pthread_mutex_lock(&self->lock);
        self->first = (self->first + written) % self->settings.bytes;
        self->used -= written;
        self->lines -= lines;
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static void queue_free(log_queue *self)
{
    pthread_cond_destroy(&self->arrived);
    pthread_cond_destroy(&self->emptied);
    pthread_mutex_destroy(&self->lock);
    free(self->ring);
    free(self);
}

int log_queue_start(const log_queue_settings *settings, log_queue **ret_queue, didi_error *error)
{
    pthread_condattr_t monotonic;
    log_queue *self = memory_zeroed(1, sizeof *self);
    assert(settings->bytes > 0 && settings->lines > 0 && settings->notice != NULL);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the log");
    self->settings = *settings;
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->arrived, &monotonic);
    pthread_cond_init(&self->emptied, &monotonic);
    pthread_condattr_destroy(&monotonic);
    self->ring = memory_zeroed(settings->bytes, 1);
    if (self->ring == NULL || pthread_create(&self->thread, NULL, queue_main, self) != 0) {
        queue_free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "cannot start the log's thread");
    }
    *ret_queue = self;
    return DIDI_OK;
}

void log_queue_flush(log_queue *self, int milliseconds)
{
    struct timespec until;
    int waited = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += milliseconds / 1000;
    until.tv_nsec += milliseconds % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&self->lock);
    while ((self->used > 0 || self->untold > 0) && waited == 0)
        waited = pthread_cond_timedwait(&self->emptied, &self->lock, &until);
    pthread_mutex_unlock(&self->lock);
}

log_queue_figures log_queue_look(log_queue *self)
{
    pthread_mutex_lock(&self->lock);
    log_queue_figures figures = {
        .dropped = self->dropped, .bytes = self->used, .lines = self->lines};
    pthread_mutex_unlock(&self->lock);
    return figures;
}

void log_queue_stop(log_queue *self, int milliseconds)
{
    if (self == NULL)
        return;
    log_queue_flush(self, milliseconds);
    pthread_mutex_lock(&self->lock);
    self->closing = true;
    bool blocked = self->used > 0;
    pthread_cond_signal(&self->arrived);
    pthread_mutex_unlock(&self->lock);
    if (blocked)
        pthread_cancel(self->thread);
    pthread_join(self->thread, NULL);
    queue_free(self);
}
