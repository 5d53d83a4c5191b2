/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's life.
 *
 * Threads: this one runs the libuv loop with signals, timers and the scheduler; the store has its
 * writer; the HTTP edge has its own threads; the libuv pool computes. */
#include "daemon/serve.h"

#include "daemon/api/api.h"
#include "daemon/base/base.h"
#include "daemon/fetch/fetch.h"
#include "daemon/http/http.h"
#include "daemon/jobs/jobs.h"
#include "daemon/models/models.h"
#include "daemon/store/store.h"
#include "src/didi.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

enum { SERVE_SIGNALS = 3 };

typedef struct server {
    const config *settings;
    state_dir *state;
    store *store;
    model_roots *roots;
    registry *models;
    scheduler *scheduler;
    fetcher *fetcher;
    api *api;
    http *http;
    uv_loop_t loop;
    uv_signal_t signals[SERVE_SIGNALS];
    uv_timer_t watchdog, deadline;
    uv_work_t rescan;
    bool loop_open, handles_open, rescanning, stopping;
} server;

/* ---- while running ---- */

static void scan_models(server *self)
{
    didi_error error = {0};
    size_t ready = 0;
    size_t broken = 0;
    if (registry_rescan(self->models, &ready, &broken, &error) == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "models scanned", LOG_INTEGER("ready", ready),
                 LOG_INTEGER("broken", broken));
    else
        log_emit(LOG_LEVEL_ERROR, "cannot scan the models", LOG_TEXT("error", error.message));
}

static void on_rescan(uv_work_t *request)
{
    scan_models(request->data);
}

static void on_rescanned(uv_work_t *request, int uv_status)
{
    server *self = request->data;
    (void)uv_status;
    self->rescanning = false;
}

static void on_deadline(uv_timer_t *timer)
{
    (void)timer;
    log_emit(LOG_LEVEL_WARNING, "shutdown took too long; jobs go on at the next start");
    _exit(EXIT_FAILURE);
}

static void on_scheduler_stopped(void *context)
{
    server *self = context;
    pool_close_handles(&self->loop);
}

static void server_stop(server *self, int signal_number)
{
    if (self->stopping) {
        log_emit(LOG_LEVEL_WARNING, "second signal; stopping at once");
        _exit(128 + signal_number);
    }
    self->stopping = true;
    log_emit(LOG_LEVEL_INFO, "stopping", LOG_TEXT("signal", strsignal(signal_number)));
    service_manager_tell("STOPPING=1");
    uv_timer_start(&self->deadline, on_deadline, (uint64_t)self->settings->shutdown_seconds * 1000,
                   0);
    http_quiesce(self->http);
    scheduler_stop(self->scheduler, on_scheduler_stopped, self);
}

static void on_signal(uv_signal_t *handle, int number)
{
    server *self = handle->data;
    if (number != SIGHUP) {
        server_stop(self, number);
    } else if (!self->rescanning && !self->stopping) {
        self->rescanning = true;
        self->rescan.data = self;
        uv_queue_work(&self->loop, &self->rescan, on_rescan, on_rescanned);
    }
}

/* The manager hears of us only while the writer answers too. */
static void on_watchdog(uv_timer_t *timer)
{
    const server *self = timer->data;
    didi_error error = {0};
    if (store_check(self->store, &error) == DIDI_OK)
        service_manager_tell("WATCHDOG=1");
}

static void on_job_changed(void *context, const char *job_id)
{
    http_notify_job(context, job_id);
}

/* ---- starting ---- */

static int start_state(server *self, didi_error *error)
{
    const config *settings = self->settings;
    int status = state_dir_open(settings->state_dir, &self->state, error);
    if (status == DIDI_OK)
        status = model_roots_open((const char *const *)settings->models, settings->model_count,
                                  &self->roots, error);
    if (status == DIDI_OK)
        status = store_open(settings->state_dir, &self->store, error);
    if (status == DIDI_OK)
        status = registry_create(self->roots, self->store, &self->models, error);
    if (status == DIDI_OK)
        scan_models(self);
    return status;
}

static int start_loop(server *self, didi_error *error)
{
    static const int numbers[SERVE_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    uint64_t interval = service_manager_watchdog_ms();
    if (uv_loop_init(&self->loop) != 0)
        return didi_fail(error, DIDI_IO, NULL, "cannot create the event loop");
    self->loop_open = true;
    int status = scheduler_create(&self->loop, self->settings, self->store, self->models,
                                  state_dir_fd(self->state), &self->scheduler, error);
    if (status != DIDI_OK)
        return status;
    for (size_t i = 0; i < SERVE_SIGNALS; i++) {
        uv_signal_init(&self->loop, &self->signals[i]);
        self->signals[i].data = self;
        uv_signal_start(&self->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&self->loop, &self->deadline);
    uv_timer_init(&self->loop, &self->watchdog);
    self->watchdog.data = self;
    if (interval > 0)
        uv_timer_start(&self->watchdog, on_watchdog, interval, interval);
    return DIDI_OK;
}

static int start_edge(server *self, didi_error *error)
{
    const config *settings = self->settings;
    http_settings edge = {.listen = settings->listen,
                          .connections_max = settings->http_connections_max,
                          .body_bytes_max = settings->http_body_bytes_max,
                          .request_seconds = settings->http_request_seconds};
    int status = fetcher_start(settings, self->models, self->store, &self->fetcher, error);
    if (status == DIDI_OK)
        status = api_create(settings, self->store, self->models, self->scheduler, self->fetcher,
                            &self->api, error);
    if (status != DIDI_OK)
        return status;
    edge.routes = api_routes(&edge.route_count);
    edge.context = self->api;
    status = http_start(&edge, &self->http, error);
    if (status == DIDI_OK)
        store_set_listener(self->store, on_job_changed, self->http);
    return status;
}

static void log_start(const server *self)
{
    didi_blas_info blas = {0};
    didi_blas_describe(&blas);
    log_emit(LOG_LEVEL_INFO, "ready", LOG_TEXT("listen", http_address(self->http)),
             LOG_TEXT("version", didi_version()), LOG_INTEGER("pid", getpid()),
             LOG_INTEGER("workers", self->settings->workers),
             LOG_INTEGER("memory_limit", self->settings->memory_limit),
             LOG_TEXT("sqlite", store_library_version()), LOG_TEXT("uv", uv_version_string()),
             LOG_TEXT("jansson", jansson_version_str()), LOG_TEXT("blas", blas.library),
             LOG_TEXT("blas_flavour", blas.flavour), LOG_TEXT("blas_kernel", blas.kernel),
             LOG_TEXT("blas_version", blas.version));
}

/* ---- stopping ---- */

static void server_clear(server *self, int drain_milliseconds)
{
    if (self->store != NULL)
        store_set_listener(self->store, NULL, NULL);
    http_stop(self->http, drain_milliseconds);
    api_free(self->api);
    fetcher_stop(self->fetcher);
    if (self->loop_open) {
        /* After a failed start the handles are still open. */
        pool_close_handles(&self->loop);
        uv_run(&self->loop, UV_RUN_DEFAULT);
        uv_loop_close(&self->loop);
    }
    scheduler_free(self->scheduler);
    registry_free(self->models);
    store_close(self->store);
    model_roots_close(self->roots);
    state_dir_close(self->state);
}

int serve(const config *settings)
{
    server self = {.settings = settings};
    int64_t drain = (int64_t)settings->shutdown_seconds * 1000;
    didi_error error = {0};
    char threads[16];
    log_configure(settings->log_format, settings->log_level, STDERR_FILENO);
    signal(SIGPIPE, SIG_IGN);
    umask(0027);
    snprintf(threads, sizeof threads, "%zu", settings->workers);
    setenv("UV_THREADPOOL_SIZE", threads, 1); /* read once, at the pool's first use */
    int status = didi_blas_use_one_thread(&error);
    if (status == DIDI_OK)
        status = start_state(&self, &error);
    if (status == DIDI_OK)
        status = start_loop(&self, &error);
    if (status == DIDI_OK)
        status = start_edge(&self, &error);
    if (status == DIDI_OK) {
        log_start(&self);
        service_manager_tell("READY=1");
        uv_run(&self.loop, UV_RUN_DEFAULT);
    } else {
        log_emit(LOG_LEVEL_ERROR, "cannot start", LOG_TEXT("status", didi_status_name(status)),
                 LOG_TEXT("subject", error.subject), LOG_TEXT("error", error.message));
    }
    server_clear(&self, (int)drain);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "stopped");
    return status == DIDI_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
