/* SPDX-License-Identifier: Apache-2.0 */
/* Where results and remarks go. */
#include "client/view/output.h"

#include "client/base/base.h"
#include "client/view/format.h"
#include "src/base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct client_output {
    output_format format;
    bool quiet;
    bool color;
    bool terminal; /* stdout is one */
};

client_output *output_create(const client_settings *settings)
{
    client_output *self = memory_zeroed(1, sizeof *self);
    if (self != NULL) {
        self->format = settings->format;
        self->quiet = settings->quiet;
        self->terminal = isatty(STDOUT_FILENO) == 1;
        self->color = settings->color && self->terminal;
    }
    return self;
}

void output_free(client_output *output)
{
    free(output);
}

output_format output_format_wanted(const client_output *output)
{
    return output->format;
}

bool output_color(const client_output *output)
{
    return output->color;
}

bool output_is_quiet(const client_output *output)
{
    return output->quiet;
}

static bool terminal_is_smart(void)
{
    const char *term = getenv("TERM");
    return term == NULL || strcmp(term, "dumb") != 0;
}

bool output_animates_results(const client_output *output)
{
    return output->terminal && terminal_is_smart();
}

bool output_animates_messages(const client_output *output)
{
    return !output->quiet && isatty(STDERR_FILENO) == 1 && terminal_is_smart();
}

static int dump(const client_output *output, const json_t *document, size_t flags,
                didi_error *error)
{
    /* Escapes keep C1 controls, which JSON allows unescaped, from a terminal. */
    flags |= JSON_ENCODE_ANY | JSON_PRESERVE_ORDER | (output->terminal ? JSON_ENSURE_ASCII : 0U);
    if (json_dumpf(document, stdout, flags) != 0)
        return didi_fail(error, CLIENT_FAILURE, "stdout", "cannot be written");
    fputc('\n', stdout);
    return CLIENT_OK;
}

int output_json(client_output *output, const json_t *document, didi_error *error)
{
    return dump(output, document, output->format == OUTPUT_JSONL ? JSON_COMPACT : JSON_INDENT(2),
                error);
}

int output_line(client_output *output, const json_t *document, didi_error *error)
{
    int status = dump(output, document, JSON_COMPACT, error);
    return status != CLIENT_OK ? status : output_finish(output, error);
}

static int print_name(const json_t *record, const char *name_key, didi_error *error)
{
    char *name = format_printable(record_text(record, name_key));
    if (name == NULL)
        return client_fail_memory(error);
    puts(name);
    free(name);
    return CLIENT_OK;
}

int output_records(client_output *output, const json_t *records, const char *name_key,
                   bool *ret_done, didi_error *error)
{
    *ret_done = output->format != OUTPUT_TABLE;
    if (output->format == OUTPUT_TABLE)
        return CLIENT_OK;
    if (output->format == OUTPUT_JSON)
        return output_json(output, records, error);
    int status = CLIENT_OK;
    size_t count = json_is_array(records) ? json_array_size(records) : 1;
    for (size_t i = 0; status == CLIENT_OK && i < count; i++) {
        const json_t *record = json_is_array(records) ? json_array_get(records, i) : records;
        status = output->format == OUTPUT_NAME ? print_name(record, name_key, error)
                                               : dump(output, record, JSON_COMPACT, error);
    }
    return status;
}

int output_table(client_output *output, client_table *table, bool headings, didi_error *error)
{
    int status = table_print(table, stdout, headings, output->color, error);
    table_free(table);
    return status;
}

void output_note(const client_output *output, const char *format, ...)
{
    if (output->quiet)
        return;
    char *text = NULL;
    va_list values;
    va_start(values, format);
    int length = vasprintf(&text, format, values);
    va_end(values);
    char *printable = length >= 0 ? format_printable(text) : NULL;
    if (printable != NULL) {
        fflush(stdout);
        fprintf(stderr, "didictl: %s\n", printable);
    }
    free(printable);
    if (length >= 0)
        free(text);
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
