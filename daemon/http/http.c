/* SPDX-License-Identifier: Apache-2.0 */
/* Start and stop of the HTTP edge. */
#include "daemon/http/http.h"

#include "daemon/base/base.h"
#include "daemon/http/connection.h"
#include "daemon/http/stream.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Copies a text of the settings that may be NULL. */
static bool keep_text(const char *text, char **ret_copy)
{
    *ret_copy = text == NULL ? NULL : memory_string(text);
    return text == NULL || *ret_copy != NULL;
}

static bool http_keep(http *self, const http_settings *settings)
{
    self->settings = *settings;
    self->settings.listen = self->settings.control = NULL;
    self->settings.trusted_proxies = NULL;
    bool kept = keep_text(settings->tls_certificate, &self->certificate) &&
                keep_text(settings->tls_key, &self->key) &&
                keep_text(settings->hosts, &self->hosts) &&
                keep_text(settings->origins, &self->origins);
    self->settings.tls_certificate = self->certificate;
    self->settings.tls_key = self->key;
    self->settings.hosts = self->hosts;
    self->settings.origins = self->origins;
    return kept;
}

static http *http_create(const http_settings *settings)
{
    pthread_condattr_t monotonic;
    http *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->spare_fd = -1;
    self->drain_milliseconds = -1;
    TAILQ_INIT(&self->connections);
    TAILQ_INIT(&self->idle);
    TAILQ_INIT(&self->reserved);
    TAILQ_INIT(&self->pending);
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    for (size_t i = 0; i < HTTP_PACES; i++)
        pthread_cond_init(&self->work[i].arrived, &monotonic);
    pthread_cond_init(&self->stream_ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    self->holders =
        http_holders_create((http_rate){settings->requests_per_second, settings->requests_burst});
    if (self->holders != NULL && http_keep(self, settings))
        return self;
    http_stop(self, 0);
    http_free(self);
    return NULL;
}

/* Beside the listeners that are told of. */
static int listen_control(http *self, const char *place, didi_error *error)
{
    const http_listen_rules rules = {.control = true};
    size_t count = 0;
    int status =
        http_listeners_open(place, &rules, self->listeners + self->listener_count, &count, error);
    self->listener_count += count;
    return status;
}

static int http_listen(http *self, const http_settings *settings, didi_error *error)
{
    http_listen_rules rules = {.any_address = settings->any_address,
                               .has_tls = self->tls != NULL,
                               .tls = settings->tls && self->tls != NULL};
    char joined[HTTP_LISTENERS_MAX * (HTTP_ADDRESS_BYTES + 1)] = "";
    int status = http_listeners_open(settings->listen, &rules, self->listeners,
                                     &self->listener_count, error);
    if (status != DIDI_OK)
        return status;
    for (size_t i = 0, used = 0; i < self->listener_count; i++)
        used += (size_t)snprintf(joined + used, sizeof joined - used, "%s%s", i > 0 ? "," : "",
                                 self->listeners[i].address);
    self->address = memory_string(joined);
    if (self->address == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    return settings->control != NULL ? listen_control(self, settings->control, error) : DIDI_OK;
}

int http_start(const http_settings *settings, http **ret_http, didi_error *error)
{
    assert(settings->connections_max > 0 && settings->address_connections_max > 0 &&
           settings->reply_bytes_per_second > 0 && settings->body_bytes_max > 0);
    http *self = http_create(settings);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the HTTP edge");
    int status = http_networks_parse(settings->trusted_proxies, &self->proxies, error);
    if (status == DIDI_OK && settings->tls_certificate != NULL && settings->tls_key != NULL)
        status = http_tls_open(settings->tls_certificate, settings->tls_key, &self->tls, error);
    if (status == DIDI_OK)
        status = http_listen(self, settings, error);
    if (status == DIDI_OK)
        status = http_workers_start(self, error);
    if (status == DIDI_OK)
        status = http_loop_start(self, error);
    if (status == DIDI_OK) {
        *ret_http = self;
        return DIDI_OK;
    }
    http_stop(self, 0);
    http_free(self);
    return status;
}

const char *http_address(const http *self)
{
    return self->address;
}

int http_reload_tls(http *self, didi_error *error)
{
    http_tls *fresh = NULL;
    if (self->certificate == NULL || self->key == NULL)
        return DIDI_OK;
    int status = http_tls_open(self->certificate, self->key, &fresh, error);
    if (status != DIDI_OK)
        return status;
    pthread_mutex_lock(&self->lock);
    http_tls *old = self->tls;
    self->tls = fresh;
    pthread_mutex_unlock(&self->lock);
    http_tls_close(old);
    return DIDI_OK;
}

void http_quiesce(http *self)
{
    if (atomic_exchange(&self->quiescing, true))
        return;
    if (self->has_handles)
        uv_async_send(&self->wake);
    http_notify_job(self, NULL);
}

void http_stop(http *self, int milliseconds)
{
    if (self == NULL)
        return;
    http_quiesce(self);
    http_loop_stop(self, milliseconds);
    http_workers_stop(self);
    http_streams_stop(self);
    for (size_t i = 0; i < self->listener_count; i++)
        http_listener_close(&self->listeners[i]);
}

void http_free(http *self)
{
    if (self == NULL)
        return;
    http_loop_close(self);
    http_tls_close(self->tls);
    http_holders_free(self->holders);
    for (size_t i = 0; i < HTTP_PACES; i++)
        pthread_cond_destroy(&self->work[i].arrived);
    pthread_cond_destroy(&self->stream_ended);
    pthread_mutex_destroy(&self->lock);
    free(self->address);
    free(self->certificate);
    free(self->key);
    free(self->hosts);
    free(self->origins);
    free(self);
}
