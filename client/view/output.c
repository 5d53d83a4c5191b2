/* SPDX-License-Identifier: Apache-2.0 */
/* Where results and remarks go. */
#include "client/view/output.h"

#include "client/base/base.h"
#include "client/view/format.h"
#include "client/view/terminal.h"
#include "src/base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct client_output {
    const client_settings *settings;
    bool terminal; /* stdout is one */
};

client_output *output_create(const client_settings *settings)
{
    client_output *self = memory_zeroed(1, sizeof *self);
    if (self != NULL) {
        self->settings = settings;
        self->terminal = isatty(STDOUT_FILENO) == 1;
    }
    return self;
}

void output_free(client_output *output)
{
    free(output);
}

bool output_color(const client_output *output)
{
    return output->terminal && output->settings->color;
}

bool output_animates_results(const client_output *output)
{
    return output->terminal && output->settings->smart;
}

bool output_animates_messages(const client_output *output)
{
    return !output->settings->quiet && isatty(STDERR_FILENO) == 1 && output->settings->smart;
}

/* Escapes within strings what jansson writes as it is and a terminal must not get: DEL, C1, what
 * has no width or turns directions. Outside strings there is no other control than the line end. */
static void write_escaped(const char *text, FILE *stream)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t step = *text == '\n' ? 1 : text_printable_character(text, left);
        if (step > 0) {
            fwrite(text, 1, step, stream);
        } else {
            step = text_character(text, left); /* what jansson writes is UTF-8 */
            unsigned point = text_code_point(text, step);
            if (point > 0xffff)
                fprintf(stream, "\\u%04x\\u%04x", 0xd7c0 + (point >> 10), 0xdc00 + (point & 0x3ff));
            else
                fprintf(stream, "\\u%04x", point);
        }
        text += step;
        left -= step;
    }
}

static int dump(const json_t *document, size_t flags, didi_error *error)
{
    char *text = json_dumps(document, flags | JSON_ENCODE_ANY | JSON_PRESERVE_ORDER);
    if (text == NULL)
        return client_fail_memory(error);
    write_escaped(text, stdout);
    fputc('\n', stdout);
    free(text);
    return ferror(stdout) ? didi_fail(error, CLIENT_FAILURE, "stdout", "cannot be written")
                          : CLIENT_OK;
}

int output_json(client_output *output, const json_t *document, didi_error *error)
{
    return dump(document, output->settings->format == OUTPUT_JSONL ? JSON_COMPACT : JSON_INDENT(2),
                error);
}

int output_line(client_output *output, const json_t *document, didi_error *error)
{
    int status = dump(document, JSON_COMPACT, error);
    return status != CLIENT_OK ? status : output_finish(output, error);
}

int output_text(client_output *output, const char *text, didi_error *error)
{
    char *printable = text_printable(text);
    (void)output;
    if (printable == NULL)
        return client_fail_memory(error);
    puts(printable);
    free(printable);
    return CLIENT_OK;
}

int output_records(client_output *output, const json_t *records, const char *name_key,
                   didi_error *error)
{
    if (output->settings->format == OUTPUT_JSON || name_key == NULL)
        return output_json(output, records, error);
    int status = CLIENT_OK;
    size_t count = json_is_array(records) ? json_array_size(records) : 1;
    for (size_t i = 0; status == CLIENT_OK && i < count; i++) {
        const json_t *record = json_is_array(records) ? json_array_get(records, i) : records;
        status = output->settings->format == OUTPUT_NAME
                     ? output_text(output, record_text(record, name_key), error)
                     : dump(record, JSON_COMPACT, error);
    }
    return status;
}

int output_table(client_output *output, client_table *table, didi_error *error)
{
    const size_t columns = output->terminal ? terminal_columns(stdout) : TABLE_COLUMNS_ANY;
    int status = table_print(table, stdout, columns, output_color(output), error);
    table_free(table);
    return status;
}

void output_note(const client_output *output, const char *format, ...)
{
    if (output->settings->quiet)
        return;
    va_list values;
    va_start(values, format);
    char *printable = format_printable_values(format, values);
    va_end(values);
    if (printable != NULL) {
        fflush(stdout);
        fprintf(stderr, "didictl: %s\n", printable);
    }
    free(printable);
}

int output_finish(client_output *output, didi_error *error)
{
    (void)output;
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout))
        return didi_fail(error, CLIENT_FAILURE, "stdout", "%s",
                         errno != 0 ? strerror(errno) : "cannot be written");
    return CLIENT_OK;
}
