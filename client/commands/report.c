/* SPDX-License-Identifier: Apache-2.0 */
/* report: a job as a page that is read without the server. Short because new_file.c does it. */
#include "client/commands/job.h"
#include "client/commands/new_file.h"

#include <stdio.h>
#include <stdlib.h>

static int run_report(const command_context *context, didi_error *error)
{
    const char *name = arguments_value(context->arguments, OPTION_TO_FILE);
    char *id = NULL;
    int status = job_named(context, &id, error);
    if (status != CLIENT_OK)
        return status;
    char *target = job_target(id, "/report.html");
    char *own_name = memory_format("report-%s.html", id);
    if (target == NULL || own_name == NULL) {
        status = client_fail_memory(error);
    } else {
        name = name != NULL ? name : own_name;
        status = new_file_fetch(context, target, name, 0, error);
        if (status != CLIENT_OK)
            job_advise_unknown(context, error);
    }
    if (status == CLIENT_OK)
        puts(name);
    free(own_name);
    free(target);
    free(id);
    return status;
}

static const option_row report_options[] = {
    {OPTION_TO_FILE, 'O', "to-file", "FILE", "in place of report-JOB.html"}};

const client_command command_report = {
    .name = "report",
    .words = "JOB",
    .summary = "save the report of a succeeded job: one page, to read and print",
    .text = "The page needs no server and asks for nothing. It has the job's figures, drawings, "
            "inputs\n"
            "with digests and specification.\n",
    .options = COMMAND_OPTIONS(report_options),
    .run = run_report,
};
