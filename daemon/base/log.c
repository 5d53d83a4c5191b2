/* SPDX-License-Identifier: Apache-2.0 */
/* Structured log lines. */
#include "daemon/base/log.h"

#include "daemon/base/clock.h"
#include "src/base/base.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

enum { LOG_LINE_BYTES_MAX = 8192 };

static struct {
    _Atomic int format, level, descriptor;
} log_state = {LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO, STDERR_FILENO};

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

/* Both forms quote with the escapes of JSON. */
static void line_append_quoted(log_line *line, const char *text)
{
    line_append(line, "\"");
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
        if (*c == '"' || *c == '\\')
            line_append(line, "\\%c", *c);
        else if (*c == '\n')
            line_append(line, "\\n");
        else if (*c < 0x20 || *c == 0x7f)
            line_append(line, "\\u%04x", *c);
        else
            line_append(line, "%c", *c);
    line_append(line, "\"");
}

static bool text_is_plain(const char *text)
{
    if (*text == '\0')
        return false;
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
        if (*c <= ' ' || *c == '"' || *c == '=' || *c == '\\' || *c == 0x7f)
            return false;
    return true;
}

static void line_append_value(log_line *line, const log_field *field, bool json)
{
    switch (field->kind) {
    case LOG_KIND_TEXT:
        if (field->text == NULL)
            line_append(line, "null");
        else if (!json && text_is_plain(field->text))
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

void log_write(log_level level, const char *message, const log_field *fields)
{
    bool json = atomic_load(&log_state.format) == LOG_FORMAT_JSON;
    char when[CLOCK_TEXT_BYTES];
    log_line line;
    if ((int)level > atomic_load(&log_state.level))
        return;
    line.length = 0;
    clock_format(clock_now_ms(), when);
    if (json)
        line_append(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":", when,
                    log_level_name(level));
    else
        line_append(&line, "time=%s level=%s message=", when, log_level_name(level));
    line_append_quoted(&line, message);
    for (const log_field *field = fields + 1; field->kind != LOG_KIND_END; field++) {
        line_append(&line, json ? ",\"%s\":" : " %s=", field->key);
        line_append_value(&line, field, json);
    }
    if (line.length > sizeof line.text - 8)
        line.length = sizeof line.text - 8;
    line_append(&line, json ? "}\n" : "\n");
    /* A log that cannot be written must not stop the daemon. */
    if (write(atomic_load(&log_state.descriptor), line.text, line.length) < 0)
        return;
}
