/* SPDX-License-Identifier: Apache-2.0 */
/* bakeoff run, ls, show, wait, cancel and rm. */
#include "client/commands/command.h"

#include "client/commands/advise.h"
#include "client/commands/draft.h"
#include "client/commands/job.h"
#include "proto/proto.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BAKEOFF_POLL_MILLISECONDS = 500,
    BAKEOFF_LIST_ITEMS = 1000,
    BAKEOFF_WIDE_COLUMNS = 72, /* where a table has room for times and reasons */
};

#define BAKEOFF_PLOT_MOST 2.3 /* models of 16 bits; what is larger would squeeze the rest */

static bool is_text(const json_t *object, const char *key, const char *text)
{
    return strcmp(record_text(object, key), text) == 0;
}

/* ---- one bake-off ---- */

static int bakeoff_get(const command_context *context, const char *id, json_t **ret_document,
                       didi_error *error)
{
    if (!name_is_job(id))
        return didi_fail(error, CLIENT_USAGE, id, "not the id of a bake-off, 26 characters");
    return service_get(context->service, 0, ret_document, error, "/v1/bakeoffs/%s", id);
}

/* "@latest" is the newest. Caller decrefs *ret_document. */
static int bakeoff_named(const command_context *context, json_t **ret_document, didi_error *error)
{
    const char *id = arguments_word(context->arguments, 0);
    json_t *newest = NULL;
    bool more = false;
    int status = CLIENT_OK;
    if (strcmp(id, "@latest") == 0) {
        status = service_list(context->service, "/v1/bakeoffs", 1, &newest, &more, error);
        if (status == CLIENT_OK && json_array_size(newest) == 0)
            status = didi_fail(error, CLIENT_FAILURE, NULL, "there are no bake-offs");
        id = record_text(json_array_get(newest, 0), "id");
    }
    if (status == CLIENT_OK)
        status = bakeoff_get(context, id, ret_document, error);
    json_decref(newest);
    return status;
}

/* ---- the table ---- */

static int by_size(const void *left, const void *right)
{
    const double a = record_number(*(const json_t *const *)left, "ratio");
    const double b = record_number(*(const json_t *const *)right, "ratio");
    if (isnan(a) || isnan(b))
        return isnan(a) - isnan(b);
    return (a > b) - (a < b);
}

static void add_number(client_table *table, const json_t *row, const char *path, int digits)
{
    char text[FORMAT_BYTES_MAX];
    table_add(table, "%s", format_number(text, record_number(row, path), digits));
}

static void add_row(client_table *table, const json_t *row, bool scored, bool wide)
{
    char text[FORMAT_BYTES_MAX];
    const double ratio = record_number(row, "ratio");
    table_add(table, "%s", record_text(row, "label"));
    if (isfinite(ratio))
        table_add(table, "%.2fx", ratio);
    else
        table_add(table, "%s", is_text(row, "role", "base") ? "-" : record_text(row, "state"));
    add_number(table, row, scored ? "kept" : "cosine", 4);
    add_number(table, row, scored ? "worst.kept" : "length", 4);
    add_number(table, row, "relative_error", 4);
    if (!wide)
        return;
    table_add(table, "%s", format_duration(text, record_number(row, "seconds")));
    table_add(table, "%s", record_text(json_object_get(row, "error"), "detail"));
}

/* The rows that are shown, by size; a survey is none. */
static size_t list_rows(const json_t *document, const json_t *shown[LIMIT_BAKEOFF_MEMBERS])
{
    const json_t *rows = json_object_get(document, "rows");
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(rows) && count < LIMIT_BAKEOFF_MEMBERS; i++)
        if (!is_text(json_array_get(rows, i), "role", "survey"))
            shown[count++] = json_array_get(rows, i);
    qsort(shown, count, sizeof *shown, by_size);
    return count;
}

static void plot_rows(const json_t *const *rows, size_t count, const char *key)
{
    plot_point points[LIMIT_BAKEOFF_MEMBERS];
    size_t drawn = 0;
    for (size_t i = 0; i < count; i++) {
        const plot_point read = {.x = record_number(rows[i], "ratio"),
                                 .y = record_number(rows[i], key),
                                 .mark = is_text(rows[i], "role", "didi") ? 'D' : '*'};
        if (isfinite(read.x) && isfinite(read.y) && read.x <= BAKEOFF_PLOT_MOST)
            points[drawn++] = read;
    }
    if (drawn == 0)
        return;
    putchar('\n');
    plot_print(stdout, points, drawn, "size, in models of 16 bits (D: didi)",
               strcmp(key, "kept") == 0 ? "kept" : "relative error");
}

static void print_verdict(const json_t *document, bool scored)
{
    const json_t *ahead = record_at(document, "verdict.ahead");
    if (!scored) {
        puts("not scored: errors of different kinds of methods cannot be compared");
    } else if (!job_is_over(document)) {
        puts("goes on");
    } else if (json_array_size(ahead) == 0) {
        puts("ahead of didi at their bytes: none");
    } else {
        puts("ahead of didi at their bytes:");
        for (size_t i = 0; i < json_array_size(ahead); i++) {
            const json_t *row = json_array_get(ahead, i);
            char *label = text_printable(record_text(row, "label"));
            printf("  %s, %s by %.4f\n", label != NULL ? label : "?",
                   is_text(row, "what", "worst") ? "worst task" : "mean", record_number(row, "by"));
            free(label);
        }
    }
}

static int print_bakeoff(const command_context *context, const json_t *document, didi_error *error)
{
    static const table_column columns[] = {{"METHOD", false}, {"SIZE", true}};
    const bool scored = record_true(document, "scored");
    const bool wide = terminal_columns(stdout) >= BAKEOFF_WIDE_COLUMNS;
    const json_t *rows[LIMIT_BAKEOFF_MEMBERS] = {NULL};
    const size_t count = list_rows(document, rows);
    client_table *table = table_create(columns, 2);
    table_add_column(table, scored ? "KEPT" : "COSINE", true);
    table_add_column(table, scored ? "WORST" : "LENGTH", true);
    table_add_column(table, "ERROR", true);
    if (wide) {
        table_add_column(table, "TIME", true);
        table_add_column(table, "REASON", false);
    }
    for (size_t i = 0; i < count; i++)
        add_row(table, rows[i], scored, wide);
    int status = output_table(context->output, table, error);
    if (status != CLIENT_OK)
        return status;
    print_verdict(document, scored);
    if (terminal_is(stdout))
        plot_rows(rows, count, scored ? "kept" : "relative_error");
    return CLIENT_OK;
}

/* ---- following ---- */

static double progress_of(const json_t *document)
{
    const json_t *rows = json_object_get(document, "rows");
    const size_t tasks = json_array_size(json_object_get(document, "tasks"));
    double done = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const bool wants =
            is_text(row, "state", "succeeded") && !is_text(row, "role", "survey") && tasks > 0;
        const double scores = (double)json_object_size(json_object_get(row, "scores"));
        done += wants ? 0.5 + 0.5 * scores / (double)tasks : record_number(row, "progress") * 0.5;
    }
    return json_array_size(rows) > 0 ? done / (double)json_array_size(rows) : 0;
}

static void show_moment(client_progress *progress, const json_t *document)
{
    char label[64];
    const char *state = record_text(document, "state");
    (void)snprintf(label, sizeof label, "%s %lld/%lld",
                   record_true(document, "cancel_requested") ? "cancelling" : state,
                   (long long)record_integer(document, "members_ended"),
                   (long long)record_integer(document, "members"));
    progress_moment moment = progress_unknown(label);
    moment.fraction = progress_of(document);
    moment.ended = job_is_over(document);
    progress_show(progress, &moment);
}

/* Replaces *document until it has ended. */
static int follow(const command_context *context, json_t **document, didi_error *error)
{
    char id[LIMIT_JOB_ID_CHARACTERS + 1];
    (void)snprintf(id, sizeof id, "%s", record_text(*document, "id"));
    client_progress *progress =
        context->settings->quiet
            ? NULL
            : progress_create(stderr, output_animates_messages(context->output),
                              output_animates_messages(context->output));
    int status = CLIENT_OK;
    while (status == CLIENT_OK && !job_is_over(*document)) {
        json_t *next = NULL;
        show_moment(progress, *document);
        status = interrupt_sleep(context->interrupt, BAKEOFF_POLL_MILLISECONDS, error);
        if (status == CLIENT_OK)
            status = bakeoff_get(context, id, &next, error);
        if (status == CLIENT_OK) {
            json_decref(*document);
            *document = next;
        }
    }
    progress_free(progress);
    if (status == CLIENT_INTERRUPTED)
        output_note(context->output, "bake-off %s goes on; see didictl bakeoff show %s", id, id);
    return status;
}

/* CLIENT_OK when it succeeded. */
static int outcome(const json_t *document, didi_error *error)
{
    const char *detail = record_text(json_object_get(document, "error"), "detail");
    if (is_text(document, "state", "succeeded"))
        return CLIENT_OK;
    return didi_fail(error, CLIENT_JOB_FAILED, NULL, "bake-off %s %s%s%s",
                     record_text(document, "id"), record_text(document, "state"),
                     detail[0] != '\0' ? ": " : "", detail);
}

static int follow_and_print(const command_context *context, json_t *document, didi_error *error)
{
    int status = follow(context, &document, error);
    if (status != CLIENT_OK) {
        json_decref(document);
        return status;
    }
    status = command_print(context, status, json_incref(document), "id", print_bakeoff, error);
    status = status == CLIENT_OK ? outcome(document, error) : status;
    json_decref(document);
    return status;
}

/* ---- commands ---- */

static int print_id(const command_context *context, const json_t *document, didi_error *error)
{
    return output_text(context->output, record_text(document, "id"), error);
}

static int run_run(const command_context *context, didi_error *error)
{
    char key[LIMIT_IDEMPOTENCY_KEY_BYTES + 1];
    json_t *request = NULL;
    json_t *document = NULL;
    int status = draft_bakeoff(arguments_word(context->arguments, 0), context->arguments,
                               context->advice, &request, error);
    if (status == CLIENT_OK)
        status = job_choose_key(context, key, error);
    if (status == CLIENT_OK)
        status =
            service_send(context->service, "POST", "/v1/bakeoffs", request, key, &document, error);
    if (status == CLIENT_FAILURE)
        advise_model(context, request, NULL, error);
    json_decref(request);
    if (status != CLIENT_OK)
        return status;
    if (arguments_has(context->arguments, OPTION_WAIT))
        return follow_and_print(context, document, error);
    return command_print(context, status, document, "id", print_id, error);
}

static int run_show(const command_context *context, didi_error *error)
{
    json_t *document = NULL;
    int status = bakeoff_named(context, &document, error);
    return command_print(context, status, document, "id", print_bakeoff, error);
}

static int run_wait(const command_context *context, didi_error *error)
{
    json_t *document = NULL;
    int status = bakeoff_named(context, &document, error);
    return status == CLIENT_OK ? follow_and_print(context, document, error) : status;
}

static int print_list(const command_context *context, const json_t *list, didi_error *error)
{
    static const table_column columns[] = {{"BAKEOFF", false}, {"STATE", false}, {"ROWS", true},
                                           {"TASKS", true},    {"AGE", true},    {"NAME", false}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        char age[FORMAT_BYTES_MAX];
        table_add(table, "%s", record_text(row, "id"));
        table_add(table, "%s", record_text(row, "state"));
        table_add(table, "%lld/%lld", (long long)record_integer(row, "members_ended"),
                  (long long)record_integer(row, "members"));
        table_add(table, "%zu", json_array_size(json_object_get(row, "tasks")));
        table_add(table, "%s", format_age(age, record_text(row, "created_at")));
        table_add(table, "%s", record_text(row, "name"));
    }
    return output_table(context->output, table, error);
}

static int run_ls(const command_context *context, didi_error *error)
{
    json_t *list = NULL;
    bool more = false;
    int status =
        service_list(context->service, "/v1/bakeoffs", BAKEOFF_LIST_ITEMS, &list, &more, error);
    return command_print(context, status, list, "id", print_list, error);
}

static int run_cancel(const command_context *context, didi_error *error)
{
    return command_change_each(context, "/v1/bakeoffs", "a bake-off", "POST", "/cancel", error);
}

static int run_rm(const command_context *context, didi_error *error)
{
    return command_change_each(context, "/v1/bakeoffs", "a bake-off", "DELETE", "", error);
}

static const option_row run_options[] = {
    {OPTION_BASE, 'b', "base", "MODEL", "the model all tasks were tuned from"},
    {OPTION_TASK, 't', "task", "NAME=MODEL", "a task and its fine-tuned model (repeat)"},
    {OPTION_METHOD, 0, "method", "NAME", "only this method, with its defaults (repeat)"},
    {OPTION_NAME, 'n', "name", "NAME", "a name for people"},
    {OPTION_LABEL, 'l', "label", "KEY=VALUE", "a label of its jobs (repeat)"},
    {OPTION_PRIORITY, 'p', "priority", "N", "-100 to 100, higher goes first (0)"},
    {OPTION_SET, 's', "set", "PATH=VALUE", "any other field: keep_artifacts=true"},
    {OPTION_WAIT, 'w', "wait", NULL, "stay until it ends, and show what came out"},
    {OPTION_KEY, 0, "idempotency-key", "KEY", "asking twice with one key gives one bake-off"},
};

const client_command command_bakeoff_run = {
    .name = "bakeoff run",
    .words = "[FILE]",
    .summary = "merge the same models by every method, and by didi at each of their sizes",
    .text = "FILE has base, tasks and what else POST /v1/bakeoffs takes; options change what it\n"
            "says. The id of the bake-off goes to stdout, or with --wait its table.\n",
    .options = COMMAND_OPTIONS(run_options),
    .run = run_run,
};
const client_command command_bakeoff_ls = {
    .name = "bakeoff ls",
    .words = "",
    .summary = "list bake-offs, the newest first",
    .run = run_ls,
};
const client_command command_bakeoff_show = {
    .name = "bakeoff show",
    .words = "BAKEOFF",
    .summary = "show what every method keeps at which size",
    .text = "BAKEOFF is an id or @latest. On a terminal a plot follows the table: D is didi.\n",
    .run = run_show,
};
const client_command command_bakeoff_wait = {
    .name = "bakeoff wait",
    .words = "BAKEOFF",
    .summary = "wait until a bake-off ends, and show it; its outcome is the exit code",
    .text = "0 when it succeeded, 3 when it failed or was cancelled.\n",
    .run = run_wait,
};
const client_command command_bakeoff_cancel = {
    .name = "bakeoff cancel",
    .words = "BAKEOFF...",
    .summary = "cancel bake-offs and their jobs",
    .run = run_cancel,
};
const client_command command_bakeoff_rm = {
    .name = "bakeoff rm",
    .words = "BAKEOFF...",
    .summary = "remove bake-offs that ended, with the jobs that are left of them",
    .run = run_rm,
};
