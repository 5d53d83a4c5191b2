/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon counts about itself, in one table for the whole process: any room may count, from
 * any thread, at any time, without a lock where a series is known already. GET /metrics shows all.
 *
 * To count something new: a row in METRIC_TABLE, and metric_add, metric_set or metric_observe where
 * it happens. Labels have few values, known beforehand: never an id, a name or an address. */
#pragma once

#include <stddef.h>

enum { METRIC_LABELS_MAX = 3, METRIC_SERIES_MAX = 512 /* of a family; more go to "other" */ };

/* Upper bounds of the buckets of histograms, in seconds. */
#define METRIC_BUCKETS_LONG 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400
#define METRIC_BUCKETS_SHORT                                                                       \
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30

/* id, kind, name without "didid_", its labels with commas between, help. A histogram's kind is LONG
 * or SHORT, by its buckets. Families with labels are shown once something was counted. */
#define METRIC_TABLE(X)                                                                            \
    X(BUILD_INFO, GAUGE, "build_info", "version,blas,sqlite",                                      \
      "1, with what the daemon is made of")                                                        \
    X(START_TIME, GAUGE, "start_time_seconds", "", "Start of the process, in seconds since 1970")  \
    X(CPU_SECONDS, COUNTER, "cpu_seconds_total", "", "Processor time used, user and system")       \
    X(RESIDENT_BYTES, GAUGE, "resident_memory_bytes", "", "Resident memory")                       \
    X(OPEN_FDS, GAUGE, "open_fds", "", "Open file descriptors")                                    \
    X(MAX_FDS, GAUGE, "max_fds", "", "Limit of open file descriptors")                             \
    X(RELOADS, COUNTER, "config_reloads_total", "outcome", "Settings read anew on SIGHUP")         \
    X(LOG_DROPPED, COUNTER, "log_lines_dropped_total", "",                                         \
      "Lines the log's reader was too slow for")                                                   \
    X(JOBS, GAUGE, "jobs", "state", "Jobs by state")                                               \
    X(JOBS_SUBMITTED, COUNTER, "jobs_submitted_total", "", "Jobs accepted")                        \
    X(JOBS_FINISHED, COUNTER, "jobs_finished_total", "outcome", "Jobs that ended")                 \
    X(JOB_QUEUE_SECONDS, LONG, "job_queue_seconds", "",                                            \
      "From a job's submission to its first start")                                                \
    X(JOB_RUN_SECONDS, LONG, "job_run_seconds", "outcome", "From an attempt's start to its end")   \
    X(STAGE_SECONDS, LONG, "stage_seconds", "stage", "Time that stages of jobs took")              \
    X(STAGE_ITEMS, COUNTER, "stage_items_total", "stage", "Items that stages of jobs finished")    \
    X(ITEMS, COUNTER, "items_total", "", "Pieces of work that worker threads finished")            \
    X(WORKERS, GAUGE, "workers", "", "Worker threads")                                             \
    X(WORKERS_BUSY, GAUGE, "workers_busy", "", "Worker threads with something to do")              \
    X(WORKERS_LOST, GAUGE, "workers_lost", "",                                                     \
      "Worker threads that hang in the item of a failed job")                                      \
    X(MEMORY_LIMIT, GAUGE, "memory_limit_bytes", "", "Working memory merges may take together")    \
    X(MEMORY_USED, GAUGE, "memory_used_bytes", "", "Working memory of the items in flight")        \
    X(CLUSTER_TASKS, GAUGE, "cluster_tasks", "state", "Tasks on the cluster when last looked at")  \
    X(CLUSTER_ORDERS, COUNTER, "cluster_orders_total", "", "Orders handed to the cluster")         \
    X(CLUSTER_AGAIN, COUNTER, "cluster_items_again_total", "reason",                               \
      "Items that were handed out again: their task failed, or was killed with its node")          \
    X(CLUSTER_SECONDS, SHORT, "cluster_request_seconds", "request",                                \
      "Time that the scheduler of the cluster took for a request")                                 \
    X(MODELS, GAUGE, "models", "state", "Models found by the last scan")                           \
    X(HTTP_REQUESTS, COUNTER, "http_requests_total", "route,method,status", "Requests answered")   \
    X(HTTP_SECONDS, SHORT, "http_request_seconds", "route,method",                                 \
      "From a request's head to the end of its reply; long polls wait on purpose")                 \
    X(HTTP_REFUSALS, COUNTER, "http_refusals_total", "reason", "Problem documents, by their type") \
    X(HTTP_CONNECTIONS, GAUGE, "http_connections", "", "Client connections")                       \
    X(HTTP_ACCEPTED, COUNTER, "http_connections_accepted_total", "", "Connections accepted")       \
    X(HTTP_TURNED_AWAY, COUNTER, "http_turned_away_total", "reason",                               \
      "Connections and requests that the edge refused or ended for its limits")                    \
    X(HTTP_RECEIVED, COUNTER, "http_received_bytes_total", "", "Bytes of requests, without TLS")   \
    X(HTTP_SENT, COUNTER, "http_sent_bytes_total", "", "Bytes of replies that ended, without TLS") \
    X(HTTP_LONG_POLLS, GAUGE, "http_long_polls", "", "Requests that wait for a change of a job")   \
    X(HTTP_STREAMS, GAUGE, "http_event_streams", "", "Event streams that are open")                \
    X(HTTP_DOWNLOADS, GAUGE, "http_downloads", "", "Replies of files that are being sent")         \
    X(STORE_TRANSACTIONS, COUNTER, "store_transactions_total", "", "Write transactions committed") \
    X(STORE_REQUESTS, COUNTER, "store_requests_total", "", "Writes within these transactions")     \
    X(STORE_COMMIT_SECONDS, SHORT, "store_commit_seconds", "", "Time of a commit, with its sync")  \
    X(STORE_ERRORS, COUNTER, "store_errors_total", "", "Write transactions that failed")           \
    X(STORE_DROPPED, COUNTER, "store_dropped_total", "",                                           \
      "Telemetry the full mailbox had no room for")                                                \
    X(STORE_QUEUE, GAUGE, "store_queue", "", "Writes that wait for the writer")                    \
    X(STORE_WAL_PAGES, GAUGE, "store_wal_pages", "", "Pages in the write-ahead log")               \
    X(STORE_BYTES, GAUGE, "store_database_bytes", "", "Database with its write-ahead log")         \
    X(STORE_MEMORY, GAUGE, "store_memory_bytes", "", "Memory that SQLite holds")                   \
    X(S3_REQUESTS, COUNTER, "s3_requests_total", "method,outcome",                                 \
      "Requests to S3, each attempt: good or failed")                                              \
    X(DISK_FREE, GAUGE, "disk_free_bytes", "", "Free on the file system of the state directory")   \
    X(DISK_SIZE, GAUGE, "disk_size_bytes", "", "Size of the file system of the state directory")   \
    X(DISK_WAITING, GAUGE, "waiting_for_disk", "",                                                 \
      "1 while jobs wait because less than disk_free_min is free, else 0")                         \
    X(ARTIFACTS, GAUGE, "artifacts_bytes", "jobs",                                                 \
      "Bytes of artifacts, of jobs that succeeded and, at most, of unfinished ones")               \
    X(ARTIFACTS_LIMIT, GAUGE, "artifacts_limit_bytes", "", "artifact_bytes_max; 0 = no limit")     \
    X(WEBHOOK_DELIVERIES, COUNTER, "webhook_deliveries_total", "outcome", "Attempts to deliver")   \
    X(WEBHOOK_SECONDS, SHORT, "webhook_delivery_seconds", "outcome", "Time of such an attempt")    \
    X(WEBHOOK_PENDING, GAUGE, "webhook_deliveries_pending", "state", "Deliveries to be made")      \
    X(HOOK_REQUESTS, COUNTER, "hook_requests_total", "source,outcome", "Requests to hooks")        \
    X(HOOK_DELIVERIES, COUNTER, "hook_deliveries_total", "origin,state",                           \
      "Deliveries to hooks that were noted, by what the rules said of them")

typedef enum metric {
#define METRIC_ENUMERATOR(id, kind, name, labels, help) METRIC_##id,
    METRIC_TABLE(METRIC_ENUMERATOR)
#undef METRIC_ENUMERATOR
        METRIC_COUNT
} metric;

/* The values of a family's labels, in the table's order: METRIC_LABELS("GET", "2xx"). Copied when
 * new; NULL in place of it for a family without labels. */
#define METRIC_LABELS(...) ((const char *const[METRIC_LABELS_MAX]){__VA_ARGS__})

/* A counter, or a gauge (then `amount` may be negative). 0 makes the series known. */
void metric_add(metric id, const char *const *labels, double amount);
/* A gauge, or a counter that is kept elsewhere. */
void metric_set(metric id, const char *const *labels, double value);
/* A histogram; seconds. */
void metric_observe(metric id, const char *const *labels, double seconds);

/* Sum over all series of a counter or gauge. */
double metric_sum(metric id);

/* All of it in Prometheus' text format 0.0.4. Caller frees; NULL when out of memory. */
char *metrics_render(void);
