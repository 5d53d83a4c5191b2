/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of the daemon: one table of keys feeds the options, the file, --help and --check-config.
 */
#pragma once

#include "daemon/base/log.h"
#include "src/base/base.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CONFIG_MODEL_ROOTS_MAX = 16, CONFIG_FILE_BYTES_MAX = 65536, CONFIG_LISTEN_BYTES_MAX = 256 };

/* key, type, unit, default, lowest, highest, help. */
#define CONFIG_TABLE(X)                                                                            \
    X(state_dir, PATH, "", "", 0, 0, "directory for the database, job state and artifacts")        \
    X(models, PATHS, "", "", 0, 0, "directory below which models are found; may be repeated")      \
    X(listen, TEXT, "", "127.0.0.1:7878", 0, 0,                                                    \
      "loopback ADDRESS:PORT (port 0: any free one) or unix:/PATH")                                \
    X(workers, INTEGER, "threads", "0", 0, 512, "worker threads; 0 = one for each processor")      \
    X(memory_limit, INTEGER, "bytes", "0", 0, INT64_MAX,                                           \
      "working memory of all running merges together; 0 = half of the machine's")                  \
    X(running_jobs_max, INTEGER, "jobs", "4", 1, 64, "merges in progress at once")                 \
    X(queued_jobs_max, INTEGER, "jobs", "10000", 1, 1000000, "jobs accepted and not finished")     \
    X(keep_spectra_bytes, INTEGER, "bytes", "16G", 0, INT64_MAX,                                   \
      "disk for spectra that finished jobs keep for from_job, oldest dropped; 0 = keep none")      \
    X(max_shard_bytes, INTEGER, "bytes", "5000000000", 1024, INT64_MAX,                            \
      "of tensors in one file of an exported model; a larger model is cut into shards")            \
    X(shutdown_seconds, INTEGER, "seconds", "20", 1, 3600,                                         \
      "time given to work items and downloads at shutdown")                                        \
    X(http_connections_max, INTEGER, "connections", "256", 8, 65536, "client connections at once") \
    X(http_body_bytes_max, INTEGER, "bytes", "1048576", 1024, 67108864, "longest request body")    \
    X(http_request_seconds, INTEGER, "seconds", "30", 1, 3600,                                     \
      "time for a request to arrive whole")                                                        \
    X(fetch_dir, PATH, "", "", 0, 0,                                                               \
      "model directory that models are fetched to, a hub's cache; none = fetch nothing")           \
    X(hub_endpoint, TEXT, "", "", 0, 0, "URL of the hub that hf:ORG/NAME is fetched from")         \
    X(hub_token_file, PATH, "", "", 0, 0, "file with the token that the hub, no other host, gets") \
    X(fetch_hosts, TEXT, "", "", 0, 0,                                                             \
      "HOST,... files may come from besides the hub; .HOST stands for all below it")               \
    X(fetch_private, INTEGER, "", "0", 0, 1,                                                       \
      "1 = also fetch from private addresses, and over http")                                      \
    X(log_format, CHOICE, "", "logfmt", 0, 0, "logfmt or json")                                    \
    X(log_level, CHOICE, "", "info", 0, 0, "error, warning, info or debug")

/* Strings are owned by the config. All integers are of 64 bits. */
typedef struct config {
    char *state_dir;
    char *models[CONFIG_MODEL_ROOTS_MAX];
    size_t model_count;
    char *listen;
    size_t workers;        /* threads, resolved: never 0 after config_finish */
    uint64_t memory_limit; /* bytes, resolved: never 0 after config_finish */
    size_t running_jobs_max;
    size_t queued_jobs_max;
    uint64_t keep_spectra_bytes;
    uint64_t max_shard_bytes;
    size_t shutdown_seconds;
    size_t http_connections_max;
    size_t http_body_bytes_max;
    size_t http_request_seconds;
    char *fetch_dir, *hub_endpoint, *hub_token_file, *fetch_hosts; /* NULL: none */
    uint64_t fetch_private;
    log_format log_format;
    log_level log_level;
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

/* Prints all settings as a file would hold them, with help as comments. */
void config_print(const config *self, FILE *stream);

/* Prints the options' help, one an entry of the table. */
void config_print_help(FILE *stream);
