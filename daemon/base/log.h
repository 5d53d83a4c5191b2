/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's structured log on standard error: one line an event, logfmt or JSON. The process has
 * one log; it is the only global state. Thread-safe: a line is one write. */
#pragma once

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

/* log_emit(LOG_LEVEL_INFO, "job started", LOG_TEXT("job", id), LOG_INTEGER("attempt", 1)); */
#define log_emit(level, message, ...)                                                              \
    log_write((level), (message),                                                                  \
              (const log_field[]){{.key = ""}, ##__VA_ARGS__, {.kind = LOG_KIND_END}})

/* Sets form, lowest level written and descriptor. Before the first call: logfmt, info, stderr. */
void log_configure(log_format format, log_level level, int fd);

/* Writes time, level, message and the fields from the second on, up to LOG_KIND_END. Values are
 * escaped; a line is cut at 8 KiB. Never fails. */
void log_write(log_level level, const char *message, const log_field *fields);
