/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon tells about itself: /metrics, /v1/status, a line in the log for each request. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"
#include "src/didi.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { OBSERVE_DISK_LOW_PERCENT = 5, OBSERVE_PATH_BYTES = 4096 };

/* ---- what is looked up when somebody asks ---- */

static double resident_bytes(void)
{
    unsigned long long total = 0;
    unsigned long long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu %llu", &total, &resident) != 2)
        resident = 0;
    (void)fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    double count = -3; /* ".", ".." and the directory's own */
    while (directory != NULL && readdir(directory) != NULL)
        count++;
    if (directory != NULL)
        closedir(directory);
    return count < 0 ? 0 : count;
}

static void look_at_process(const api *self)
{
    struct rusage used = {0};
    struct rlimit limit = {0};
    didi_blas_info blas;
    didi_blas_describe(&blas);
    getrusage(RUSAGE_SELF, &used);
    getrlimit(RLIMIT_NOFILE, &limit);
    metric_set(METRIC_BUILD_INFO,
               METRIC_LABELS(didi_version(), blas.library, store_library_version()), 1);
    metric_set(METRIC_START_TIME, NULL, (double)self->began_ms / 1000.0);
    metric_set(METRIC_CPU_SECONDS, NULL,
               (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                   1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec));
    metric_set(METRIC_RESIDENT_BYTES, NULL, resident_bytes());
    metric_set(METRIC_OPEN_FDS, NULL, open_descriptors());
    metric_set(METRIC_MAX_FDS, NULL, (double)limit.rlim_cur);
    metric_add(METRIC_HTTP_LONG_POLLS, NULL, 0); /* these are known before the first one */
    metric_add(METRIC_HTTP_STREAMS, NULL, 0);
    metric_add(METRIC_HTTP_DOWNLOADS, NULL, 0);
    metric_set(METRIC_LOG_DROPPED, NULL, (double)log_dropped());
}

static double file_bytes(const char *directory, const char *name)
{
    char path[OBSERVE_PATH_BYTES];
    struct stat found = {0};
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof path || stat(path, &found) != 0)
        return 0;
    return (double)found.st_size;
}

static void look_at_disk(const api *self)
{
    const char *directory = self->settings->state_dir;
    struct statvfs disk = {0};
    metric_set(METRIC_STORE_MEMORY, NULL, store_memory_bytes());
    metric_set(METRIC_STORE_BYTES, NULL,
               file_bytes(directory, "didid.db") + file_bytes(directory, "didid.db-wal"));
    if (statvfs(directory, &disk) != 0)
        return;
    metric_set(METRIC_DISK_FREE, NULL, (double)disk.f_bavail * (double)disk.f_frsize);
    metric_set(METRIC_DISK_SIZE, NULL, (double)disk.f_blocks * (double)disk.f_frsize);
}

/* What the store does not tell is left as it was. */
static void look_at_webhooks(api *self)
{
    store_webhook *rows = NULL;
    size_t count = 0;
    int64_t waiting[2] = {0}; /* of webhooks that are disabled, enabled */
    if (store_webhook_list(self->records, NULL, LIMIT_WEBHOOKS, &rows, &count, NULL, NULL) !=
        DIDI_OK)
        return;
    for (size_t i = 0; i < count; i++)
        waiting[rows[i].enabled] += rows[i].queued;
    store_webhooks_free(rows, count);
    metric_set(METRIC_WEBHOOK_PENDING, METRIC_LABELS("queued"), (double)waiting[1]);
    metric_set(METRIC_WEBHOOK_PENDING, METRIC_LABELS("disabled"), (double)waiting[0]);
}

/* Known before they happen, so that rates see their first time. */
static void name_counters(void)
{
    static const char *const finished[] = {"succeeded", "failed", "cancelled"};
    static const char *const sent[] = {"succeeded", "failed", "given_up"};
    static const char *const refused[] = {HTTP_REFUSAL_TABLE(HTTP_REFUSAL_NAME)};
    for (size_t i = 0; i < sizeof finished / sizeof finished[0]; i++)
        metric_add(METRIC_JOBS_FINISHED, METRIC_LABELS(finished[i]), 0);
    for (size_t i = 0; i < sizeof sent / sizeof sent[0]; i++)
        metric_add(METRIC_WEBHOOK_DELIVERIES, METRIC_LABELS(sent[i]), 0);
    for (size_t i = 0; i < HTTP_REFUSAL_COUNT; i++)
        metric_add(METRIC_HTTP_TURNED_AWAY, METRIC_LABELS(refused[i]), 0);
}

static int look_at_jobs(api *self, store_counts *ret_counts, didi_error *error)
{
    int status = store_job_counts(self->records, ret_counts, error);
    if (status != DIDI_OK)
        return status;
    const uint64_t *bytes = ret_counts->artifact_bytes;
    for (int i = 0; i < JOB_STATE_COUNT; i++)
        metric_set(METRIC_JOBS, METRIC_LABELS(job_state_name((job_state)i)),
                   (double)ret_counts->jobs[i]);
    metric_set(METRIC_ARTIFACTS, METRIC_LABELS("succeeded"), (double)bytes[JOB_SUCCEEDED]);
    metric_set(METRIC_ARTIFACTS, METRIC_LABELS("unfinished"),
               (double)bytes[JOB_QUEUED] + (double)bytes[JOB_RUNNING]);
    metric_set(METRIC_ARTIFACTS_LIMIT, NULL, (double)self->settings->artifact_bytes_max);
    return DIDI_OK;
}

static int look_at_all(api *self, store_counts *ret_counts, didi_error *error)
{
    look_at_process(self);
    look_at_disk(self);
    look_at_webhooks(self);
    name_counters();
    return look_at_jobs(self, ret_counts, error);
}

/* What the database does not tell is left as it was: the rest is still worth showing. */
void api_metrics(void *context, http_request *request)
{
    store_counts counts;
    didi_error ignored = {0};
    look_at_all(context, &counts, &ignored);
    http_reply_text(request, 200, "text/plain; version=0.0.4; charset=utf-8", metrics_render());
}

/* ---- one screen ---- */

static json_t *running_json(const store_running *job, int64_t now_ms)
{
    double elapsed = (double)(now_ms - job->started_ms) / 1000.0;
    return json_pack("{s:s, s:s, s:s, s:f, s:i, s:o, s:f, s:o}", "id", job->id, "name", job->name,
                     "stage", job->stage, "progress", job->progress, "attempt", (int)job->attempt,
                     "started_at", clock_json(job->started_ms), "elapsed_seconds", elapsed,
                     "eta_seconds", api_eta_json(job->ends_ms));
}

static json_t *status_running(api *self, didi_error *error)
{
    store_running *rows = NULL;
    size_t count = 0;
    json_t *list = json_array();
    if (store_jobs_running(self->records, &rows, &count, error) != DIDI_OK) {
        json_decref(list);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, running_json(&rows[i], clock_now_ms()));
    free(rows);
    return list;
}

static json_t *status_warnings(const api *self)
{
    json_t *list = api_warnings(self);
    double size = metric_sum(METRIC_DISK_SIZE);
    if (size > 0 && metric_sum(METRIC_DISK_FREE) < size * OBSERVE_DISK_LOW_PERCENT / 100)
        json_array_append_new(list, json_string("less than 5 % of the state directory's disk is "
                                                "free"));
    if (metric_sum(METRIC_STORE_ERRORS) > 0)
        json_array_append_new(list, json_string("writes to the database have failed since the "
                                                "start; see the log"));
    if (log_dropped() > 0)
        json_array_append_new(list, json_string("lines of the log were dropped: its reader is too "
                                                "slow"));
    return list;
}

static json_t *status_artifacts(const api *self, const store_counts *counts)
{
    const uint64_t *bytes = counts->artifact_bytes;
    const uint64_t limit = self->settings->artifact_bytes_max;
    return json_pack("{s:I, s:I, s:o}", "bytes", (json_int_t)bytes[JOB_SUCCEEDED],
                     "unfinished_bytes",
                     (json_int_t)bytes[JOB_QUEUED] + (json_int_t)bytes[JOB_RUNNING], "limit_bytes",
                     limit > 0 ? json_integer((json_int_t)limit) : json_null());
}

static json_t *status_figures(const api *self)
{
    double uptime = (double)(clock_now_ms() - self->began_ms) / 1000.0;
    uptime = uptime > 1 ? uptime : 1;
    return json_pack(
        "{s:{s:f, s:f}, s:{s:f, s:f, s:f}, s:{s:f, s:f, s:f}, s:{s:f, s:f, s:f, s:f}}", "workers",
        "total", metric_sum(METRIC_WORKERS), "busy", metric_sum(METRIC_WORKERS_BUSY), "memory",
        "limit_bytes", metric_sum(METRIC_MEMORY_LIMIT), "used_bytes",
        metric_sum(METRIC_MEMORY_USED), "resident_bytes", metric_sum(METRIC_RESIDENT_BYTES), "disk",
        "free_bytes", metric_sum(METRIC_DISK_FREE), "size_bytes", metric_sum(METRIC_DISK_SIZE),
        "database_bytes", metric_sum(METRIC_STORE_BYTES), "rates", "requests_per_second",
        metric_sum(METRIC_HTTP_REQUESTS) / uptime, "jobs_per_hour",
        metric_sum(METRIC_JOBS_FINISHED) * 3600 / uptime, "items_per_second",
        metric_sum(METRIC_ITEMS) / uptime, "cpu_cores", metric_sum(METRIC_CPU_SECONDS) / uptime);
}

void api_status(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_counts counts;
    json_t *running = NULL;
    json_t *jobs = json_object();
    int status = look_at_all(self, &counts, &error);
    if (status == DIDI_OK && (running = status_running(self, &error)) == NULL)
        status = error.status;
    if (status != DIDI_OK) {
        json_decref(jobs);
        http_reply_error(request, PROBLEM_UNAVAILABLE, &error);
        return;
    }
    for (int i = 0; i < JOB_STATE_COUNT; i++)
        json_object_set_new(jobs, job_state_name((job_state)i),
                            json_integer((json_int_t)counts.jobs[i]));
    bool ready = store_check(self->records, &error) == DIDI_OK;
    json_t *answer = json_pack("{s:s, s:o, s:f, s:b, s:o, s:o, s:o, s:o}", "version",
                               didi_version(), "started_at", clock_json(self->began_ms),
                               "uptime_seconds", (double)(clock_now_ms() - self->began_ms) / 1000.0,
                               "ready", ready, "warnings", status_warnings(self), "jobs", jobs,
                               "running", running, "artifacts", status_artifacts(self, &counts));
    json_t *figures = status_figures(self);
    if (answer == NULL || json_object_update(answer, figures) != 0) {
        json_decref(answer);
        answer = NULL;
    }
    json_decref(figures);
    http_reply_json(request, 200, answer);
}

/* ---- every request ---- */

/* Methods are the client's: only those that routes have become a label. */
static const char *known_method(const char *method)
{
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"};
    size_t count = sizeof methods / sizeof methods[0];
    size_t at = method != NULL ? text_find(methods, count, method) : count;
    return at < count ? methods[at] : "other";
}

void api_observe(void *context, const http_observation *seen)
{
    static const char *const classes[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    const api *self = context;
    const char *route = seen->route != NULL ? seen->route : "none";
    const char *method = known_method(seen->method);
    size_t class = seen->status >= 100 && seen->status < 600 ? (size_t)seen->status / 100 : 0;
    metric_add(METRIC_HTTP_REQUESTS, METRIC_LABELS(route, method, classes[class]), 1);
    metric_observe(METRIC_HTTP_SECONDS, METRIC_LABELS(route, method),
                   (double)seen->milliseconds / 1000.0);
    if (self->settings->log_requests != 0)
        log_emit(LOG_LEVEL_INFO, "request", LOG_TEXT("method", seen->method),
                 LOG_TEXT("route", route), LOG_TEXT("target", seen->target),
                 LOG_INTEGER("status", seen->status),
                 LOG_INTEGER("milliseconds", seen->milliseconds), LOG_TEXT("client", seen->client),
                 LOG_TEXT("address", seen->address), LOG_TEXT("request_id", seen->request_id),
                 LOG_TEXT("traceparent", seen->traceparent));
}
