/* SPDX-License-Identifier: Apache-2.0 */
/* A running child until all of its processes are gone: what it prints, how long and how much it
 * takes. */
#pragma once

#include "daemon/process/child.h"

enum { WATCH_TAIL_BYTES = 600 /* kept of standard error */, WATCH_LINES_BYTES = 1208 };

typedef enum watch_outcome {
    WATCH_ENDED, /* by itself; `ended` says how */
    WATCH_CANCELLED,
    WATCH_TOO_LONG,
    WATCH_TOO_LARGE, /* memory */
    WATCH_PRINTS_TOO_MUCH,
} watch_outcome;

typedef struct watch_result {
    watch_outcome outcome;
    int ended;          /* as waitpid has it */
    char *output;       /* the caller's room: NUL behind `output_bytes` */
    size_t output_room; /* bytes of it, > 0 */
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

/* Waits, kills the group, and closes the child's pipes. Printing more than there is room for ends
 * the child. */
void watch_child(const child *of, const watch_limits *limits, watch_result *ret_result);

/* The last lines, three at most, of standard error, as one: ": a / b / c". Empty where nothing was
 * said. */
void watch_last_lines(const watch_result *result, char ret_text[WATCH_LINES_BYTES]);
