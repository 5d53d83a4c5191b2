/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: what is wrong with the server's state directory. */
#include "client/commands/command.h"

#include "proto/proto.h"

#include <stdio.h>
#include <string.h>

/* The database is checked whole, and a page of jobs is read from disk. */
enum { DOCTOR_EXTRA_SECONDS = 600 };

static int print_findings(const command_context *context, const json_t *report, didi_error *error)
{
    static const table_column columns[] = {{"STATE", false}, {"CHECK", false}, {"DETAIL", false}};
    const json_t *findings = json_object_get(report, "findings");
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(findings); i++) {
        const json_t *finding = json_array_get(findings, i);
        table_add(table, "%s", record_text(finding, "state"));
        table_add(table, "%s", record_text(finding, "check"));
        table_add(table, "%s", record_text(finding, "detail"));
    }
    return output_table(context->output, table, error);
}

/* Adds the findings of a page to the report; "" in `after` when there are no more. */
static int add_page(const command_context *context, json_t *report, char after[64], int64_t *jobs,
                    didi_error *error)
{
    json_t *page = NULL;
    int status = after[0] == '\0' ? service_get(context->service, DOCTOR_EXTRA_SECONDS, &page,
                                                error, "/v1/doctor/jobs")
                                  : service_get(context->service, DOCTOR_EXTRA_SECONDS, &page,
                                                error, "/v1/doctor/jobs?after=%s", after);
    if (status != CLIENT_OK)
        return status;
    const char *next = record_text(page, "next");
    const int64_t looked = record_integer(page, "jobs");
    if (next[0] != '\0' && (!name_is_job(next) || strcmp(next, after) <= 0)) {
        json_decref(page);
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server's pages do not go on");
    }
    *jobs += looked > 0 ? looked : 0;
    json_array_extend(json_object_get(report, "findings"), json_object_get(page, "findings"));
    (void)snprintf(after, 64, "%s", next);
    json_decref(page);
    output_note(context->output, "%lld jobs compared with their manifests", (long long)*jobs);
    return CLIENT_OK;
}

static bool has_errors(const json_t *report)
{
    const json_t *findings = json_object_get(report, "findings");
    for (size_t i = 0; i < json_array_size(findings); i++)
        if (strcmp(record_text(json_array_get(findings, i), "state"), "error") == 0)
            return true;
    return false;
}

static int run_doctor(const command_context *context, didi_error *error)
{
    json_t *report = NULL;
    char after[64] = "";
    int64_t jobs = 0;
    int status = service_get(context->service, DOCTOR_EXTRA_SECONDS, &report, error, "/v1/doctor");
    if (status == CLIENT_OK && record_true(report, "jobs_can_be_checked")) {
        do
            status = add_page(context, report, after, &jobs, error);
        while (status == CLIENT_OK && after[0] != '\0');
        json_object_set_new(report, "jobs", json_integer(jobs));
    }
    const bool wrong = has_errors(report);
    if (status != CLIENT_OK) {
        json_decref(report);
        return status;
    }
    status = command_print(context, status, report, NULL, print_findings, error);
    if (status == CLIENT_OK && wrong)
        return didi_fail(error, CLIENT_FAILURE, NULL, "something is wrong");
    return status;
}

const client_command command_doctor = {
    .name = "doctor",
    .words = "",
    .summary = "tell what is wrong with the server's database, files and settings",
    .text = "Checks the whole database and compares all results with their manifests, so it may\n"
            "take long. Exit code 1 when something is wrong.\n",
    .run = run_doctor,
};
