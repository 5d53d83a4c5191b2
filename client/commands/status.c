/* SPDX-License-Identifier: Apache-2.0 */
/* status: how the server is, on one screen. */
#include "client/commands/command.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WATCH_MILLISECONDS = 2000 };

static void add_of(client_table *table, const char *name, const json_t *object, const char *part,
                   const char *whole)
{
    table_add(table, "%s", name);
    table_add(table, "%.0f of %.0f", record_number(object, part), record_number(object, whole));
}

static void add_bytes_of(client_table *table, const char *name, const json_t *object,
                         const char *part, const char *whole)
{
    char first[FORMAT_BYTES_MAX];
    char second[FORMAT_BYTES_MAX];
    table_add(table, "%s", name);
    table_add(table, "%s of %s", format_bytes(first, (int64_t)record_number(object, part)),
              format_bytes(second, (int64_t)record_number(object, whole)));
}

static void add_artifacts(client_table *table, const json_t *status)
{
    char text[FORMAT_BYTES_MAX];
    const json_t *artifacts = json_object_get(status, "artifacts");
    if (artifacts == NULL)
        return; /* an older server */
    if (json_is_integer(json_object_get(artifacts, "limit_bytes")))
        add_bytes_of(table, "artifacts", status, "artifacts.bytes", "artifacts.limit_bytes");
    else
        table_add_fact(table, "artifacts",
                       format_bytes(text, (int64_t)record_number(artifacts, "bytes")));
}

static void add_jobs(client_table *table, const json_t *jobs)
{
    const char *state = NULL;
    json_t *count = NULL;
    json_object_foreach((json_t *)jobs, state, count)
    {
        table_add(table, "%s", state);
        table_add(table, "%lld", (long long)json_integer_value(count));
    }
}

static void add_rates(client_table *table, const json_t *rates)
{
    char requests[FORMAT_BYTES_MAX];
    char jobs[FORMAT_BYTES_MAX];
    char cores[FORMAT_BYTES_MAX];
    table_add(table, "since the start");
    table_add(table, "%s requests/s, %s jobs/h, %s processors",
              format_number(requests, record_number(rates, "requests_per_second"), 3),
              format_number(jobs, record_number(rates, "jobs_per_hour"), 3),
              format_number(cores, record_number(rates, "cpu_cores"), 3));
}

/* Where the tables go: to stdout, or into a screen that is drawn anew. */
typedef struct screen {
    const command_context *context;
    FILE *stream;
} screen;

static int print_table(const screen *self, client_table *table, didi_error *error)
{
    const bool drawn = self->stream != stdout; /* what goes behind a full line takes its last */
    const size_t columns =
        terminal_is(stdout) ? terminal_columns(stdout) - (drawn ? 1 : 0) : TABLE_COLUMNS_ANY;
    int status =
        table_print(table, self->stream, columns, output_color(self->context->output), error);
    table_free(table);
    return status;
}

static int print_running(const screen *self, const json_t *running, didi_error *error)
{
    static const table_column columns[] = {{"JOB", false}, {"NAME", false}, {"STAGE", false},
                                           {"DONE", true}, {"TIME", true},  {"ETA", true}};
    char text[FORMAT_BYTES_MAX];
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(running); i++) {
        const json_t *job = json_array_get(running, i);
        double progress = record_number(job, "progress");
        table_add(table, "%s", record_text(job, "id"));
        table_add(table, "%s", record_text(job, "name"));
        table_add(table, "%s", record_text(job, "stage"));
        table_add(table, "%.0f%%", isfinite(progress) ? floor(100 * progress) : 0.0);
        table_add(table, "%s", format_duration(text, record_number(job, "elapsed_seconds")));
        table_add(table, "%s", format_duration(text, record_number(job, "eta_seconds")));
    }
    fputc('\n', self->stream);
    return print_table(self, table, error);
}

static int print_tables(const screen *self, const json_t *status, didi_error *error)
{
    char text[FORMAT_BYTES_MAX];
    const json_t *warnings = json_object_get(status, "warnings");
    const json_t *running = json_object_get(status, "running");
    client_table *table = table_create_facts();
    table_add(table, "didid");
    table_add(table, "%s, up %s", record_text(status, "version"),
              format_duration(text, record_number(status, "uptime_seconds")));
    table_add_fact(table, "ready", record_true(status, "ready") ? "yes" : "no");
    for (size_t i = 0; i < json_array_size(warnings); i++)
        table_add_fact(table, "warning", record_element(warnings, i));
    add_jobs(table, json_object_get(status, "jobs"));
    add_of(table, "workers busy", status, "workers.busy", "workers.total");
    add_bytes_of(table, "memory of merges", status, "memory.used_bytes", "memory.limit_bytes");
    table_add_fact(table, "memory resident",
                   format_bytes(text, (int64_t)record_number(status, "memory.resident_bytes")));
    add_bytes_of(table, "disk free", status, "disk.free_bytes", "disk.size_bytes");
    add_artifacts(table, status);
    table_add_fact(table, "database",
                   format_bytes(text, (int64_t)record_number(status, "disk.database_bytes")));
    add_rates(table, json_object_get(status, "rates"));
    int printed = print_table(self, table, error);
    if (printed == CLIENT_OK && json_array_size(running) > 0)
        printed = print_running(self, running, error);
    return printed;
}

static int print_status(const command_context *context, const json_t *status, didi_error *error)
{
    const screen self = {.context = context, .stream = stdout};
    return print_tables(&self, status, error);
}

/* From the upper left corner, as many lines as the window has; what stood there goes. */
static int draw_status(const command_context *context, const json_t *status, didi_error *error)
{
    text_stream *text = text_stream_open();
    if (text == NULL)
        return client_fail_memory(error);
    const screen self = {.context = context, .stream = text_stream_file(text)};
    int drawn = print_tables(&self, status, error);
    char *whole = text_stream_close(text, NULL);
    if (drawn == CLIENT_OK && whole == NULL)
        drawn = client_fail_memory(error);
    size_t room = terminal_rows(stdout) - 1;
    fputs("\033[H", stdout);
    for (const char *line = whole; drawn == CLIENT_OK && *line != '\0' && room > 0; room--) {
        const size_t bytes = strcspn(line, "\n");
        printf("%.*s\033[K\n", (int)bytes, line);
        line += bytes + (line[bytes] == '\n' ? 1 : 0);
    }
    fputs("\033[J", stdout);
    free(whole);
    return drawn;
}

static int show_status(const command_context *context, bool watch, didi_error *error)
{
    const output_format format = context->settings->format;
    const bool drawn = watch && format == OUTPUT_TABLE && output_animates_results(context->output);
    json_t *document = NULL;
    int status = service_get(context->service, 0, &document, error, "/v1/status");
    if (status == CLIENT_OK && drawn)
        status = draw_status(context, document, error);
    else if (status == CLIENT_OK && watch && format == OUTPUT_JSONL)
        status = output_line(context->output, document, error);
    else
        return command_print(context, status, document, "version", print_status, error);
    json_decref(document);
    return status;
}

static int run_status(const command_context *context, didi_error *error)
{
    const bool watch = arguments_has(context->arguments, OPTION_WATCH);
    int status = show_status(context, watch, error);
    while (status == CLIENT_OK && watch) {
        status = output_finish(context->output, error);
        if (status == CLIENT_OK)
            status =
                interrupt_sleep(service_interrupt(context->service), WATCH_MILLISECONDS, error);
        if (status == CLIENT_OK)
            status = show_status(context, watch, error);
    }
    if (status == CLIENT_INTERRUPTED && output_animates_results(context->output))
        fputs("\r\033[K", stdout); /* the keys that were pressed */
    return status;
}

static const option_row status_options[] = {
    {OPTION_WATCH, 'w', "watch", NULL, "again every two seconds, until interrupted"}};

const client_command command_status = {
    .name = "status",
    .words = "",
    .summary = "show how the server is: jobs, workers, memory, disk",
    .options = COMMAND_OPTIONS(status_options),
    .run = run_status,
};
