/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs and plans in words, for people. */
#include "client/view/summary.h"

#include "client/base/base.h"
#include "client/view/budget_text.h"
#include "client/view/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Seconds the job has run, to its end or to now. */
static double seconds_run(const json_t *job)
{
    double started = format_parse_time(record_text(job, "started_at"));
    double finished = format_parse_time(record_text(job, "finished_at"));
    double end = isnan(finished) ? (double)time(NULL) : finished;
    return end > started ? end - started : isnan(started) ? NAN : 0.0;
}

void summary_note(const client_output *output, const json_t *job)
{
    char duration[FORMAT_BYTES_MAX];
    char relative[FORMAT_BYTES_MAX];
    char stored[FORMAT_BYTES_MAX];
    double error_now = record_number(job, "result.error.relative");
    const json_t *budget = record_at(job, "result.budget");
    if (isnan(error_now) && budget == NULL) {
        output_note(output, "%s after %s", record_text(job, "state"),
                    format_duration(duration, seconds_run(job)));
    } else {
        output_note(output, "%s after %s, relative error %s, %s", record_text(job, "state"),
                    format_duration(duration, seconds_run(job)),
                    format_number(relative, error_now, 4), budget_text_stored(stored, budget));
    }
}

static void add_number(client_table *table, const char *key, double number, const char *unit)
{
    char text[FORMAT_BYTES_MAX];
    if (isfinite(number)) {
        table_add(table, "%s", key);
        table_add(table, "%s%s", format_number(text, number, 5), unit);
    }
}

static void add_count(client_table *table, const char *key, double count)
{
    char text[FORMAT_BYTES_MAX];
    table_add_fact(table, key, isfinite(count) ? format_count(text, count) : "");
}

static void add_state(client_table *table, const json_t *job)
{
    const char *state = record_text(job, "state");
    const char *stage = record_text(job, "stage");
    double progress = record_number(job, "progress");
    table_add(table, "state");
    if (strcmp(state, "running") == 0 && isfinite(progress)) {
        table_add(table, "%s (%s, %.0f %%)%s", state, stage, floor(100.0 * progress),
                  record_true(job, "cancel_requested") ? ", cancelling" : "");
    } else {
        table_add(table, "%s", state);
    }
    const json_t *reason = json_object_get(job, "error");
    if (json_is_object(reason)) {
        const char *subject = record_text(reason, "subject");
        table_add(table, "error");
        table_add(table, "%s: %s%s%s%s", record_text(reason, "title"),
                  record_text(reason, "detail"), subject[0] != '\0' ? " (" : "", subject,
                  subject[0] != '\0' ? ")" : "");
    }
}

static void add_labels(client_table *table, const json_t *labels)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)labels, key, value)
    {
        table_add(table, "label");
        table_add(table, "%s=%s", key, json_is_string(value) ? json_string_value(value) : "");
    }
}

static void add_specification(client_table *table, const json_t *specification)
{
    table_add_fact(table, "base", record_text(specification, "base"));
    const json_t *tasks = json_object_get(specification, "tasks");
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *task = json_array_get(tasks, i);
        table_add(table, "task");
        table_add(table, "%s = %s", record_text(task, "name"), record_text(task, "model"));
    }
    char text[FORMAT_BYTES_MAX];
    const char *method = record_text(specification, "method");
    if (strcmp(method, "didi") != 0) /* by its budget and ranks, which follow */
        table_add_fact(table, "method", method);
    if (json_object_get(specification, "budget") != NULL)
        table_add_fact(table, "budget", budget_text_show(text, specification));
    table_add_fact(table, "dtype", record_text(specification, "output.dtype"));
    table_add_fact(table, "objective", record_text(specification, "objective"));
    table_add_fact(table, "extends", record_text(specification, "extend.job"));
    table_add_fact(table, "ranks", record_text(specification, "ranks.allocator"));
    table_add_fact(table, "refine", record_text(specification, "refine.optimizer"));
}

static void add_per_task(client_table *table, const json_t *errors)
{
    char text[FORMAT_BYTES_MAX];
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)errors, key, value)
    {
        if (json_is_number(value)) {
            table_add(table, "  %s", key);
            table_add(table, "%s", format_number(text, json_number_value(value), 5));
        }
    }
}

static void add_result(client_table *table, const json_t *job)
{
    char text[FORMAT_BYTES_MAX];
    const json_t *budget = record_at(job, "result.budget");
    const json_t *error = record_at(job, "result.error");
    add_number(table, "parameters", record_number(budget, "parameters"), " models");
    int64_t bytes = record_integer(budget, "bytes");
    if (bytes >= 0)
        table_add_fact(table, "size", format_bytes(text, bytes));
    add_number(table, "of a 16-bit model", record_number(budget, "bytes_ratio_16bit"), "");
    add_number(table, "of the base's bytes", record_number(budget, "bytes_ratio"), "");
    double changed = record_number(budget, "of_changed.model_parameters");
    if (changed < 0.999 * record_number(budget, "model_parameters"))
        add_number(table, "of what changed, 16 bits",
                   record_number(budget, "of_changed.bytes_ratio_16bit"), "");
    if (record_number(budget, "own_parameters") > 0)
        add_count(table, "of one task alone", record_number(budget, "own_parameters"));
    double taken =
        8 * record_number(budget, "bytes") /
        (record_number(budget, "parameters") * record_number(budget, "model_parameters"));
    add_number(table, "bits per number", taken, "");
    add_number(table, "relative error", record_number(error, "relative"), "");
    add_per_task(table, json_object_get(error, "per_task"));
}

/* What an extension costs against a full merge of the same total. */
static void add_report(client_table *table, const json_t *job)
{
    const json_t *report = record_at(job, "result.extends.report");
    const json_t *full = json_object_get(report, "full_merge");
    if (report == NULL)
        return;
    if (!json_is_object(full)) {
        table_add_fact(table, "full merge", record_text(report, "reason"));
        return;
    }
    add_number(table, "full merge's error", record_number(full, "relative"), "");
    add_per_task(table, json_object_get(full, "per_task"));
}

int summary_job(client_output *output, const json_t *job, didi_error *error)
{
    char text[FORMAT_BYTES_MAX];
    client_table *facts = table_create_facts();
    table_add_fact(facts, "id", record_text(job, "id"));
    table_add_fact(facts, "name", record_text(job, "name"));
    add_state(facts, job);
    table_add_fact(facts, "submitted", record_text(job, "created_at"));
    table_add_fact(facts, "started", record_text(job, "started_at"));
    table_add_fact(facts, "finished", record_text(job, "finished_at"));
    table_add_fact(facts, "ran",
                   isnan(seconds_run(job)) ? "" : format_duration(text, seconds_run(job)));
    table_add_fact(facts, "from job", record_text(job, "specification.from_job"));
    table_add_fact(facts, "reusable", record_true(job, "reusable") ? "yes" : "");
    add_number(facts, "attempt", record_number(job, "attempt"), "");
    add_number(facts, "priority", record_number(job, "priority"), "");
    add_labels(facts, json_object_get(job, "labels"));
    add_specification(facts, json_object_get(job, "specification"));
    add_result(facts, job);
    add_report(facts, job);
    return output_table(output, facts, error);
}

static int print_layers(client_output *output, const json_t *layers, didi_error *error)
{
    static const table_column columns[] = {
        {"MATRIX", false}, {"ROWS", true}, {"COLUMNS", true}, {"RANK LIMIT", true}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        table_add(table, "%s", record_text(layer, "tensor"));
        table_add(table, "%lld", (long long)record_integer(layer, "rows"));
        table_add(table, "%lld", (long long)record_integer(layer, "columns"));
        table_add(table, "%lld", (long long)record_integer(layer, "rank_limit"));
    }
    putchar('\n');
    return output_table(output, table, error);
}

int summary_plan(client_output *output, const json_t *plan, bool layers, didi_error *error)
{
    static const struct {
        const char *key, *label;
    } sizes[] = {{"memory_minimum_bytes", "memory needed"},
                 {"memory_peak_bytes", "memory peak"},
                 {"disk_bytes", "disk, at most"},
                 {"artifact_bytes", "artifacts, at most"},
                 {"bytes_to_read", "to read"}};
    char text[FORMAT_BYTES_MAX];
    const json_t *tensors = json_object_get(plan, "tensors");
    client_table *facts = table_create_facts();
    add_number(facts, "tasks", record_number(plan, "tasks"), "");
    const char *unit = record_text(plan, "budget_unit");
    const char *dtype = record_text(plan, "specification.output.dtype");
    table_add_fact(facts, "budget",
                   budget_text_value(text, unit, dtype, record_number(plan, "budget"), false));
    table_add_fact(
        facts, "smallest budget",
        budget_text_value(text, unit, dtype, record_number(plan, "budget_minimum"), true));
    add_count(facts, "parameters of a model", record_number(plan, "parameters"));
    add_count(facts, "parameters kept dense", record_number(plan, "dense_parameters"));
    if (record_number(plan, "own_parameters") > 0)
        add_count(facts, "of one task alone", record_number(plan, "own_parameters"));
    add_count(facts, "parameters for factors", record_number(plan, "factor_parameters"));
    add_count(facts, "matrices", record_number(tensors, "low_rank"));
    add_count(facts, "matrices read in panels", record_number(plan, "streamed_layers"));
    add_count(facts, "dense tensors", record_number(tensors, "dense"));
    add_count(facts, "passed through", record_number(tensors, "passed_through"));
    add_count(facts, "excluded", record_number(tensors, "excluded"));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t bytes = record_integer(plan, sizes[i].key);
        table_add_fact(facts, sizes[i].label, bytes >= 0 ? format_bytes(text, bytes) : "");
    }
    add_count(facts, "operations", record_number(plan, "flops"));
    const double seconds = record_number(plan, "seconds_estimate");
    table_add_fact(facts, "time, about", isfinite(seconds) ? format_duration(text, seconds) : "");
    int status = output_table(output, facts, error);
    if (status == CLIENT_OK && layers)
        status = print_layers(output, json_object_get(plan, "layers"), error);
    return status;
}
