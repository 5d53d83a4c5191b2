/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of jobs: what they gave, how those that run stand, and how fast stages were. */
#pragma once

#include "daemon/base/base.h"
#include "src/base/base.h"

typedef struct store store;

/* What lists show of a job that succeeded. */
typedef struct store_result {
    double error;   /* relative, over all matrices; NaN: not known, and of a survey */
    double ratio;   /* bytes to those of the model in 16 bits; NaN likewise */
    uint64_t bytes; /* of shared file and experts */
    int64_t
        artifact_bytes; /* of all files of the artifacts, on disk; -1: not known; not read back */
} store_result;

/* What is said of a running job at a glance. */
typedef struct store_running {
    char id[ID_BYTES];
    char name[256]; /* cut if longer */
    char stage[16];
    double progress;
    unsigned attempt;
    int64_t started_ms;
    int64_t ends_ms; /* expected; 0 = not known */
} store_running;

/* The oldest first. Caller frees *ret_rows with free(). */
int store_jobs_running(store *self, store_running **ret_rows, size_t *ret_count, didi_error *error);

/* What a stage of finished attempts took, later ones counting more: seconds for so much work, as
 * planned. */
typedef struct store_pace {
    char stage[16];
    double work, seconds;
} store_pace;

/* Of a method, and a kind of job. Caller frees *ret_rows with free(). */
int store_pace_list(store *self, const char *method, const char *kind, store_pace **ret_rows,
                    size_t *ret_count, didi_error *error);
/* Adds an attempt's, without waiting; dropped when the mailbox is full. */
void store_pace_post(store *self, const char *method, const char *kind, const store_pace *pace);
