/* SPDX-License-Identifier: Apache-2.0 */
/* compare: jobs side by side. */
#include "client/commands/command.h"

#include "client/commands/job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMPARE_LAYERS_DEFAULT = 10 };

/* What is compared: arrays of the same length, a job in each place. */
typedef struct comparison {
    json_t *jobs;
    json_t *ranks; /* null of a job that has none */
} comparison;

static const json_t *job_at(const comparison *self, size_t index)
{
    return json_array_get(self->jobs, index);
}

static size_t count_of(const comparison *self)
{
    return json_array_size(self->jobs);
}

static int read_job(const command_context *context, const char *reference, comparison *into,
                    didi_error *error)
{
    char *id = NULL;
    json_t *job = NULL;
    json_t *ranks = NULL;
    didi_error ignored = {0};
    int status = job_resolve(context, reference, &id, error);
    if (status == CLIENT_OK)
        status = job_get(context->service, id, &job, error);
    /* Only those that succeeded, by methods with layers, have any. */
    if (status == CLIENT_OK && strcmp(record_text(job, "state"), "succeeded") == 0 &&
        job_read(context->service, id, "/ranks", &ranks, &ignored) == CLIENT_INTERRUPTED) {
        *error = ignored;
        status = CLIENT_INTERRUPTED;
    }
    if (status == CLIENT_OK &&
        (json_array_append(into->jobs, job) != 0 ||
         json_array_append_new(into->ranks, ranks != NULL ? json_incref(ranks) : json_null()) != 0))
        status = client_fail_memory(error);
    json_decref(ranks);
    json_decref(job);
    free(id);
    return status;
}

/* ---- the jobs' own figures ---- */

typedef char *(*fact_writer)(char target[FORMAT_BYTES_MAX], const json_t *job);

static char *write_budget(char target[FORMAT_BYTES_MAX], const json_t *job)
{
    return budget_text_show(target, json_object_get(job, "specification"));
}

static char *write_bytes(char target[FORMAT_BYTES_MAX], const json_t *job)
{
    const int64_t bytes = record_integer(job, "result.budget.bytes");
    if (bytes >= 0)
        return format_bytes(target, bytes);
    memcpy(target, "-", 2);
    return target;
}

static char *write_parameters(char target[FORMAT_BYTES_MAX], const json_t *job)
{
    return format_number(target, record_number(job, "result.budget.parameters"), 5);
}

static char *write_ratio(char target[FORMAT_BYTES_MAX], const json_t *job)
{
    return format_number(target, record_number(job, "result.budget.bytes_ratio"), 4);
}

static char *write_time(char target[FORMAT_BYTES_MAX], const json_t *job)
{
    return format_duration(target, format_parse_time(record_text(job, "finished_at")) -
                                       format_parse_time(record_text(job, "started_at")));
}

static char *write_error(char target[FORMAT_BYTES_MAX], const json_t *job)
{
    return format_number(target, record_number(job, "result.error.relative"), 5);
}

static void add_texts(client_table *table, const comparison *self, const char *name,
                      const char *path)
{
    bool any = false;
    for (size_t i = 0; i < count_of(self); i++)
        any = any || record_text(job_at(self, i), path)[0] != '\0';
    if (!any)
        return;
    table_add(table, "%s", name);
    for (size_t i = 0; i < count_of(self); i++)
        table_add(table, "%s", record_text(job_at(self, i), path));
}

/* The errors of every task that any of the jobs has, in the order in which they appear. */
static void add_tasks(client_table *table, const comparison *self)
{
    json_t *seen = json_object();
    const char *task;
    json_t *value;
    for (size_t i = 0; i < count_of(self); i++)
        json_object_foreach((json_t *)record_at(job_at(self, i), "result.error.per_task"), task,
                            value)
        {
            if (json_object_get(seen, task) == NULL)
                (void)json_object_set(seen, task, value);
        }
    json_object_foreach(seen, task, value)
    {
        table_add(table, "  %s", task);
        for (size_t i = 0; i < count_of(self); i++) {
            char text[FORMAT_BYTES_MAX];
            const json_t *own =
                json_object_get(record_at(job_at(self, i), "result.error.per_task"), task);
            table_add(table, "%s",
                      format_number(text, json_is_number(own) ? json_number_value(own) : NAN, 5));
        }
    }
    json_decref(seen);
}

static int print_jobs(const command_context *context, const comparison *self, didi_error *error)
{
    static const table_column columns[] = {{"JOB", false}};
    static const struct {
        const char *name;
        fact_writer write;
    } facts[] = {{"budget", write_budget},
                 {"size", write_bytes},
                 {"of the base's bytes", write_ratio},
                 {"parameters", write_parameters},
                 {"time", write_time},
                 {"relative error", write_error}};
    client_table *table = table_create(columns, 1);
    for (size_t i = 0; i < count_of(self); i++)
        table_add_column(table, record_text(job_at(self, i), "id"), true);
    add_texts(table, self, "name", "name");
    add_texts(table, self, "state", "state");
    add_texts(table, self, "base", "specification.base");
    add_texts(table, self, "method", "specification.method");
    add_texts(table, self, "dtype", "specification.output.dtype");
    add_texts(table, self, "allocator", "specification.ranks.allocator");
    for (size_t fact = 0; fact < sizeof facts / sizeof facts[0]; fact++) {
        table_add(table, "%s", facts[fact].name);
        for (size_t i = 0; i < count_of(self); i++) {
            char text[FORMAT_BYTES_MAX];
            table_add(table, "%s", facts[fact].write(text, job_at(self, i)));
        }
    }
    add_tasks(table, self);
    return output_table(context->output, table, error);
}

/* ---- the layers ---- */

typedef struct layer_row {
    const char *tensor;
    double spread; /* between the jobs' mean errors */
} layer_row;

static const json_t *find_layer(const json_t *ranks, const char *tensor)
{
    const json_t *layers = json_object_get(ranks, "layers");
    for (size_t i = 0; i < json_array_size(layers); i++)
        if (strcmp(record_text(json_array_get(layers, i), "tensor"), tensor) == 0)
            return json_array_get(layers, i);
    return NULL;
}

/* Of the tasks; NaN where there are none. */
static double mean_error(const json_t *layer)
{
    const json_t *errors = json_object_get(layer, "errors");
    double sum = 0.0;
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(errors); i++)
        if (json_is_number(json_array_get(errors, i))) {
            sum += json_number_value(json_array_get(errors, i));
            count++;
        }
    return count > 0 ? sum / (double)count : NAN;
}

static int64_t rank_sum(const json_t *layer)
{
    const json_t *experts = json_object_get(layer, "experts");
    int64_t sum = record_integer(layer, "shared");
    sum = sum > 0 ? sum : 0;
    for (size_t i = 0; i < json_array_size(experts); i++)
        sum += json_integer_value(json_array_get(experts, i));
    return sum;
}

static double spread_of(const comparison *self, const char *tensor)
{
    double least = INFINITY;
    double greatest = -INFINITY;
    for (size_t i = 0; i < count_of(self); i++) {
        const double error = mean_error(find_layer(json_array_get(self->ranks, i), tensor));
        least = fmin(least, error);
        greatest = fmax(greatest, error);
    }
    return greatest - least;
}

static int compare_spreads(const void *a, const void *b)
{
    const double first = ((const layer_row *)a)->spread;
    const double second = ((const layer_row *)b)->spread;
    return first < second ? 1 : first > second ? -1 : 0;
}

static int print_rows(const command_context *context, const comparison *self, const layer_row *rows,
                      size_t count, didi_error *error)
{
    static const table_column columns[] = {{"LAYER: MEAN ERROR (RANKS)", false}};
    client_table *table = table_create(columns, 1);
    for (size_t i = 0; i < count_of(self); i++)
        table_add_column(table, record_text(job_at(self, i), "id"), true);
    for (size_t row = 0; row < count; row++) {
        table_add(table, "%s", rows[row].tensor);
        for (size_t i = 0; i < count_of(self); i++) {
            char text[FORMAT_BYTES_MAX];
            const json_t *layer = find_layer(json_array_get(self->ranks, i), rows[row].tensor);
            if (layer == NULL)
                table_add(table, "-");
            else
                table_add(table, "%s (%lld)", format_number(text, mean_error(layer), 4),
                          (long long)rank_sum(layer));
        }
    }
    putchar('\n');
    return output_table(context->output, table, error);
}

static int print_layers(const command_context *context, const comparison *self, size_t most,
                        didi_error *error)
{
    const json_t *layers = json_object_get(json_array_get(self->ranks, 0), "layers");
    const size_t room = json_array_size(layers);
    layer_row *rows = memory_zeroed(room + 1, sizeof *rows);
    size_t count = 0;
    if (rows == NULL)
        return client_fail_memory(error);
    for (size_t i = 0; i < room; i++) {
        const char *tensor = record_text(json_array_get(layers, i), "tensor");
        const double spread = spread_of(self, tensor);
        if (isfinite(spread))
            rows[count++] = (layer_row){tensor, spread};
    }
    qsort(rows, count, sizeof *rows, compare_spreads);
    const int status = count == 0
                           ? CLIENT_OK
                           : print_rows(context, self, rows, count < most ? count : most, error);
    free(rows);
    return status;
}

static int print_comparison(const command_context *context, const json_t *document,
                            didi_error *error)
{
    static const command_number number = {OPTION_LAYERS, "--layers", 0, 1000000,
                                          COMPARE_LAYERS_DEFAULT};
    const comparison self = {.jobs = json_object_get(document, "jobs"),
                             .ranks = json_object_get(document, "ranks")};
    long most = 0;
    int status = command_integer(context, &number, &most, error);
    if (status == CLIENT_OK)
        status = print_jobs(context, &self, error);
    if (status == CLIENT_OK && most > 0)
        status = print_layers(context, &self, (size_t)most, error);
    return status;
}

static int run_compare(const command_context *context, didi_error *error)
{
    comparison self = {.jobs = json_array(), .ranks = json_array()};
    json_t *document = json_pack("{s:O, s:O}", "jobs", self.jobs, "ranks", self.ranks);
    int status = document == NULL ? client_fail_memory(error) : CLIENT_OK;
    const char *reference;
    for (size_t i = 0;
         status == CLIENT_OK && (reference = arguments_word(context->arguments, i)) != NULL; i++)
        status = read_job(context, reference, &self, error);
    json_decref(self.jobs);
    json_decref(self.ranks);
    return command_print(context, status, document, NULL, print_comparison, error);
}

static const option_row compare_options[] = {
    {OPTION_LAYERS, 0, "layers", "N", "so many layers that differ most (10); 0 for none"}};

const client_command command_compare = {
    .name = "compare",
    .words = "JOB JOB...",
    .summary = "show jobs side by side: budget, size, errors, layers that differ most",
    .text = "With -o json, the jobs and their ranks as the server has them.\n",
    .options = COMMAND_OPTIONS(compare_options),
    .run = run_compare,
};
