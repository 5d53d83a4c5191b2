/* SPDX-License-Identifier: Apache-2.0 */
/* Lines on their way to a descriptor whose reader may be slow, or not read at all: taken at once,
 * written by a thread of the queue's own, dropped and counted beyond a bound. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>
#include <stdint.h>

typedef struct log_queue log_queue;

typedef struct log_queue_settings {
    size_t bytes, lines; /* held at most; both more than 0 */
    int fd;
    /* Makes the line that tells how many were dropped; returns its bytes. Any thread; must not
     * log. */
    size_t (*notice)(uint64_t dropped, char *line, size_t size);
} log_queue_settings;

typedef struct log_queue_figures {
    uint64_t dropped;    /* lines, since the start */
    size_t bytes, lines; /* waiting */
} log_queue_figures;

/* Starts the thread. Errors: DIDI_NO_MEMORY. */
int log_queue_start(const log_queue_settings *settings, log_queue **ret_queue, didi_error *error);

/* Takes a whole line. Never blocks longer than a copy takes. After a drop nothing is taken until
 * half of the room is free again: then a notice goes before the next line. Thread-safe. */
void log_queue_add(log_queue *self, const char *line, size_t bytes);

/* Waits until all is written, at most `milliseconds`. Thread-safe. */
void log_queue_flush(log_queue *self, int milliseconds);

log_queue_figures log_queue_look(log_queue *self);

/* Flushes, ends the thread and frees; what is not written by then is lost. NULL is fine. */
void log_queue_stop(log_queue *self, int milliseconds);
