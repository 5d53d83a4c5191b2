/* SPDX-License-Identifier: Apache-2.0 */
/* Structured log lines. */
#include "daemon/base/log.h"

#include "daemon/base/clock.h"
#include "daemon/base/log_queue.h"
#include "src/base/base.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    LOG_LINE_BYTES_MAX = 8192,
    LOG_END_BYTES = 16,              /* kept for what closes a line that was cut */
    LOG_PATIENCE_MILLISECONDS = 500, /* with a reader that does not read, without a queue */
};

static struct {
    _Atomic int format, level, descriptor;
    _Atomic(log_queue *) queue; /* NULL: lines are written at once */
    _Atomic uint64_t dropped;   /* without a queue, or by earlier ones */
} log_state = {LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO, STDERR_FILENO, NULL, 0};

typedef struct log_line {
    char text[LOG_LINE_BYTES_MAX];
    size_t length;
} log_line;

static const char *log_level_name(log_level level)
{
    static const char *const names[] = {LOG_LEVEL_TABLE(TEXT_WORD)};
    assert((size_t)level < sizeof names / sizeof names[0]);
    return names[level];
}

void log_configure(log_format format, log_level level, int fd)
{
    atomic_store(&log_state.format, (int)format);
    atomic_store(&log_state.level, (int)level);
    atomic_store(&log_state.descriptor, fd);
}

static void line_append(log_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void line_append(log_line *line, const char *format, ...)
{
    size_t room = sizeof line->text - line->length;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line->text + line->length, room, format, arguments);
    va_end(arguments);
    if (length > 0)
        line->length += (size_t)length < room ? (size_t)length : room - 1;
}

static bool line_has_room(const log_line *line, size_t bytes)
{
    return line->length + bytes + LOG_END_BYTES <= sizeof line->text;
}

/* Both forms quote with the escapes of JSON, and show what may trick a reader as \u{...}. */
static void line_append_quoted(log_line *line, const char *text)
{
    size_t left = strlen(text);
    line_append(line, "\"");
    while (left > 0 && line_has_room(line, 1 + TEXT_ESCAPE_BYTES)) {
        char escape[TEXT_ESCAPE_BYTES];
        size_t step = text_printable_character(text, left);
        if (step == 0) {
            step = text_escape_character(text, left, escape);
            line_append(line, "\\%s", escape);
        } else {
            line_append(line, *text == '"' || *text == '\\' ? "\\%.*s" : "%.*s", (int)step, text);
        }
        text += step;
        left -= step;
    }
    line_append(line, "\"");
}

static bool text_is_plain(const char *text)
{
    size_t left = strlen(text);
    if (left == 0)
        return false;
    while (left > 0) {
        size_t step = text_printable_character(text, left);
        if (step == 0 || strchr(" \"=\\", *text) != NULL)
            return false;
        text += step;
        left -= step;
    }
    return true;
}

static void line_append_value(log_line *line, const log_field *field, bool json)
{
    switch (field->kind) {
    case LOG_KIND_TEXT:
        if (field->text == NULL)
            line_append(line, "null");
        else if (!json && text_is_plain(field->text) && line_has_room(line, strlen(field->text)))
            line_append(line, "%s", field->text);
        else
            line_append_quoted(line, field->text);
        break;
    case LOG_KIND_INTEGER:
        line_append(line, "%" PRId64, field->integer);
        break;
    case LOG_KIND_REAL:
        if (isfinite(field->real))
            line_append(line, "%.6g", field->real);
        else
            line_append(line, "null");
        break;
    case LOG_KIND_END:
        break;
    }
}

/* Without a queue: at once, but not for ever. */
static void line_write(const char *text, size_t bytes)
{
    struct pollfd ready = {.fd = atomic_load(&log_state.descriptor), .events = POLLOUT};
    if (poll(&ready, 1, LOG_PATIENCE_MILLISECONDS) != 1 || write(ready.fd, text, bytes) < 0)
        atomic_fetch_add(&log_state.dropped, 1);
}

static void line_make(log_line *line, log_level level, const char *message, const log_field *fields)
{
    bool json = atomic_load(&log_state.format) == LOG_FORMAT_JSON;
    char when[CLOCK_TEXT_BYTES];
    line->length = 0;
    clock_format(clock_now_ms(), when);
    if (json)
        line_append(line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":", when,
                    log_level_name(level));
    else
        line_append(line, "time=%s level=%s message=", when, log_level_name(level));
    line_append_quoted(line, message);
    for (const log_field *field = fields + 1; field->kind != LOG_KIND_END; field++) {
        if (!line_has_room(line, strlen(field->key) + 64))
            break;
        line_append(line, json ? ",\"%s\":" : " %s=", field->key);
        line_append_value(line, field, json);
    }
    line_append(line, json ? "}\n" : "\n");
}

bool log_is_written(log_level level)
{
    return (int)level <= atomic_load(&log_state.level);
}

void log_write(log_level level, const char *message, const log_field *fields)
{
    log_queue *queue = atomic_load(&log_state.queue);
    log_line line;
    if (!log_is_written(level))
        return;
    line_make(&line, level, message, fields);
    if (queue != NULL)
        log_queue_add(queue, line.text, line.length);
    else
        line_write(line.text, line.length);
}

/* ---- the queue ---- */

static size_t dropped_notice(uint64_t dropped, char *text, size_t size)
{
    log_line line;
    char message[64];
    snprintf(message, sizeof message, "%" PRIu64 " lines dropped", dropped);
    line_make(
        &line, LOG_LEVEL_WARNING, message,
        (const log_field[]){{.key = ""}, LOG_INTEGER("lines", dropped), {.kind = LOG_KIND_END}});
    assert(line.length <= size);
    memcpy(text, line.text, line.length);
    (void)size;
    return line.length;
}

int log_start(didi_error *error)
{
    const log_queue_settings settings = {.bytes = LOG_QUEUE_BYTES,
                                         .lines = LOG_QUEUE_LINES,
                                         .fd = atomic_load(&log_state.descriptor),
                                         .notice = dropped_notice};
    log_queue *queue = NULL;
    assert(atomic_load(&log_state.queue) == NULL);
    int status = log_queue_start(&settings, &queue, error);
    if (status == DIDI_OK)
        atomic_store(&log_state.queue, queue);
    return status;
}

void log_flush(void)
{
    log_queue *queue = atomic_load(&log_state.queue);
    if (queue != NULL)
        log_queue_flush(queue, LOG_FLUSH_MILLISECONDS);
}

void log_stop(void)
{
    log_queue *queue = atomic_exchange(&log_state.queue, NULL);
    if (queue == NULL)
        return;
    atomic_fetch_add(&log_state.dropped, log_queue_look(queue).dropped);
    log_queue_stop(queue, LOG_FLUSH_MILLISECONDS);
}

uint64_t log_dropped(void)
{
    log_queue *queue = atomic_load(&log_state.queue);
    uint64_t earlier = atomic_load(&log_state.dropped);
    return queue != NULL ? earlier + log_queue_look(queue).dropped : earlier;
}
