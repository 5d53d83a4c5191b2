/* SPDX-License-Identifier: Apache-2.0 */
/* Start and stop of the HTTP edge. */
#include "daemon/http/http.h"

#include "daemon/base/base.h"
#include "daemon/http/http_internal.h"
#include "daemon/http/stream.h"
#include "src/base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    HTTP_IDLE_SECONDS = 60,        /* without a byte sent or taken, while not suspended */
    HTTP_MEMORY_BYTES = 32 * 1024, /* a connection's: request line, headers, buffers */
    HTTP_POLL_MILLISECONDS = 20,   /* between looks at what is left while stopping */
    HTTP_LOG_BYTES = 512,
};

__attribute__((format(printf, 2, 0))) static void http_log(void *cls, const char *format,
                                                           va_list arguments)
{
    char text[HTTP_LOG_BYTES];
    (void)cls;
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\n")] = '\0';
    log_emit(LOG_LEVEL_DEBUG, "http library", LOG_TEXT("text", text));
}

__attribute__((noreturn)) static void http_panic(void *cls, const char *file, unsigned line,
                                                 const char *reason)
{
    (void)cls;
    log_emit(LOG_LEVEL_ERROR, "http library gives up", LOG_TEXT("file", file),
             LOG_INTEGER("line", line), LOG_TEXT("reason", reason));
    abort();
}

static int http_start_daemon(http *self, didi_error *error)
{
    MHD_set_panic_func(http_panic, NULL);
    self->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
        0, NULL, NULL, http_callbacks_access, self, MHD_OPTION_EXTERNAL_LOGGER, http_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, self->listener.fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)self->settings.connections_max, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)HTTP_IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_MEMORY_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, http_callbacks_target, self,
        MHD_OPTION_NOTIFY_COMPLETED, http_callbacks_completed, self, MHD_OPTION_NOTIFY_CONNECTION,
        http_callbacks_connection, self, MHD_OPTION_END);
    if (self->daemon == NULL)
        return didi_fail(error, DIDI_IO, self->listener.address, "cannot serve on %s",
                         self->listener.address);
    return DIDI_OK;
}

int http_start(const http_settings *settings, http **ret_http, didi_error *error)
{
    pthread_condattr_t monotonic;
    http *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the HTTP edge");
    self->settings = *settings;
    self->settings.listen = NULL; /* the caller's; the listener has its own */
    self->listener.fd = -1;
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->work_arrived, &monotonic);
    pthread_cond_init(&self->tick, &monotonic);
    pthread_cond_init(&self->stream_ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int status = http_listener_open(settings->listen, &self->listener, error);
    if (status == DIDI_OK)
        status = http_threads_start(self, error);
    if (status == DIDI_OK)
        status = http_start_daemon(self, error);
    if (status != DIDI_OK)
        http_stop(self, 0);
    else
        *ret_http = self;
    return status;
}

const char *http_address(const http *self)
{
    return self->listener.address;
}

void http_quiesce(http *self)
{
    pthread_mutex_lock(&self->lock);
    bool first = !self->quiescing;
    self->quiescing = true;
    pthread_cond_signal(&self->tick);
    pthread_mutex_unlock(&self->lock);
    if (first && self->daemon != NULL) {
        MHD_quiesce_daemon(self->daemon);
        shutdown(self->listener.fd, SHUT_RD); /* or newcomers would hang in the backlog */
    }
    http_notify_job(self, NULL);
}

bool http_is_quiescing(http *self)
{
    pthread_mutex_lock(&self->lock);
    bool quiescing = self->quiescing;
    pthread_mutex_unlock(&self->lock);
    return quiescing;
}

static bool http_has_peers(http *self)
{
    pthread_mutex_lock(&self->lock);
    bool any = self->peer_first != NULL;
    pthread_mutex_unlock(&self->lock);
    return any;
}

void http_stop(http *self, int milliseconds)
{
    const struct timespec pause = {.tv_nsec = HTTP_POLL_MILLISECONDS * 1000000L};
    if (self == NULL)
        return;
    http_quiesce(self);
    int64_t until_ms = clock_monotonic_ms() + milliseconds;
    while (self->daemon != NULL && http_has_peers(self) && clock_monotonic_ms() < until_ms)
        nanosleep(&pause, NULL);
    http_threads_cut_peers(self, true);
    http_threads_stop(self);
    http_streams_stop(self);
    if (self->daemon != NULL)
        MHD_stop_daemon(self->daemon);
    http_listener_close(&self->listener);
    pthread_cond_destroy(&self->work_arrived);
    pthread_cond_destroy(&self->tick);
    pthread_cond_destroy(&self->stream_ended);
    pthread_mutex_destroy(&self->lock);
    free(self);
}
