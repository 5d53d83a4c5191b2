/* SPDX-License-Identifier: Apache-2.0 */
/* submit, plan and extend. */
#include "client/commands/command.h"

#include "client/commands/advise.h"
#include "client/commands/draft.h"
#include "client/commands/job.h"
#include "proto/proto.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int wait_for(const command_context *context, const char *id, didi_error *error)
{
    follow_style style = context->settings->quiet                    ? FOLLOW_SILENT
                         : output_animates_messages(context->output) ? FOLLOW_BAR
                                                                     : FOLLOW_LINES;
    json_t *job = NULL;
    output_format format = context->settings->format;
    int status = job_follow(context, id, stderr, style, &job, error);
    if (status == CLIENT_OK && format == OUTPUT_TABLE)
        summary_note(context->output, job);
    else if (status == CLIENT_OK && format != OUTPUT_NAME)
        status = output_json(context->output, job, error);
    if (status == CLIENT_OK)
        status = job_outcome(context, job, error);
    json_decref(job);
    return status;
}

static int print_submitted(const command_context *context, const json_t *job, bool wait,
                           didi_error *error)
{
    output_format format = context->settings->format;
    if (format == OUTPUT_TABLE || format == OUTPUT_NAME) {
        int status = output_text(context->output, record_text(job, "id"), error);
        return status != CLIENT_OK ? status : output_finish(context->output, error);
    }
    return wait ? CLIENT_OK : output_json(context->output, job, error);
}

static int submit(const command_context *context, const json_t *request, didi_error *error)
{
    char key[LIMIT_IDEMPOTENCY_KEY_BYTES + 1];
    json_t *job = NULL;
    bool wait = arguments_has(context->arguments, OPTION_WAIT);
    int status = job_choose_key(context, key, error);
    if (status == CLIENT_OK)
        status = service_send(context->service, "POST", "/v1/jobs", request, key, &job, error);
    if (status == CLIENT_FAILURE)
        advise_model(context, request, NULL, error);
    status = status != CLIENT_OK ? status : job_check(job, error);
    if (status == CLIENT_OK && service_last_status(context->service) == 200)
        output_note(context->output, "this key was used before; the job is the one it made");
    status = status != CLIENT_OK ? status : print_submitted(context, job, wait, error);
    if (status == CLIENT_OK && wait)
        status = wait_for(context, record_text(job, "id"), error);
    json_decref(job);
    return status;
}

static int print_plan(const command_context *context, const json_t *plan, didi_error *error)
{
    return summary_plan(context->output, plan, arguments_has(context->arguments, OPTION_LAYERS),
                        error);
}

static int read_plan(const command_context *context, const json_t *request, json_t **ret_plan,
                     didi_error *error)
{
    int status = service_send(context->service, "POST", "/v1/jobs?dry_run=true", request, NULL,
                              ret_plan, error);
    if (status == CLIENT_FAILURE)
        advise_model(context, request, NULL, error);
    return status;
}

/* On stderr, since the job's id goes to stdout. */
static int note_plan(const command_context *context, const json_t *request, didi_error *error)
{
    char memory[FORMAT_BYTES_MAX];
    char disk[FORMAT_BYTES_MAX];
    char reads[FORMAT_BYTES_MAX];
    char size[FORMAT_BYTES_MAX];
    char wait[FORMAT_BYTES_MAX];
    json_t *plan = NULL;
    int status = read_plan(context, request, &plan, error);
    if (status == CLIENT_OK) {
        const double seconds = record_number(plan, "seconds_estimate");
        output_note(context->output,
                    "memory up to %s, disk up to %s, reads %s, leaves up to %s, takes about %s%s",
                    format_bytes(memory, record_integer(plan, "memory_peak_bytes")),
                    format_bytes(disk, record_integer(plan, "disk_bytes")),
                    format_bytes(reads, record_integer(plan, "bytes_to_read")),
                    format_bytes(size, record_integer(plan, "artifact_bytes")),
                    format_duration(wait, seconds),
                    isfinite(seconds) ? "" : " (nothing is known of such jobs yet)");
    }
    json_decref(plan);
    return status;
}

static int show_plan(const command_context *context, const json_t *request, didi_error *error)
{
    json_t *plan = NULL;
    int status = read_plan(context, request, &plan, error);
    return command_print(context, status, plan, NULL, print_plan, error);
}

/* --from-job takes what other commands take for a job. */
static int resolve_source(const command_context *context, json_t *request, didi_error *error)
{
    const char *given = arguments_value(context->arguments, OPTION_FROM_JOB);
    char *id = NULL;
    if (given == NULL)
        return CLIENT_OK;
    int status = job_resolve(context, given, &id, error);
    if (status == CLIENT_OK && json_object_set_new(request, "from_job", json_string(id)) != 0)
        status = client_fail_memory(error);
    free(id);
    return status;
}

static int run(const command_context *context, bool dry_run, didi_error *error)
{
    json_t *request = NULL;
    int status = draft_create(arguments_word(context->arguments, 0), context->arguments,
                              context->advice, &request, error);
    if (status == CLIENT_OK)
        status = resolve_source(context, request, error);
    if (status == CLIENT_OK && !dry_run && arguments_has(context->arguments, OPTION_PLAN))
        status = note_plan(context, request, error);
    if (status == CLIENT_OK)
        status = dry_run ? show_plan(context, request, error) : submit(context, request, error);
    json_decref(request);
    return status;
}

static int run_submit(const command_context *context, didi_error *error)
{
    return run(context, arguments_has(context->arguments, OPTION_DRY_RUN), error);
}

static int run_plan(const command_context *context, didi_error *error)
{
    return run(context, true, error);
}

static int run_extend(const command_context *context, didi_error *error)
{
    char *job = NULL;
    json_t *request = NULL;
    int status = job_named(context, &job, error);
    if (status == CLIENT_OK)
        status = draft_extend(job, context->arguments, &request, error);
    if (status == CLIENT_OK)
        status = arguments_has(context->arguments, OPTION_DRY_RUN)
                     ? show_plan(context, request, error)
                     : submit(context, request, error);
    json_decref(request);
    free(job);
    return status;
}

#define DRAFT_ROWS                                                                                 \
    {OPTION_FROM_JOB, 'f', "from-job", "JOB", "start from the spectra JOB kept; same models"},     \
        {OPTION_BASE, 'b', "base", "MODEL", "the model all tasks were tuned from"},                \
        {OPTION_TASK, 't', "task", "NAME=MODEL", "a task and its fine-tuned model (repeat)"},      \
        {OPTION_BUDGET, 0, "budget", "X",                                                          \
         "models kept: 1.24 or S, M, L; bytes=N, bytes_ratio=X, max_error=E"},                     \
        {OPTION_SURVEY, 0, "survey", NULL, "stop at error against bytes; --from-job goes on"},     \
        {OPTION_DTYPE, 'd', "dtype", "TYPE", "f32, bf16, f16, int8, int4, int3 or auto"},          \
        {OPTION_OBJECTIVE, 0, "objective", "WHAT", "mean or worst_task"},                          \
        {OPTION_METHOD, 0, "method", "NAME", "as `didictl methods` lists them (didi)"},            \
        {OPTION_NAME, 'n', "name", "NAME", "a name for people"},                                   \
        {OPTION_LABEL, 'l', "label", "KEY=VALUE", "a label (repeat)"},                             \
        {OPTION_PRIORITY, 'p', "priority", "N", "-100 to 100, higher goes first (0)"},             \
        {OPTION_SET, 's', "set", "PATH=VALUE", "any other field: ranks.allocator=exact"},          \
    {                                                                                              \
        OPTION_LAYERS, 0, "layers", NULL, "plan: list every matrix"                                \
    }
static const option_row submit_options[] = {
    DRAFT_ROWS,
    {OPTION_PLAN, 0, "plan", NULL, "show first what it takes: memory, disk, bytes, time"},
    {OPTION_DRY_RUN, 0, "dry-run", NULL, "check and show the plan, submit nothing"},
    {OPTION_WAIT, 'w', "wait", NULL, "stay until the job ends; its outcome is the exit code"},
    {OPTION_KEY, 0, "idempotency-key", "KEY", "submitting twice with one key gives one job"},
};
static const option_row plan_options[] = {DRAFT_ROWS};
static const option_row extend_options[] = {
    {OPTION_ADD, 'a', "add", "NAME=MODEL", "a task to add (repeat)"},
    {OPTION_REMOVE, 'r', "remove", "NAME", "a task to leave out (repeat)"},
    {OPTION_BUDGET, 0, "budget", "X", "parameters for each new task, in models (a mean expert's)"},
    {OPTION_REBALANCE, 0, "rebalance", NULL, "merge all tasks anew under the same total"},
    {OPTION_NO_COMPARE, 0, "no-compare", NULL, "do not make a full merge to compare with"},
    {OPTION_NAME, 'n', "name", "NAME", "a name for people"},
    {OPTION_LABEL, 'l', "label", "KEY=VALUE", "a label (repeat)"},
    {OPTION_PRIORITY, 'p', "priority", "N", "-100 to 100, higher goes first (0)"},
    {OPTION_DRY_RUN, 0, "dry-run", NULL, "check and show the plan, submit nothing"},
    {OPTION_LAYERS, 0, "layers", NULL, "plan: list every matrix"},
    {OPTION_WAIT, 'w', "wait", NULL, "stay until the job ends; its outcome is the exit code"},
    {OPTION_KEY, 0, "idempotency-key", "KEY", "submitting twice with one key gives one job"},
};

const client_command command_submit = {
    .name = "submit",
    .words = "[FILE]",
    .summary = "submit a merge, from a specification file (- is stdin) or options",
    .text = "Options change what the file says; tasks are added to the file's.\n"
            "The id of the job goes to stdout.\n",
    .options = COMMAND_OPTIONS(submit_options),
    .run = run_submit,
};
const client_command command_plan = {
    .name = "plan",
    .words = "[FILE]",
    .summary = "check a specification and show what it would take (submit --dry-run)",
    .options = COMMAND_OPTIONS(plan_options),
    .run = run_plan,
};
const client_command command_extend = {
    .name = "extend",
    .words = "JOB",
    .summary = "add tasks to a finished job, or remove some, and leave the rest as it is",
    .text = "Makes a new job: the shared part and the experts kept are the same bytes.\n"
            "The id of the new job goes to stdout.\n",
    .options = COMMAND_OPTIONS(extend_options),
    .run = run_extend,
};
