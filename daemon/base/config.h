/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of the daemon: one table of keys feeds the options, the file, --help and --check-config.
 */
#pragma once

#include "daemon/base/config_table.h"
#include "daemon/base/log.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CONFIG_MODEL_ROOTS_MAX = 16, CONFIG_FILE_BYTES_MAX = 65536, CONFIG_LISTEN_BYTES_MAX = 1024 };

/* Strings are owned by the config. All integers are of 64 bits. */
typedef struct config {
    char *state_dir;
    char *models[CONFIG_MODEL_ROOTS_MAX];
    size_t model_count;
    char *listen;
    size_t workers;        /* threads, resolved: never 0 after config_finish */
    uint64_t memory_limit; /* bytes, resolved: never 0 after config_finish */
    _Atomic size_t running_jobs_max;
    _Atomic size_t queued_jobs_max;
    _Atomic uint64_t keep_spectra_bytes;
    _Atomic uint64_t max_shard_bytes;
    _Atomic size_t shutdown_seconds;
    _Atomic uint64_t disk_free_min, artifact_bytes_max;
    _Atomic uint64_t keep_jobs_days, keep_jobs_max, keep_events_days;
    _Atomic uint64_t item_seconds_max;
    size_t http_connections_max;
    size_t http_body_bytes_max;
    size_t http_request_seconds;
    size_t http_connections_reserved, http_address_connections_max;
    size_t http_waits_max, http_downloads_max;
    size_t http_requests_per_second, http_requests_burst;
    size_t http_head_seconds, http_idle_seconds, http_reply_seconds, http_reply_bytes_per_second;
    char *http_hosts, *http_origins, *tls_certificate, *tls_key;   /* NULL: none */
    char *fetch_dir, *hub_endpoint, *hub_token_file, *fetch_hosts; /* NULL: none */
    uint64_t fetch_private;
    char *artifact_store, *s3_endpoint, *s3_region; /* region is never NULL; others NULL: none */
    char *s3_credentials_file, *s3_ca_file;         /* NULL: none */
    uint64_t s3_metadata, s3_private, s3_path_style, s3_keep_local, s3_part_bytes;
    uint64_t s3_redirect, s3_redirect_seconds, s3_retry_seconds;
    char *webhook_hosts, *webhook_ca_file, *webhook_key_file; /* NULL: none */
    uint64_t webhook_private, webhook_disable_days, webhook_keep_days, webhook_keep_deliveries;
    char *upload_dir; /* NULL: no uploads */
    uint64_t upload_bytes_max, upload_client_bytes_max, upload_open_max, upload_keep_hours;
    char *public_url, *mlflow_uri, *mlflow_token_file; /* NULL: none */
    char *scorer, *scorer_user;                        /* NULL: no scorer */
    uint64_t scorer_seconds_max, scorer_memory_max, scorer_confine;
    char *executor, *worker_path; /* worker_path NULL: the daemon's own */
    char *shared_dir;
    uint64_t task_cores, task_cores_max, task_memory;
    uint64_t cluster_tasks, cluster_poll_seconds, cluster_command_seconds, cluster_retries;
    char *slurm_partition, *slurm_account, *slurm_qos, *slurm_arguments; /* NULL: none */
    uint64_t slurm_time;                                                 /* 0: none is said */
    char *mpi_command, *mpi_program, *mpi_allocation; /* mpi_program NULL: beside the worker */
    uint64_t mpi_ranks;
    char *command_submit, *command_status, *command_cancel; /* NULL: none */
    _Atomic uint64_t log_requests;
    uint64_t metrics_public;
    char *dashboard_dir; /* NULL: none */
    uint64_t behind_proxy;
    char *trusted_proxies; /* NULL: none */
    char *socket_scope;    /* NULL: nothing without a token */
    log_format log_format;
    log_level log_level;
    bool accept_database; /* an option alone, for one start: see store_open_accepting */
} config;

/* Fills the defaults. Errors: DIDI_NO_MEMORY. Free with config_clear even then. */
int config_init(config *self, didi_error *error);
void config_clear(config *self);

/* Sets one key (as in the file; the option spells it with '-') from text. `models` appends. Bytes
 * may end in K, M, G or T (powers of 1024). Errors: DIDI_INVALID naming the key, DIDI_NO_MEMORY. */
int config_set(config *self, const char *key, const char *value, didi_error *error);

/* Reads a file of `key = value` lines; '#' starts a comment line. Unknown or repeated keys (but
 * models), and lines without '=' are errors naming file and line. A key set by `config_set` after
 * this overrides; `models` of the file are replaced by options' ones if the caller resets
 * model_count. Errors: DIDI_INVALID, DIDI_NOT_FOUND, DIDI_IO, DIDI_NO_MEMORY. */
int config_read_file(config *self, const char *path, didi_error *error);

/* Checks what must be there together and resolves automatic values. Errors: DIDI_INVALID. */
int config_finish(config *self, didi_error *error);

/* Automatic values (0) become real ones. */
void config_resolve(config *self);

/* Takes the live settings of `fresh`, a config that config_finish passed; tells `changed` of every
 * setting that is another there, and whether it was taken. */
void config_reload(config *self, const config *fresh,
                   void (*changed)(void *context, const char *key, bool taken), void *context);

/* Prints all settings as a file would hold them, with help as comments. */
void config_print(const config *self, FILE *stream);

/* Prints the options' help, one an entry of the table. */
void config_print_help(FILE *stream);
