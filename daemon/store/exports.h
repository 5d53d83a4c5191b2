/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks written for programs that know no packages. */
#pragma once

#include "daemon/base/base.h"
#include "proto/proto.h"
#include "src/base/base.h"

typedef struct store store;

const char *export_state_name(export_state state);

typedef struct store_export {
    char id[ID_BYTES];
    char job_id[ID_BYTES];
    char task[LIMIT_TASK_NAME_BYTES + 1];
    char format[16];   /* export_format_name */
    uint64_t max_rank; /* of an adapter; 0: as packaged */
    export_state state;
    uint64_t bytes;                     /* of the finished files */
    char *error_status, *error_message; /* NULL when there is none */
    int64_t created_ms, updated_ms, finished_ms;
} store_export;

void store_exports_free(store_export *exports, size_t count);

/* Asks for an export of each task; one already queued, running or succeeded is left as it is, a
 * failed one is queued again, and so is one with another max_rank. DIDI_NOT_FOUND (job),
 * DIDI_CONFLICT (job has not succeeded, or one with another max_rank is running). */
int store_export_request(store *self, const char *job_id, const char *format, uint64_t max_rank,
                         const char *const *tasks, size_t task_count, didi_error *error);

/* All exports of a job, by task. */
int store_export_list(store *self, const char *job_id, store_export **ret_exports,
                      size_t *ret_count, didi_error *error);

/* Oldest queued export becomes running. */
int store_export_claim(store *self, store_export *ret_export, bool *ret_found, didi_error *error);
int store_export_finish(store *self, const char *id, export_state state, uint64_t bytes,
                        const didi_error *why, didi_error *error);
/* running -> queued (shutdown). */
int store_export_release(store *self, const char *id, didi_error *error);
