/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's structured log on standard error: one line an event, logfmt or JSON. The process has
 * one log; it and the table of metrics are the only global state. Thread-safe.
 *
 * A line is written at once by whoever logs until log_start; from then on it goes into a queue that
 * a thread writes, so that a reader that does not read holds nobody up. What the queue has no room
 * for is dropped, counted, and told in one line when there is room again. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stdint.h>

#define LOG_LEVEL_TABLE(X) X(ERROR, "error") X(WARNING, "warning") X(INFO, "info") X(DEBUG, "debug")
typedef enum log_level {
#define LOG_LEVEL_ENUMERATOR(id, name) LOG_LEVEL_##id,
    LOG_LEVEL_TABLE(LOG_LEVEL_ENUMERATOR)
#undef LOG_LEVEL_ENUMERATOR
} log_level;

typedef enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON } log_format;

typedef enum log_kind { LOG_KIND_END, LOG_KIND_TEXT, LOG_KIND_INTEGER, LOG_KIND_REAL } log_kind;
typedef struct log_field {
    const char *key;
    log_kind kind;
    const char *text; /* NULL is written as null */
    int64_t integer;
    double real;
} log_field;

#define LOG_TEXT(name, value)                                                                      \
    {                                                                                              \
        .key = (name), .kind = LOG_KIND_TEXT, .text = (value)                                      \
    }
#define LOG_INTEGER(name, value)                                                                   \
    {                                                                                              \
        .key = (name), .kind = LOG_KIND_INTEGER, .integer = (int64_t)(value)                       \
    }
#define LOG_REAL(name, value)                                                                      \
    {                                                                                              \
        .key = (name), .kind = LOG_KIND_REAL, .real = (double)(value)                              \
    }

/* log_emit(LOG_LEVEL_INFO, "job started", LOG_TEXT("job", id), LOG_INTEGER("attempt", 1));
 * Values are not evaluated when the level is not written. */
#define log_emit(level, message, ...)                                                              \
    (log_is_written(level)                                                                         \
         ? log_write((level), (message),                                                           \
                     (const log_field[]){{.key = ""}, ##__VA_ARGS__, {.kind = LOG_KIND_END}})      \
         : (void)0)

/* Sets form, lowest level written and descriptor. Before the first call: logfmt, info, stderr. */
void log_configure(log_format format, log_level level, int fd);

bool log_is_written(log_level level);

/* Writes time, level, message and the fields from the second on, up to LOG_KIND_END. Values are
 * escaped as text_printable does it; a line has 8 KiB at most, values that do not fit are cut.
 * Never fails. */
void log_write(log_level level, const char *message, const log_field *fields);

enum {
    LOG_QUEUE_BYTES = 1 << 20,
    LOG_QUEUE_LINES = 8192,
    LOG_FLUSH_MILLISECONDS = 2000, /* for what waits when the process ends */
};

/* Starts the queue. One at a time. Errors: DIDI_NO_MEMORY. */
int log_start(didi_error *error);
/* Writes what waits, for LOG_FLUSH_MILLISECONDS at most: before the process ends by _exit. */
void log_flush(void);
/* Flushes and ends the queue; nobody else may log meanwhile. Without a queue: nothing. */
void log_stop(void);

/* Lines dropped since the start of the process. */
uint64_t log_dropped(void);
