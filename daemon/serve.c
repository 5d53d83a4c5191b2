/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's life.
 *
 * Threads: this one runs the libuv loop with signals, timers and the scheduler; the store has its
 * writer; the HTTP edge has its own threads; the libuv pool computes. */
#include "daemon/serve.h"

#include "daemon/access/access.h"
#include "daemon/api/api.h"
#include "daemon/base/base.h"
#include "daemon/dashboard/dashboard.h"
#include "daemon/fetch/fetch.h"
#include "daemon/hooks/hooks.h"
#include "daemon/http/http.h"
#include "daemon/jobs/jobs.h"
#include "daemon/models/models.h"
#include "daemon/score/score.h"
#include "daemon/store/store.h"
#include "daemon/uploads/uploads.h"
#include "daemon/webhooks/webhooks.h"
#include "src/didi.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

enum {
    SERVE_SIGNALS = 3,
    SERVE_CLUSTER_THREADS = 4,
    SERVE_BLAS_CALLERS = 2, /* besides the workers: models that are streamed */
    SERVE_THREADS = 24,     /* besides the workers: the edge, the writer, fetches, uploads */
};

typedef struct server {
    config *settings; /* changed by reloads alone */
    const serve_source *source;
    state_dir *state, *shared; /* NULL: all lies in state */
    store *store;
    model_roots *roots;
    registry *models;
    scheduler *scheduler;
    fetcher *fetcher;
    scorer *scorer; /* NULL: none */
    webhooks *webhooks;
    uploads *uploads;
    hooks *hooks;
    access_control *access;
    dashboard *pages;
    api *api;
    http *http;
    uv_loop_t loop;
    uv_signal_t signals[SERVE_SIGNALS];
    uv_timer_t watchdog, deadline;
    uv_work_t rescan;
    bool loop_open, handles_open, rescanning, stopping;
} server;

/* ---- while running ---- */

static void scan_tell(size_t ready, size_t broken)
{
    metric_set(METRIC_MODELS, METRIC_LABELS("ready"), (double)ready);
    metric_set(METRIC_MODELS, METRIC_LABELS("broken"), (double)broken);
    log_emit(LOG_LEVEL_INFO, "models scanned", LOG_INTEGER("ready", ready),
             LOG_INTEGER("broken", broken));
}

static void scan_models(server *self)
{
    didi_error error = {0};
    size_t ready = 0;
    size_t broken = 0;
    if (registry_rescan(self->models, &ready, &broken, &error) == DIDI_OK)
        scan_tell(ready, broken);
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
    log_flush();
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
        log_flush();
        _exit(128 + signal_number);
    }
    self->stopping = true;
    log_emit(LOG_LEVEL_INFO, "stopping", LOG_TEXT("signal", strsignal(signal_number)));
    service_manager_tell("STOPPING=1");
    uv_timer_start(&self->deadline, on_deadline, (uint64_t)self->settings->shutdown_seconds * 1000,
                   0);
    uploads_stop(self->uploads);
    http_quiesce(self->http);
    api_quiesce(self->api);
    scheduler_stop(self->scheduler, on_scheduler_stopped, self);
}

static void on_setting_changed(void *context, const char *key, bool taken)
{
    (void)context;
    log_emit(taken ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
             taken ? "setting changed" : "changed setting needs a restart", LOG_TEXT("key", key));
}

/* A file that cannot be used changes nothing. */
static void reload_settings(server *self)
{
    config fresh = {0};
    didi_error error = {0};
    char state[64];
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)(clock_seconds() * 1e6));
    service_manager_tell(state);
    if (self->source->read(self->source->context, &fresh, &error) == DIDI_OK) {
        config_reload(self->settings, &fresh, on_setting_changed, self);
        log_configure(self->settings->log_format, self->settings->log_level, STDERR_FILENO);
        metric_add(METRIC_RELOADS, METRIC_LABELS("succeeded"), 1);
        log_emit(LOG_LEVEL_INFO, "settings read again");
        scheduler_wake(self->scheduler);
    } else {
        metric_add(METRIC_RELOADS, METRIC_LABELS("failed"), 1);
        log_emit(LOG_LEVEL_ERROR, "settings cannot be read again; nothing changed",
                 LOG_TEXT("subject", error.subject), LOG_TEXT("error", error.message));
    }
    config_clear(&fresh);
    service_manager_tell("READY=1");
}

static void reload_tls(server *self)
{
    didi_error error = {0};
    if (self->settings->tls_certificate == NULL)
        return;
    if (http_reload_tls(self->http, &error) == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "certificate read again");
    else
        log_emit(LOG_LEVEL_ERROR, "the new certificate is not used; the old one stays",
                 LOG_TEXT("error", error.message));
}

static void on_signal(uv_signal_t *handle, int number)
{
    server *self = handle->data;
    if (number != SIGHUP) {
        server_stop(self, number);
        return;
    }
    if (self->stopping)
        return;
    reload_settings(self);
    reload_tls(self);
    if (!self->rescanning) {
        self->rescanning = true;
        self->rescan.data = self;
        uv_queue_work(&self->loop, &self->rescan, on_rescan, on_rescanned);
    }
}

/* The manager hears of us only while the writer answers too, and writes where it should, and while
 * there is a worker left. */
static void on_watchdog(uv_timer_t *timer)
{
    const server *self = timer->data;
    didi_error error = {0};
    size_t lost = scheduler_workers_lost(self->scheduler);
    if (lost >= self->settings->workers)
        log_emit(LOG_LEVEL_ERROR, "all workers hang; the service manager is to restart us",
                 LOG_INTEGER("workers", lost));
    else if (store_check(self->store, &error) == DIDI_OK)
        service_manager_tell("WATCHDOG=1");
    else
        log_emit(LOG_LEVEL_ERROR, "the database cannot be written",
                 LOG_TEXT("error", error.message));
}

static void on_job_changed(void *context, const char *job_id)
{
    const server *self = context;
    api_job_changed(self->api, job_id);
    http_notify_job(self->http, job_id);
}

/* ---- starting ---- */

/* What a later refusal could not be told to anybody. */
static int start_process(const config *settings, didi_error *error)
{
    size_t callers = settings->workers + SERVE_BLAS_CALLERS;
    int status =
        address_space_check(didi_blas_bytes(callers), settings->workers + SERVE_THREADS, error);
    if (status == DIDI_OK)
        status = file_sha256_prepare(error);
    if (status == DIDI_OK)
        status = didi_blas_use_one_thread(error);
    return status == DIDI_OK ? didi_blas_reserve(callers, error) : status;
}

static int start_state(server *self, didi_error *error)
{
    const config *settings = self->settings;
    int status = state_dir_open(settings->state_dir, &self->state, error);
    if (status == DIDI_OK && settings->shared_dir != NULL)
        status = state_dir_share(self->state, settings->shared_dir, &self->shared, error);
    if (status == DIDI_OK)
        status = model_roots_open((const char *const *)settings->models, settings->model_count,
                                  &self->roots, error);
    if (status == DIDI_OK)
        status = settings->accept_database
                     ? store_open_accepting(settings->state_dir, &self->store, error)
                     : store_open(settings->state_dir, &self->store, error);
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

static http_settings edge_settings(const config *settings)
{
    return (http_settings){
        .listen = settings->listen,
        .any_address = settings->behind_proxy != 0,
        .tls = settings->tls_certificate != NULL,
        .tls_certificate = settings->tls_certificate,
        .tls_key = settings->tls_key,
        .hosts = settings->http_hosts,
        .origins = settings->http_origins,
        .trusted_proxies = settings->trusted_proxies,
        .connections_max = settings->http_connections_max,
        .connections_reserved = settings->http_connections_reserved,
        .address_connections_max = settings->http_address_connections_max,
        .waits_max = settings->http_waits_max,
        .downloads_max = settings->http_downloads_max,
        .requests_per_second = settings->http_requests_per_second,
        .requests_burst = settings->http_requests_burst,
        .body_bytes_max = settings->http_body_bytes_max,
        .head_seconds = settings->http_head_seconds,
        .request_seconds = settings->http_request_seconds,
        .idle_seconds = settings->http_idle_seconds,
        .reply_seconds = settings->http_reply_seconds,
        .reply_bytes_per_second = settings->http_reply_bytes_per_second,
    };
}

static int check_listen(server *self, didi_error *error)
{
    const listen_facts facts = {.listen = self->settings->listen,
                                .tokens = access_has_tokens(self->access),
                                .tls = self->settings->tls_certificate != NULL,
                                .behind_proxy = self->settings->behind_proxy != 0};
    if (!facts.tokens)
        log_emit(LOG_LEVEL_WARNING,
                 "there is no token: whoever reaches the listener from this machine may do all");
    return listen_check(&facts, error);
}

static int start_api(server *self, didi_error *error)
{
    const api_parts parts = {.settings = self->settings,
                             .records = self->store,
                             .models = self->models,
                             .jobs = self->scheduler,
                             .fetcher = self->fetcher,
                             .webhooks = self->webhooks,
                             .uploads = self->uploads,
                             .hooks = self->hooks,
                             .access = self->access,
                             .pages = self->pages};
    int status = api_create(&parts, &self->api, error);
    return status == DIDI_OK ? api_start_hooks(self->api, error) : status;
}

static int start_edge(server *self, didi_error *error)
{
    const config *settings = self->settings;
    http_settings edge = edge_settings(settings);
    char control[ACCESS_CONTROL_BYTES];
    int status = fetcher_start(settings, self->models, self->store, &self->fetcher, error);
    if (status == DIDI_OK)
        status = webhooks_start(settings, self->store, &self->webhooks, error);
    if (status == DIDI_OK)
        status =
            hooks_create(settings, self->store, self->models, self->fetcher, &self->hooks, error);
    if (status == DIDI_OK)
        status = access_create(settings, self->store, &self->access, error);
    if (status == DIDI_OK)
        status = check_listen(self, error);
    if (status == DIDI_OK)
        status = scorer_open_configured(settings, &self->scorer, error);
    if (status == DIDI_OK)
        status = scheduler_set_scorer(self->scheduler, self->scorer, error);
    if (status == DIDI_OK)
        status = uploads_open(settings, self->models, self->store, &self->uploads, error);
    if (status == DIDI_OK)
        status = dashboard_create(settings, &self->pages, error);
    if (status == DIDI_OK)
        status = start_api(self, error);
    if (status != DIDI_OK)
        return status;
    access_control_place(self->state, control);
    edge.routes = api_routes(settings, &edge.route_count);
    edge.context = self->api;
    edge.admit = api_admit;
    edge.observe = api_observe;
    edge.control = control;
    status = http_start(&edge, &self->http, error);
    if (status == DIDI_OK)
        store_set_listener(self->store, on_job_changed, self);
    return status;
}

static void log_ready(const server *self)
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
    uploads_stop(self->uploads);
    http_stop(self->http, drain_milliseconds);
    hooks_stop(self->hooks);
    api_free(self->api);
    dashboard_free(self->pages);
    hooks_free(self->hooks);
    access_free(self->access);
    fetcher_stop(self->fetcher);
    if (self->loop_open) {
        /* After a failed start the handles are still open. */
        pool_close_handles(&self->loop);
        uv_run(&self->loop, UV_RUN_DEFAULT);
        uv_loop_close(&self->loop);
    }
    scheduler_free(self->scheduler);
    scorer_close(self->scorer);
    webhooks_stop(self->webhooks);
    uploads_close(self->uploads);
    registry_free(self->models);
    store_close(self->store);
    /* After all that opens files: libuv closes its descriptors by bare system calls, and to
     * ThreadSanitizer the next owner of a number would seem to race. */
    http_free(self->http);
    model_roots_close(self->roots);
    state_dir_close(self->shared);
    state_dir_close(self->state);
}

int serve(config *settings, const serve_source *source)
{
    server self = {.settings = settings, .source = source};
    int64_t drain = (int64_t)settings->shutdown_seconds * 1000;
    didi_error error = {0};
    char threads[16];
    log_configure(settings->log_format, settings->log_level, STDERR_FILENO);
    signal(SIGPIPE, SIG_IGN);
    umask(umask(0077) | 0027); /* never more open than the service manager says */
    /* Those that wait for the scheduler of a cluster come beside the workers. */
    size_t waiting = strcmp(settings->executor, "local") == 0 ? 0 : SERVE_CLUSTER_THREADS;
    snprintf(threads, sizeof threads, "%zu", settings->workers + waiting);
    setenv("UV_THREADPOOL_SIZE", threads, 1); /* read once, at the pool's first use */
    int status = start_process(settings, &error);
    if (status == DIDI_OK)
        status = start_state(&self, &error);
    if (status == DIDI_OK)
        status = start_loop(&self, &error);
    if (status == DIDI_OK)
        status = log_start(&error); /* what fails before is told at once */
    if (status == DIDI_OK)
        status = start_edge(&self, &error);
    if (status == DIDI_OK) {
        log_ready(&self);
        service_manager_tell("READY=1");
        uv_run(&self.loop, UV_RUN_DEFAULT);
    } else {
        log_emit(LOG_LEVEL_ERROR, "cannot start", LOG_TEXT("status", didi_status_name(status)),
                 LOG_TEXT("subject", error.subject), LOG_TEXT("error", error.message));
    }
    server_clear(&self, (int)drain);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "stopped");
    log_stop();
    return status == DIDI_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
