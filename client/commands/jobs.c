/* SPDX-License-Identifier: Apache-2.0 */
/* jobs, show, cancel, retry, rm. */
#include "client/commands/command.h"

#include "client/commands/advise.h"
#include "client/commands/job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { JOBS_LIMIT_DEFAULT = 20 };

/* "/v1/jobs?state=..&label=..", escaped; NULL when out of memory. */
static char *list_target(const client_arguments *arguments)
{
    static const char *const names[] = {"state", "label", "method", "after"};
    const char *values[] = {
        arguments_value(arguments, OPTION_STATE), arguments_value(arguments, OPTION_LABEL),
        arguments_value(arguments, OPTION_METHOD), arguments_value(arguments, OPTION_AFTER)};
    char *target = memory_string("/v1/jobs");
    const char *joint = "?";
    for (size_t i = 0; target != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (values[i] == NULL)
            continue;
        char *value = transport_escape(values[i]);
        char *longer =
            value == NULL ? NULL : memory_format("%s%s%s=%s", target, joint, names[i], value);
        free(value);
        free(target);
        target = longer;
        joint = "&";
    }
    return target;
}

static void add_job(client_table *table, const json_t *job)
{
    char age[FORMAT_BYTES_MAX];
    char time_run[FORMAT_BYTES_MAX];
    double started = format_parse_time(record_text(job, "started_at"));
    double finished = format_parse_time(record_text(job, "finished_at"));
    double progress = record_number(job, "progress");
    const int64_t tasks = record_integer(job, "tasks");
    const char *stage = record_text(job, "stage");
    json_t *asked = json_pack("{s:O?, s:{s:O?}}", "budget", json_object_get(job, "budget"),
                              "output", "dtype", json_object_get(job, "dtype"));
    table_add(table, "%s", record_text(job, "id"));
    table_add(table, "%s", record_text(job, "name"));
    table_add(table, "%s", record_text(job, "state"));
    bool running = strcmp(record_text(job, "state"), "running") == 0;
    table_add(table, "%s", running ? stage : "");
    table_add(table, "%.0f%%", isfinite(progress) ? floor(100.0 * progress) : 0.0);
    table_add(table, "%lld", (long long)(tasks > 0 ? tasks : 0));
    table_add(table, "%s", budget_text_show(age, asked));
    table_add(table, "%s", format_age(age, record_text(job, "created_at")));
    table_add(table, "%s",
              format_duration(time_run, (running ? (double)time(NULL) : finished) - started));
    json_decref(asked);
}

static int print_list(const command_context *context, const json_t *jobs, didi_error *error)
{
    static const table_column columns[] = {{"JOB", false},   {"NAME", false},      {"STATE", false},
                                           {"STAGE", false}, {"DONE", true},       {"TASKS", true},
                                           {"BUDGET", true}, {"SUBMITTED", false}, {"TIME", true}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(jobs); i++)
        add_job(table, json_array_get(jobs, i));
    return output_table(context->output, table, error);
}

static int run_list(const command_context *context, didi_error *error)
{
    static const command_number limits = {OPTION_LIMIT, "--limit", 1, SERVICE_LIST_ITEMS_MAX,
                                          JOBS_LIMIT_DEFAULT};
    const client_arguments *arguments = context->arguments;
    long limit = 0;
    int status = command_integer(context, &limits, &limit, error);
    if (status != CLIENT_OK)
        return status;
    if (arguments_has(arguments, OPTION_ALL))
        limit = SERVICE_LIST_ITEMS_MAX;
    char *target = list_target(arguments);
    if (target == NULL)
        return client_fail_memory(error);
    json_t *jobs = NULL;
    bool more = false;
    status = service_list(context->service, target, (size_t)limit, &jobs, &more, error);
    free(target);
    status = command_print(context, status, json_incref(jobs), "id", print_list, error);
    size_t count = json_array_size(jobs);
    if (more && count > 0)
        output_note(context->output, "there are more: --all, or --after %s",
                    record_text(json_array_get(jobs, count - 1), "id"));
    json_decref(jobs);
    return status;
}

static int print_job(const command_context *context, const json_t *job, didi_error *error)
{
    return summary_job(context->output, job, error);
}

static int run_show(const command_context *context, didi_error *error)
{
    json_t *job = NULL;
    int status = job_read_named(context, "", &job, error);
    if (status == CLIENT_OK)
        status = job_check(job, error);
    return command_print(context, status, job, "id", print_job, error);
}

/* What cancel, retry and rm do to each job named. */
typedef struct job_verb {
    const char *method, *rest;
} job_verb;

static int act_on(const command_context *context, const job_verb *verb, const char *reference,
                  didi_error *error)
{
    char *id = NULL;
    json_t *job = NULL;
    int status = job_resolve(context, reference, &id, error);
    char *target = status == CLIENT_OK ? job_target(id, verb->rest) : NULL;
    if (status == CLIENT_OK && target == NULL)
        status = client_fail_memory(error);
    if (status == CLIENT_OK)
        status = service_send(context->service, verb->method, target, NULL, NULL, &job, error);
    if (status == CLIENT_OK && job != NULL)
        status = job_check(job, error);
    if (status == CLIENT_OK) {
        output_format format = context->settings->format;
        if (job != NULL && (format == OUTPUT_JSON || format == OUTPUT_JSONL))
            status = output_json(context->output, job, error);
        else
            puts(id);
        if (job != NULL && record_true(job, "cancel_requested") && !job_is_over(job))
            output_note(context->output, "job %s is asked to stop; didictl wait tells when", id);
    } else if (id != NULL && status == CLIENT_FAILURE && strstr(error->message, id) == NULL) {
        didi_error_wrap(error, "job %s", id);
    }
    free(target);
    free(id);
    json_decref(job);
    return status;
}

/* Goes on with the other jobs after a failure, and reports the first one at the end. */
static int act(const command_context *context, const job_verb *verb, didi_error *error)
{
    int result = CLIENT_OK;
    const char *reference;
    for (size_t i = 0; (reference = arguments_word(context->arguments, i)) != NULL; i++) {
        didi_error own = {0};
        int status = act_on(context, verb, reference, &own);
        if (status == CLIENT_OK)
            continue;
        advise(context, status, &own);
        if (status != CLIENT_FAILURE) {
            *error = own;
            return status;
        }
        if (result != CLIENT_OK) {
            output_note(context->output, "%s", own.message);
        } else {
            *error = own;
            result = status;
        }
    }
    return result;
}

static int run_cancel(const command_context *context, didi_error *error)
{
    return act(context, &(job_verb){"POST", "/cancel"}, error);
}

static int run_retry(const command_context *context, didi_error *error)
{
    return act(context, &(job_verb){"POST", "/retry"}, error);
}

static int run_remove(const command_context *context, didi_error *error)
{
    return act(context, &(job_verb){"DELETE", ""}, error);
}

static const option_row list_options[] = {
    {OPTION_STATE, 's', "state", "STATE", "queued, running, succeeded, failed or cancelled"},
    {OPTION_LABEL, 'l', "label", "KEY=VALUE", "jobs with this label"},
    {OPTION_LIMIT, 'n', "limit", "N", "at most so many (20)"},
    {OPTION_AFTER, 0, "after", "JOB", "jobs older than this one (a whole id)"},
    {OPTION_METHOD, 'm', "method", "METHOD", "only those of this method"},
    {OPTION_ALL, 'a', "all", NULL, "as many as there are"},
};

const client_command command_jobs = {
    .name = "jobs",
    .words = "",
    .summary = "list jobs, newest first",
    .options = COMMAND_OPTIONS(list_options),
    .run = run_list,
};
const client_command command_show = {
    .name = "show",
    .words = "JOB",
    .summary = "show one job",
    .run = run_show,
};
const client_command command_cancel = {
    .name = "cancel",
    .words = "JOB...",
    .summary = "stop queued or running jobs",
    .run = run_cancel,
};
const client_command command_retry = {
    .name = "retry",
    .words = "JOB...",
    .summary = "queue failed or cancelled jobs again",
    .text = "A failed job keeps the layers that are finished.\n",
    .run = run_retry,
};
const client_command command_rm = {
    .name = "rm",
    .words = "JOB...",
    .summary = "remove finished jobs with their artifacts",
    .run = run_remove,
};
