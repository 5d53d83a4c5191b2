/* SPDX-License-Identifier: Apache-2.0 */
/* Which settings there are: a row for each. */
#pragma once

#include "daemon/base/config_transfer_table.h"

#include <stdint.h>

/* What ends in LIVE is taken anew on SIGHUP; its numbers are atomic, since others read them.
 * key, type, unit, default, lowest, highest, help. */
#define CONFIG_TABLE(X)                                                                            \
    X(state_dir, PATH, "", "", 0, 0, "directory for the database, job state and artifacts")        \
    X(models, PATHS, "", "", 0, 0, "directory below which models are found; may be repeated")      \
    X(listen, TEXT, "", "127.0.0.1:7878", 0, 0,                                                    \
      "ADDRESS:PORT,... (port 0: any free one), unix:/PATH or systemd")                            \
    X(workers, INTEGER, "threads", "0", 0, 512, "worker threads; 0 = one for each processor")      \
    X(memory_limit, INTEGER, "bytes", "0", 0, INT64_MAX,                                           \
      "working memory of all running merges together; 0 = half of the machine's")                  \
    X(running_jobs_max, INTEGER_LIVE, "jobs", "4", 1, 64, "merges in progress at once")            \
    X(queued_jobs_max, INTEGER_LIVE, "jobs", "10000", 1, 1000000,                                  \
      "jobs accepted and not finished")                                                            \
    X(keep_spectra_bytes, INTEGER_LIVE, "bytes", "16G", 0, INT64_MAX,                              \
      "disk for spectra that finished jobs keep for from_job, oldest dropped; 0 = keep none")      \
    X(max_shard_bytes, INTEGER_LIVE, "bytes", "5000000000", 1024, INT64_MAX,                       \
      "of tensors in one file of an exported model; a larger model is cut into shards")            \
    X(disk_free_min, INTEGER_LIVE, "bytes", "1G", 0, INT64_MAX,                                    \
      "free on the state directory's disk, below which jobs wait; 0 = none")                       \
    X(artifact_bytes_max, INTEGER_LIVE, "bytes", "0", 0, INT64_MAX,                                \
      "artifacts of all jobs together, with those of unfinished ones at most; 0 = no limit")       \
    X(keep_jobs_days, INTEGER_LIVE, "days", "0", 0, 36500,                                         \
      "finished jobs are deleted after so long unless labelled keep; 0 = never")                   \
    X(keep_jobs_max, INTEGER_LIVE, "jobs", "0", 0, 10000000,                                       \
      "finished jobs; the oldest beyond are deleted unless labelled keep; 0 = no limit")           \
    X(keep_events_days, INTEGER_LIVE, "days", "0", 0, 36500,                                       \
      "events of finished jobs but states and the last are dropped after so long; 0 = never")      \
    X(item_seconds_max, INTEGER_LIVE, "seconds", "21600", 0, 31536000,                             \
      "a job or export may run with no sign of progress, then it fails; 0 = no limit")             \
    X(shutdown_seconds, INTEGER_LIVE, "seconds", "20", 1, 3600,                                    \
      "time given to work items and downloads at shutdown")                                        \
    X(http_connections_max, INTEGER, "connections", "1024", 8, 65536,                              \
      "client connections at once")                                                                \
    X(http_body_bytes_max, INTEGER, "bytes", "1048576", 1024, 67108864, "longest request body")    \
    X(http_request_seconds, INTEGER, "seconds", "30", 1, 3600,                                     \
      "time for a request to arrive whole")                                                        \
    X(http_connections_reserved, INTEGER, "connections", "32", 1, 1024,                            \
      "beyond them, for /livez, /readyz and administration")                                       \
    X(http_address_connections_max, INTEGER, "connections", "512", 4, 65536, "of one address")     \
    X(http_waits_max, INTEGER, "requests", "400", 1, 65536,                                        \
      "long polls and event streams of one address or client at once")                             \
    X(http_downloads_max, INTEGER, "requests", "32", 1, 65536,                                     \
      "downloads of one address or client at once")                                                \
    X(http_requests_per_second, INTEGER, "requests", "0", 0, 1000000,                              \
      "of one address in the long run; 0 = no limit")                                              \
    X(http_requests_burst, INTEGER, "requests", "200", 1, 1000000,                                 \
      "of one address at once, with http_requests_per_second")                                     \
    X(http_head_seconds, INTEGER, "seconds", "10", 1, 3600,                                        \
      "time for the head of a request to arrive")                                                  \
    X(http_idle_seconds, INTEGER, "seconds", "60", 1, 86400,                                       \
      "a connection is kept for between requests")                                                 \
    X(http_reply_seconds, INTEGER, "seconds", "30", 1, 3600, "time for a reply to be taken, and")  \
    X(http_reply_bytes_per_second, INTEGER, "bytes", "4096", 1, 1073741824,                        \
      "a second more for so many bytes of it that were taken")                                     \
    X(http_hosts, TEXT, "", "", 0, 0, "NAME,... that may stand in Host besides those listened on") \
    X(http_origins, TEXT, "", "", 0, 0, "ORIGIN,... whose pages may call, as https://NAME")        \
    X(tls_certificate, PATH, "", "", 0, 0,                                                         \
      "PEM file with the certificate and its chain; with it, TCP speaks TLS")                      \
    X(tls_key, PATH, "", "", 0, 0, "PEM file (or credential:NAME) with its private key")           \
    CONFIG_TRANSFER_TABLE(X)                                                                       \
    X(webhook_hosts, TEXT, "", "", 0, 0,                                                           \
      "HOST,... events may be sent to over http and at private addresses; .HOST: all below it")    \
    X(webhook_private, INTEGER, "", "0", 0, 1, "1 = all hosts are as those of webhook_hosts")      \
    X(webhook_ca_file, PATH, "", "", 0, 0,                                                         \
      "certificates that webhooks trust instead of the system's")                                  \
    X(webhook_key_file, PATH, "", "", 0, 0,                                                        \
      "file with the key, 64 hex digits, that seals webhooks' secrets in the database")            \
    X(webhook_disable_days, INTEGER, "days", "5", 0, 365,                                          \
      "of nothing but failures, after which a webhook is disabled; 0 = never")                     \
    X(webhook_keep_days, INTEGER, "days", "30", 1, 3650, "how long deliveries stay in the log")    \
    X(webhook_keep_deliveries, INTEGER, "deliveries", "10000", 0, 1000000,                         \
      "that have ended stay in the log, of all webhooks together")                                 \
    X(public_url, TEXT, "", "", 0, 0,                                                              \
      "URL under which others reach this daemon; results are registered with it")                  \
    X(mlflow_uri, TEXT, "", "", 0, 0,                                                              \
      "URL of the MLflow server that hooks poll and register with")                                \
    X(mlflow_token_file, PATH, "", "", 0, 0, "file with the bearer token that MLflow gets")        \
    X(upload_dir, PATH, "", "", 0, 0,                                                              \
      "model directory that uploads go to, one of models; none = no uploads")                      \
    X(upload_bytes_max, INTEGER, "bytes", "1T", 0, INT64_MAX, "of all uploads together")           \
    X(upload_client_bytes_max, INTEGER, "bytes", "256G", 0, INT64_MAX,                             \
      "of the uploads of one client")                                                              \
    X(upload_open_max, INTEGER, "uploads", "64", 1, 1000, "that are not committed")                \
    X(upload_keep_hours, INTEGER, "hours", "72", 1, 8760,                                          \
      "an upload is kept for after the last thing that was done to it")                            \
    X(behind_proxy, INTEGER, "", "0", 0, 1,                                                        \
      "1 = other machines come through a proxy that speaks TLS: listen where they reach")          \
    X(trusted_proxies, TEXT, "", "", 0, 0,                                                         \
      "ADDRESS[/BITS],... whose X-Forwarded-For or Forwarded names the client")                    \
    X(socket_scope, TEXT, "", "", 0, 0,                                                            \
      "what users but root and the daemon's own may do over a Unix socket: read, submit, admin")   \
    X(scorer, TEXT, "", "", 0, 0,                                                                  \
      "COMMAND that scores models, run as COMMAND DIRECTORY TASK [SPLIT]; none = score nothing")   \
    X(scorer_seconds_max, INTEGER, "seconds", "600", 1, 604800, "for one score")                   \
    X(scorer_memory_max, INTEGER, "bytes", "4G", 0, INT64_MAX,                                     \
      "that a scorer may take; 0 = no limit")                                                      \
    X(scorer_user, TEXT, "", "nobody", 0, 0, "whom scorers run as, of a daemon that is root's")    \
    X(scorer_confine, INTEGER, "", "1", 0, 1,                                                      \
      "0 = a scorer may write anywhere and use the network")                                       \
    X(executor, TEXT, "", "local", 0, 0,                                                           \
      "where items of merges run: local (the daemon's threads), slurm, mpi or command")            \
    X(shared_dir, PATH, "", "", 0, 0,                                                              \
      "directory for jobs' files, where nodes of a cluster see it; none = in state_dir")           \
    X(worker_path, PATH, "", "", 0, 0,                                                             \
      "didid on the nodes of the cluster, an absolute path; none = where the daemon's is")         \
    X(task_cores, INTEGER, "cores", "1", 1, 1024, "that a task on the cluster asks for")           \
    X(task_cores_max, INTEGER, "cores", "0", 0, 1024,                                              \
      "that a task asks for whose item takes longer than its share; 0 = task_cores")               \
    X(task_memory, INTEGER, "bytes", "0", 0, INT64_MAX,                                            \
      "that a task on the cluster asks for; 0 = what its items need by the plan")                  \
    X(cluster_tasks, INTEGER, "tasks", "64", 1, 10000,                                             \
      "wanted in flight: about as many as the cluster gives cores")                                \
    X(cluster_poll_seconds, INTEGER, "seconds", "5", 1, 3600, "between looks at the scheduler")    \
    X(cluster_command_seconds, INTEGER, "seconds", "60", 1, 3600,                                  \
      "for one command of the scheduler's; then it is killed and tried again later")               \
    X(cluster_retries, INTEGER, "times", "3", 0, 100,                                              \
      "that work which failed on the cluster is handed out again")                                 \
    X(slurm_partition, TEXT, "", "", 0, 0, "partition of Slurm; none = its default")               \
    X(slurm_account, TEXT, "", "", 0, 0, "account that Slurm charges; none = the user's default")  \
    X(slurm_qos, TEXT, "", "", 0, 0, "quality of service of Slurm; none = its default")            \
    X(slurm_time, INTEGER, "minutes", "0", 0, 525600, "of a task; 0 = the partition's limit")      \
    X(slurm_arguments, TEXT, "", "", 0, 0,                                                         \
      "more words for sbatch, split at spaces, as --constraint=avx512")                            \
    X(mpi_command, TEXT, "", "mpiexec", 0, 0,                                                      \
      "COMMAND that starts ranks, run as COMMAND -n RANKS didid-mpi DIRECTORY")                    \
    X(mpi_program, PATH, "", "", 0, 0, "didid-mpi on the nodes; none = beside worker_path")        \
    X(mpi_ranks, INTEGER, "ranks", "0", 0, 100000, "of one run of MPI; must be set for mpi")       \
    X(mpi_allocation, TEXT, "", "none", 0, 0,                                                      \
      "whom mpi asks for nodes: none (mpi_command runs beside the daemon) or slurm")               \
    X(command_submit, TEXT, "", "", 0, 0,                                                          \
      "COMMAND that takes an order as JSON on standard input and prints a handle")                 \
    X(command_status, TEXT, "", "", 0, 0,                                                          \
      "COMMAND that prints the states of an order's tasks, run as COMMAND HANDLE")                 \
    X(command_cancel, TEXT, "", "", 0, 0, "COMMAND that ends an order, run as COMMAND HANDLE")     \
    X(log_requests, INTEGER_LIVE, "", "0", 0, 1, "1 = a line in the log for every request")        \
    X(metrics_public, INTEGER, "", "0", 0, 1, "1 = anybody may read /metrics")                     \
    X(dashboard_dir, PATH, "", "", 0, 0,                                                           \
      "directory whose files are served at /ui/ in place of those built in; for who writes them")  \
    X(log_format, CHOICE_LIVE, "", "logfmt", 0, 0, "logfmt or json")                               \
    X(log_level, CHOICE_LIVE, "", "info", 0, 0, "error, warning, info or debug")
