/* SPDX-License-Identifier: Apache-2.0 */
/* A running scorer until all of its processes are gone: what it prints, how long and how much it
 * takes. */
#pragma once

#include "daemon/score/child.h"
#include "daemon/score/score.h"

enum { WATCH_TAIL_BYTES = 600 /* kept of standard error */ };

typedef enum watch_outcome {
    WATCH_ENDED, /* by itself; `ended` says how */
    WATCH_CANCELLED,
    WATCH_TOO_LONG,
    WATCH_TOO_LARGE, /* memory */
    WATCH_PRINTS_TOO_MUCH,
} watch_outcome;

typedef struct watch_result {
    watch_outcome outcome;
    int ended;                               /* as waitpid has it */
    char output[SCORE_OUTPUT_BYTES_MAX + 1]; /* NUL behind `output_bytes` */
    size_t output_bytes;
    char tail[WATCH_TAIL_BYTES + 1]; /* the end of standard error */
    size_t tail_bytes;
} watch_result;

typedef struct watch_limits {
    int64_t milliseconds;
    uint64_t memory_max;             /* bytes of all processes; 0: no limit */
    int (*cancelled)(void *context); /* may be NULL */
    void *context;
} watch_limits;

/* Waits, kills the group, and closes the child's pipes. */
void watch_child(const child *of, const watch_limits *limits, watch_result *ret_result);
