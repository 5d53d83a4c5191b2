/* SPDX-License-Identifier: Apache-2.0 */
/* extend: tasks added to a finished job, or removed from it. */
#include "client/commands/extend.h"

#include "client/base/base.h"
#include "client/commands/draft.h"
#include "client/commands/job.h"
#include "client/commands/submit.h"

#include <stdlib.h>

static int run_extend(const command_context *context, didi_error *error)
{
    char *job = NULL;
    json_t *request = NULL;
    int status = job_resolve(context->service, arguments_at(context->arguments, 0), &job, error);
    if (status == CLIENT_OK)
        status = draft_extend(job, context->arguments, &request, error);
    if (status == CLIENT_OK)
        status = arguments_has(context->arguments, OPTION_DRY_RUN)
                     ? command_submit_plan(context, request, error)
                     : command_submit_send(context, request, error);
    json_decref(request);
    free(job);
    return status;
}

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

const client_command command_extend = {
    .name = "extend",
    .words = "JOB",
    .word_min = 1,
    .word_max = 1,
    .summary = "add tasks to a finished job, or remove some, and leave the rest as it is",
    .text = "Makes a new job: the shared part and the experts kept are the same bytes.\n"
            "The id of the new job goes to stdout.\n\n"
            "  didictl extend @latest --add orient=glyph/orient --wait\n"
            "  didictl extend @latest --remove latin --add latin=glyph/latin-2\n",
    .options = COMMAND_OPTIONS(extend_options),
    .run = run_extend,
};
