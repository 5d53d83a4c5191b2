/* SPDX-License-Identifier: Apache-2.0 */
/* ranks and frontier. */
#include "client/command_results.h"

#include "client/exit_code.h"
#include "client/format.h"
#include "client/job.h"
#include "client/plot.h"
#include "client/record.h"
#include "src/base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail_memory(didi_error *error)
{
    return didi_fail(error, CLIENT_FAILURE, NULL, "out of memory");
}

/* The resource `rest` of the job named on the command line. */
static int read_result(const command_context *context, const char *rest, json_t **ret_document,
                       didi_error *error)
{
    char *id = NULL;
    int status = job_resolve(context->service, arguments_at(context->arguments, 0), &id, error);
    if (status != CLIENT_OK) {
        return status;
    }
    char *target = job_target(id, rest);
    status = target == NULL ? fail_memory(error)
                            : service_get(context->service, target, 0, ret_document, error);
    free(target);
    free(id);
    return status;
}

/* Layers come as a list of objects with "tensor", or as an object keyed by tensor. */
static const char *layer_name(const json_t *layer, const char *key)
{
    const char *name = record_text(layer, "tensor");
    return key != NULL ? key : name;
}

static const json_t *layer_tasks(const json_t *layer)
{
    const json_t *tasks = json_object_get(layer, "experts");
    return json_is_object(tasks) ? tasks : json_object_get(layer, "tasks");
}

static client_table *create_rank_table(const json_t *tasks)
{
    size_t count = json_object_size(tasks) + 2;
    table_column *columns = memory_zeroed(count, sizeof *columns);
    if (columns == NULL) {
        return NULL;
    }
    size_t at = 0;
    columns[at++] = (table_column){"LAYER", false};
    columns[at++] = (table_column){"SHARED", true};
    const char *task;
    json_t *rank;
    json_object_foreach((json_t *)tasks, task, rank)
    {
        columns[at++] = (table_column){task, true};
    }
    client_table *table = table_create(columns, count);
    free(columns);
    return table;
}

static void add_rank(client_table *table, const json_t *value, double *sum)
{
    const json_t *rank = json_is_object(value) ? json_object_get(value, "rank") : value;
    if (json_is_integer(rank)) {
        table_add(table, "%lld", (long long)json_integer_value(rank));
        *sum += json_number_value(rank);
    } else {
        table_add(table, "-");
    }
}

static int print_ranks(client_output *output, const json_t *layers, didi_error *error)
{
    const json_t *list = json_is_object(json_object_get(layers, "layers")) ||
                                 json_is_array(json_object_get(layers, "layers"))
                             ? json_object_get(layers, "layers")
                             : layers;
    size_t count = json_is_array(list) ? json_array_size(list) : json_object_size(list);
    void *iterator = json_object_iter((json_t *)list);
    const json_t *first =
        json_is_array(list) ? json_array_get(list, 0) : json_object_iter_value(iterator);
    const json_t *tasks = layer_tasks(first);
    if (count == 0 || !json_is_object(tasks)) {
        return didi_fail(error, CLIENT_FAILURE, NULL,
                         "the server's ranks are in another form; see them with -o json");
    }
    size_t columns = json_object_size(tasks) + 1;
    double *sums = memory_zeroed(columns, sizeof *sums);
    client_table *table = create_rank_table(tasks);
    if (sums == NULL || table == NULL) {
        free(sums);
        table_free(table);
        return fail_memory(error);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *layer =
            json_is_array(list) ? json_array_get(list, i) : json_object_iter_value(iterator);
        const char *key = json_is_array(list) ? NULL : json_object_iter_key(iterator);
        table_add(table, "%s", layer_name(layer, key));
        add_rank(table, json_object_get(layer, "shared"), &sums[0]);
        size_t at = 1;
        const char *task;
        json_t *rank;
        json_object_foreach((json_t *)tasks, task, rank)
        {
            add_rank(table, json_object_get(layer_tasks(layer), task), &sums[at++]);
        }
        iterator = iterator != NULL ? json_object_iter_next((json_t *)list, iterator) : NULL;
    }
    table_add(table, "sum");
    for (size_t i = 0; i < columns; i++) {
        table_add(table, "%.0f", sums[i]);
    }
    free(sums);
    return output_table(output, table, true, error);
}

static int run_ranks(const command_context *context, didi_error *error)
{
    json_t *ranks = NULL;
    int status = read_result(context, "/ranks", &ranks, error);
    if (status == CLIENT_OK) {
        status = output_format_wanted(context->output) == OUTPUT_TABLE
                     ? print_ranks(context->output, ranks, error)
                     : output_json(context->output, ranks, error);
    }
    json_decref(ranks);
    return status;
}

/* The number under the first of several names that is there. */
static double first_number(const json_t *point, const char *const *keys)
{
    double number = NAN;
    for (; *keys != NULL && isnan(number); keys++) {
        number = record_number(point, *keys);
    }
    return number;
}

static size_t read_points(const json_t *points, plot_point *ret_points)
{
    static const char *const ratio_keys[] = {"ratio", "budget", "parameters", NULL};
    static const char *const error_keys[] = {"relative_error", "error", NULL};
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(points); i++) {
        const json_t *point = json_array_get(points, i);
        plot_point read = {.x = first_number(point, ratio_keys),
                           .y = first_number(point, error_keys)};
        if (isfinite(read.x) && isfinite(read.y)) {
            ret_points[count++] = read;
        }
    }
    return count;
}

static int print_frontier(client_output *output, const json_t *frontier, didi_error *error)
{
    static const table_column columns[] = {{"RATIO", true}, {"RELATIVE ERROR", true}};
    const json_t *list = json_is_array(frontier) ? frontier : json_object_get(frontier, "points");
    size_t room = json_array_size(list);
    plot_point *points = memory_zeroed(room, sizeof *points);
    client_table *table = table_create(columns, 2);
    size_t count = points != NULL ? read_points(list, points) : 0;
    int status = CLIENT_OK;
    if (points == NULL || table == NULL) {
        status = fail_memory(error);
        goto out;
    }
    if (count == 0) {
        status = didi_fail(error, CLIENT_FAILURE, NULL,
                           "the server's frontier is in another form; see it with -o json");
        goto out;
    }
    if (isatty(STDOUT_FILENO) == 1) {
        plot_print(stdout, points, count, "ratio", "relative error");
        putchar('\n');
    }
    for (size_t i = 0; i < count; i++) {
        table_add(table, "%.4f", points[i].x);
        table_add(table, "%.5f", points[i].y);
    }
    status = output_table(output, table, true, error);
    table = NULL;
out:
    table_free(table);
    free(points);
    return status;
}

static int run_frontier(const command_context *context, didi_error *error)
{
    json_t *frontier = NULL;
    int status = read_result(context, "/frontier", &frontier, error);
    if (status == CLIENT_OK) {
        status = output_format_wanted(context->output) == OUTPUT_TABLE
                     ? print_frontier(context->output, frontier, error)
                     : output_json(context->output, frontier, error);
    }
    json_decref(frontier);
    return status;
}

const client_command command_ranks = {
    .name = "ranks",
    .words = "JOB",
    .word_min = 1,
    .word_max = 1,
    .summary = "show the ranks of a job: layers by shared and tasks",
    .text = "",
    .options = COMMAND_NO_OPTIONS,
    .run = run_ranks,
};
const client_command command_frontier = {
    .name = "frontier",
    .words = "JOB",
    .word_min = 1,
    .word_max = 1,
    .summary = "show error against budget, with a plot on a terminal",
    .text = "",
    .options = COMMAND_NO_OPTIONS,
    .run = run_frontier,
};
