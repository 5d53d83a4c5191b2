/* SPDX-License-Identifier: Apache-2.0 */
/* watch, wait, events. */
#include "client/commands/command.h"

#include "client/commands/job.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EVENTS_PAGE_ITEMS = 1000, EVENTS_WAIT_SECONDS = 20, EVENTS_IDLE_MILLISECONDS = 500 };

static int print_state(const command_context *context, const json_t *job, didi_error *error)
{
    return output_text(context->output, record_text(job, "state"), error);
}

static int follow_to_end(const command_context *context, FILE *stream, follow_style style,
                         didi_error *error)
{
    char *id = NULL;
    json_t *job = NULL;
    int status = job_named(context, &id, error);
    if (status == CLIENT_OK)
        status = job_follow(context, id, stream, style, &job, error);
    if (status == CLIENT_OK && style != FOLLOW_JSON && style != FOLLOW_SILENT &&
        strcmp(record_text(job, "state"), "succeeded") == 0)
        summary_note(context->output, job);
    if (status == CLIENT_OK && stream == stderr)
        status = command_print(context, status, json_incref(job), "id", print_state, error);
    if (status == CLIENT_OK)
        status = job_outcome(context, job, error);
    json_decref(job);
    free(id);
    return status;
}

static int run_watch(const command_context *context, didi_error *error)
{
    output_format format = context->settings->format;
    follow_style style = format == OUTPUT_JSON || format == OUTPUT_JSONL ? FOLLOW_JSON
                         : output_animates_results(context->output)      ? FOLLOW_BAR
                                                                         : FOLLOW_LINES;
    return follow_to_end(context, stdout, style, error);
}

static int run_wait(const command_context *context, didi_error *error)
{
    follow_style style = output_animates_messages(context->output) ? FOLLOW_BAR : FOLLOW_SILENT;
    return follow_to_end(context, stderr, style, error);
}

/* Streams cannot know the widest cell, so the columns are fixed. */
static int print_event(const command_context *context, const json_t *event, didi_error *error)
{
    if (context->settings->format == OUTPUT_JSONL)
        return output_line(context->output, event, error);
    char loss[FORMAT_BYTES_MAX];
    char relative[FORMAT_BYTES_MAX];
    char ratio[FORMAT_BYTES_MAX];
    char step[FORMAT_BYTES_MAX] = "-";
    char items[2 * FORMAT_BYTES_MAX] = "-";
    if (record_integer(event, "step") >= 0)
        snprintf(step, sizeof step, "%lld", (long long)record_integer(event, "step"));
    if (record_integer(event, "items_total") >= 0)
        snprintf(items, sizeof items, "%lld/%lld", (long long)record_integer(event, "items_done"),
                 (long long)record_integer(event, "items_total"));
    const char *kind = record_text(event, "kind");
    const char *what =
        strcmp(kind, "state") == 0 ? record_text(event, "state") : record_text(event, "stage");
    char *text = memory_format(
        "%5lld  %s  %-5s  %-9s  %6s  %9s  %9s  %7s  %9s  %s",
        (long long)record_integer(event, "number"), record_text(event, "time"), kind, what, step,
        format_number(loss, record_number(event, "loss"), 5),
        format_number(relative, record_number(event, "relative_error"), 5),
        format_number(ratio, record_number(event, "ratio"), 5), items, record_text(event, "text"));
    char *printable = text != NULL ? text_printable(text) : NULL;
    free(text);
    if (printable == NULL)
        return client_fail_memory(error);
    for (size_t end = strlen(printable); end > 0 && printable[end - 1] == ' '; end--)
        printable[end - 1] = '\0';
    puts(printable);
    free(printable);
    return CLIENT_OK;
}

typedef struct event_reader {
    const command_context *context;
    const char *id;
    int64_t after;
    long left;
    bool follow;
    time_t heard; /* when the server last said something */
    bool lost;    /* the connection was, and we said so */
    json_t *kept; /* of -o json, which is one document */
} event_reader;

static int take_event(event_reader *self, json_t *event, didi_error *error)
{
    const int64_t number = record_integer(event, "number");
    if (number > self->after + 1)
        output_note(self->context->output, "%lld events after event %lld were dropped",
                    (long long)(number - self->after - 1), (long long)self->after);
    self->after = number;
    self->left--;
    if (self->kept == NULL)
        return print_event(self->context, event, error);
    return json_array_append(self->kept, event) == 0 ? CLIENT_OK : client_fail_memory(error);
}

static int take_page(event_reader *self, const json_t *page, bool *ret_moved, didi_error *error)
{
    const json_t *events = json_object_get(page, "data");
    if (!json_is_array(events))
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server's events are not a list");
    int status = CLIENT_OK;
    *ret_moved = false;
    for (size_t i = 0; status == CLIENT_OK && i < json_array_size(events) && self->left > 0; i++) {
        json_t *event = json_array_get(events, i);
        if (record_integer(event, "number") <= self->after)
            continue;
        *ret_moved = true;
        status = take_event(self, event, error);
    }
    return status != CLIENT_OK || !*ret_moved ? status
                                              : output_finish(self->context->output, error);
}

static int read_events(event_reader *self, didi_error *error)
{
    int status = CLIENT_OK;
    bool over = false;
    while (status == CLIENT_OK && !over && self->left > 0) {
        int wait = self->follow ? EVENTS_WAIT_SECONDS : 0;
        long limit = self->left < EVENTS_PAGE_ITEMS ? self->left : EVENTS_PAGE_ITEMS;
        json_t *page = NULL;
        bool moved = false;
        status = service_get(self->context->service, wait, &page, error,
                             "/v1/jobs/%s/events?after=%lld&limit=%ld&wait=%d", self->id,
                             (long long)self->after, limit, wait);
        status = status != CLIENT_OK ? status : take_page(self, page, &moved, error);
        if (status == CLIENT_OK && !moved) {
            over = !self->follow || job_is_over(page);
            status =
                over ? CLIENT_OK
                     : interrupt_sleep(self->context->interrupt, EVENTS_IDLE_MILLISECONDS, error);
        } else if (status == CLIENT_OK) {
            over = !self->follow && !record_true(page, "has_more");
        }
        json_decref(page);
    }
    return status;
}

static int take_streamed(void *context, const json_t *event, didi_error *error)
{
    event_reader *self = context;
    self->heard = time(NULL);
    self->lost = false;
    if (self->left == 0)
        return CLIENT_OK;
    int status = take_event(self, (json_t *)event, error);
    return status != CLIENT_OK ? status : output_finish(self->context->output, error);
}

/* Ends the stream once all that was asked for is there. */
static int check_left(void *context, didi_error *error)
{
    const event_reader *self = context;
    return self->left > 0 ? CLIENT_OK : didi_fail(error, CLIENT_FAILURE, NULL, "enough");
}

/* A stream that broke is taken up again until the server was silent for the timeout. */
static int stream_broke(event_reader *self, int status, didi_error *error)
{
    const command_context *context = self->context;
    if (status != CLIENT_OK && (status != CLIENT_UNREACHABLE || self->heard == 0 ||
                                time(NULL) - self->heard >= context->settings->timeout_seconds))
        return status;
    if (!self->lost)
        output_note(context->output, "the stream of events broke, trying again");
    self->lost = true;
    return interrupt_sleep(context->interrupt, EVENT_STREAM_PAUSE_MILLISECONDS, error);
}

/* Prints events as they come; *ret_over is false when the server has no streams. */
static int stream_events(event_reader *self, bool *ret_over, didi_error *error)
{
    const event_viewer viewer = {self, take_streamed, check_left};
    int status = CLIENT_OK;
    event_stream_end end = EVENT_STREAM_BROKEN;
    while (status == CLIENT_OK && end == EVENT_STREAM_BROKEN && self->left > 0) {
        int64_t after = self->after;
        status =
            event_stream_follow(self->context->service, self->id, &after, &viewer, &end, error);
        if (self->left == 0)
            status = CLIENT_OK;
        else if (status != CLIENT_OK || end == EVENT_STREAM_BROKEN)
            status = stream_broke(self, status, error);
    }
    *ret_over = end != EVENT_STREAM_REFUSED || self->left == 0;
    return status;
}

static int run_events(const command_context *context, didi_error *error)
{
    static const command_number after_row = {OPTION_AFTER, "--after", 0, LONG_MAX, 0};
    static const command_number limit = {OPTION_LIMIT, "--limit", 1, LONG_MAX, LONG_MAX};
    event_reader reader = {.context = context,
                           .follow = arguments_has(context->arguments, OPTION_FOLLOW)};
    output_format format = context->settings->format;
    long after = 0;
    bool over = false;
    char *id = NULL;
    if (format == OUTPUT_NAME || (format == OUTPUT_JSON && reader.follow))
        return didi_fail(error, CLIENT_USAGE, "--output",
                         "events are shown as table, jsonl or, without --follow, json");
    int status = command_integer(context, &after_row, &after, error);
    status = status != CLIENT_OK ? status : command_integer(context, &limit, &reader.left, error);
    status = status != CLIENT_OK ? status : job_named(context, &id, error);
    if (status != CLIENT_OK)
        return status;
    reader.id = id;
    reader.after = after;
    reader.kept = format == OUTPUT_JSON ? json_array() : NULL;
    if (format == OUTPUT_TABLE)
        printf("%s%5s  %-24s  %-5s  %-9s  %6s  %9s  %9s  %7s  %9s  %s%s\n",
               output_color(context->output) ? "\033[1m" : "", "EVENT", "TIME", "KIND", "STAGE",
               "STEP", "LOSS", "ERROR", "RATIO", "ITEMS", "TEXT",
               output_color(context->output) ? "\033[0m" : "");
    if (reader.follow)
        status = stream_events(&reader, &over, error);
    if (status == CLIENT_OK && !over)
        status = read_events(&reader, error);
    if (status == CLIENT_OK && reader.kept != NULL)
        status = output_json(context->output, reader.kept, error);
    json_decref(reader.kept);
    free(id);
    return status;
}

static const option_row events_options[] = {
    {OPTION_FOLLOW, 'f', "follow", NULL, "go on until the job ends"},
    {OPTION_AFTER, 0, "after", "N", "only events with a greater number"},
    {OPTION_LIMIT, 'n', "limit", "N", "at most so many"},
};

const client_command command_watch = {
    .name = "watch",
    .words = "JOB",
    .summary = "show a job's progress until it ends",
    .text = "A bar on a terminal, a line per change elsewhere, a JSON document per change with\n"
            "-o jsonl. The exit code is the job's outcome: 0 succeeded, 3 failed or cancelled.\n",
    .run = run_watch,
};
const client_command command_wait = {
    .name = "wait",
    .words = "JOB",
    .summary = "wait until a job ends; its outcome is the exit code",
    .text = "0 when it succeeded, 3 when it failed or was cancelled.\n",
    .run = run_wait,
};
const client_command command_events = {
    .name = "events",
    .words = "JOB",
    .summary = "show a job's events: states, stages, telemetry, notes",
    .options = COMMAND_OPTIONS(events_options),
    .run = run_events,
};
