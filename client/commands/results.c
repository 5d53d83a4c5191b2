/* SPDX-License-Identifier: Apache-2.0 */
/* ranks, frontier and similarity. */
#include "client/commands/command.h"

#include "client/commands/job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The resource `rest` of the job named on the command line. */
static int read_result(const command_context *context, const char *rest, json_t **ret_document,
                       didi_error *error)
{
    char *id = NULL;
    int status = job_resolve(context->service, arguments_word(context->arguments, 0), &id, error);
    if (status == CLIENT_OK)
        status = job_read(context->service, id, rest, ret_document, error);
    free(id);
    return status;
}

/* Columns LAYER, SHARED and one per task. */
static client_table *create_rank_table(const json_t *tasks)
{
    size_t count = json_array_size(tasks) + 2;
    table_column *columns = memory_zeroed(count, sizeof *columns);
    if (columns == NULL)
        return NULL;
    columns[0] = (table_column){"LAYER", false};
    columns[1] = (table_column){"SHARED", true};
    for (size_t i = 2; i < count; i++) {
        const char *name = json_string_value(json_array_get(tasks, i - 2));
        columns[i] = (table_column){name != NULL ? name : "?", true};
    }
    client_table *table = table_create(columns, count);
    free(columns);
    return table;
}

static void add_rank(client_table *table, const json_t *rank, bool dense, double *sum)
{
    if (dense) {
        table_add(table, "dense");
    } else if (json_is_integer(rank)) {
        table_add(table, "%lld", (long long)json_integer_value(rank));
        *sum += json_number_value(rank);
    } else {
        table_add(table, "-");
    }
}

/* Ranks, or with `errors` the relative error each task keeps in the layer. */
static void add_layer(client_table *table, const json_t *layer, size_t tasks, bool errors,
                      double *sums)
{
    const json_t *experts = json_object_get(layer, "experts");
    const json_t *dense = json_object_get(layer, "dense");
    const json_t *left = json_object_get(layer, "errors");
    table_add(table, "%s", record_text(layer, "tensor"));
    add_rank(table, json_object_get(layer, "shared"), false, &sums[0]);
    for (size_t i = 0; i < tasks; i++) {
        const json_t *error = json_array_get(left, i);
        char text[FORMAT_BYTES_MAX];
        if (errors) {
            double number = json_is_number(error) ? json_number_value(error) : NAN;
            table_add(table, "%s", format_number(text, number, 4));
        } else {
            add_rank(table, json_array_get(experts, i), json_is_true(json_array_get(dense, i)),
                     &sums[i + 1]);
        }
    }
}

static int print_ranks(client_output *output, const json_t *ranks, bool errors, didi_error *error)
{
    const json_t *tasks = json_object_get(ranks, "tasks");
    const json_t *layers = json_object_get(ranks, "layers");
    size_t task_count = json_array_size(tasks);
    if (!json_is_array(layers) || task_count == 0)
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server's ranks are malformed");
    double *sums = memory_zeroed(task_count + 1, sizeof *sums);
    client_table *table = create_rank_table(tasks);
    if (sums == NULL || table == NULL) {
        free(sums);
        table_free(table);
        return client_fail_memory(error);
    }
    for (size_t i = 0; i < json_array_size(layers); i++)
        add_layer(table, json_array_get(layers, i), task_count, errors, sums);
    if (!errors) {
        table_add(table, "sum");
        for (size_t i = 0; i <= task_count; i++)
            table_add(table, "%.0f", sums[i]);
    }
    free(sums);
    return output_table(output, table, true, error);
}

static int run_ranks(const command_context *context, didi_error *error)
{
    json_t *ranks = NULL;
    bool errors = arguments_has(context->arguments, OPTION_ERRORS);
    bool done = false;
    int status = read_result(context, "/ranks", &ranks, error);
    if (status != CLIENT_OK)
        return status;
    switch (output_format_wanted(context->output)) {
    case OUTPUT_TABLE:
        status = print_ranks(context->output, ranks, errors, error);
        break;
    case OUTPUT_NAME:
        status = output_records(context->output, json_object_get(ranks, "layers"), "tensor", &done,
                                error);
        break;
    default:
        status = output_json(context->output, ranks, error);
    }
    json_decref(ranks);
    return status;
}

static bool read_point(const json_t *point, plot_point *ret_point)
{
    plot_point read = {.x = record_number(point, "budget"), .y = record_number(point, "error")};
    if (!isfinite(read.x) || !isfinite(read.y))
        return false;
    *ret_point = read;
    return true;
}

/* The points of the curve in order, then the chosen one with its mark. */
static size_t read_points(const json_t *frontier, plot_point *ret_points)
{
    const json_t *points = json_object_get(frontier, "points");
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(points); i++)
        count += read_point(json_array_get(points, i), &ret_points[count]) ? 1 : 0;
    for (size_t i = 0; i < count; i++)
        ret_points[i].mark = '*';
    if (read_point(json_object_get(frontier, "chosen"), &ret_points[count]))
        ret_points[count++].mark = 'O';
    return count;
}

static int print_frontier(client_output *output, const json_t *frontier, didi_error *error)
{
    static const table_column columns[] = {
        {"PARAMETERS", true}, {"RELATIVE ERROR", true}, {"", false}};
    size_t room = json_array_size(json_object_get(frontier, "points")) + 1;
    plot_point *points = memory_zeroed(room, sizeof *points);
    size_t count = points != NULL ? read_points(frontier, points) : 0;
    if (count == 0) {
        free(points);
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server's frontier is malformed");
    }
    if (isatty(STDOUT_FILENO) == 1) {
        plot_print(stdout, points, count, "parameters, to one model (O: this job, refined)",
                   "relative error");
        putchar('\n');
    }
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < count; i++) {
        table_add(table, "%.4f", points[i].x);
        table_add(table, "%.5f", points[i].y);
        table_add(table, "%s", points[i].mark == 'O' ? "this job, refined" : "");
    }
    free(points);
    return output_table(output, table, true, error);
}

static const struct {
    const char *name;
    char mark;
} precisions[] = {{"f32", 'f'},  {"bf16", 'b'}, {"f16", 'h'}, {"int8", '8'},
                  {"int4", '4'}, {"int3", '3'}, {"auto", 'a'}};
enum { PRECISION_COUNT = sizeof precisions / sizeof precisions[0] };

/* A point of bytes, or of this job (mark O), to the plot and the table; 0 where it is none. */
static size_t add_bytes(const json_t *row, const char *name, char mark, plot_point *ret_point,
                        client_table *table)
{
    char bytes[FORMAT_BYTES_MAX];
    plot_point read = {
        .x = record_number(row, "bytes_ratio"), .y = record_number(row, "error"), .mark = mark};
    if (!isfinite(read.x) || !isfinite(read.y))
        return 0;
    *ret_point = read;
    table_add(table, "%s", name);
    table_add(table, "%.4f", read.x);
    table_add(table, "%s", format_bytes(bytes, record_integer(row, "bytes")));
    table_add(table, "%.5f", read.y);
    table_add(table, "%s", mark == 'O' ? "this job, refined" : "");
    return 1;
}

static size_t add_precision(const json_t *list, const char *name, char mark, plot_point *points,
                            client_table *table)
{
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        count += add_bytes(json_array_get(list, i), name, mark, &points[count], table);
    return count;
}

static size_t count_precision_points(const json_t *curves)
{
    size_t room = 0;
    for (size_t p = 0; p < PRECISION_COUNT; p++)
        room += json_array_size(json_object_get(curves, precisions[p].name));
    return room;
}

/* Error against bytes, a curve for each precision. */
static int print_bytes(client_output *output, const json_t *frontier, didi_error *error)
{
    static const table_column columns[] = {{"PRECISION", false},
                                           {"OF THE BASE'S BYTES", true},
                                           {"BYTES", true},
                                           {"RELATIVE ERROR", true},
                                           {"", false}};
    const json_t *curves = json_object_get(frontier, "precisions");
    const json_t *chosen = json_object_get(frontier, "chosen");
    size_t room = count_precision_points(curves);
    size_t count = 0;
    plot_point *points = memory_zeroed(room + 1, sizeof *points);
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    if (points == NULL || table == NULL) {
        free(points);
        table_free(table);
        return client_fail_memory(error);
    }
    for (size_t p = 0; p < PRECISION_COUNT; p++)
        count += add_precision(json_object_get(curves, precisions[p].name), precisions[p].name,
                               precisions[p].mark, points + count, table);
    count += add_bytes(chosen, record_text(chosen, "dtype"), 'O', points + count, table);
    if (count == 0) {
        free(points);
        table_free(table);
        return didi_fail(error, CLIENT_FAILURE, NULL, "the job has no figures by bytes");
    }
    if (isatty(STDOUT_FILENO) == 1) {
        plot_print(stdout, points, count,
                   "of the base's bytes (b: bf16, 8, 4, 3: integers, a: auto)", "relative error");
        putchar('\n');
    }
    free(points);
    return output_table(output, table, true, error);
}

static int run_frontier(const command_context *context, didi_error *error)
{
    json_t *frontier = NULL;
    int status = read_result(context, "/frontier", &frontier, error);
    if (status == CLIENT_OK) {
        bool bytes = arguments_has(context->arguments, OPTION_BYTES);
        status = output_format_wanted(context->output) != OUTPUT_TABLE
                     ? output_json(context->output, frontier, error)
                 : bytes ? print_bytes(context->output, frontier, error)
                         : print_frontier(context->output, frontier, error);
    }
    json_decref(frontier);
    return status;
}

static void add_cosine(client_table *table, const json_t *number)
{
    if (json_is_number(number))
        table_add(table, "%.3f", json_number_value(number));
    else
        table_add(table, "-");
}

/* A square of cosines, and what the shared part explains of each task. */
static int print_cosines(client_output *output, const json_t *tasks, const json_t *cosines,
                         const json_t *explained, didi_error *error)
{
    size_t count = json_array_size(tasks);
    size_t width = count + (explained != NULL ? 2 : 1);
    table_column *columns = memory_zeroed(width, sizeof *columns);
    if (columns == NULL)
        return client_fail_memory(error);
    columns[0] = (table_column){"TASK", false};
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(tasks, i));
        columns[i + 1] = (table_column){name != NULL ? name : "?", true};
    }
    if (explained != NULL)
        columns[count + 1] = (table_column){"BY SHARED", true};
    client_table *table = table_create(columns, width);
    free(columns);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(tasks, i));
        table_add(table, "%s", name != NULL ? name : "?");
        for (size_t j = 0; j < count; j++)
            add_cosine(table, json_array_get(json_array_get(cosines, i), j));
        if (explained != NULL)
            add_cosine(table, json_array_get(explained, i));
    }
    return output_table(output, table, true, error);
}

/* The layer named by --layer, or NULL after an error. */
static const json_t *find_layer(const json_t *similarity, const char *tensor, didi_error *error)
{
    const json_t *layers = json_object_get(similarity, "layers");
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        if (strcmp(record_text(layer, "tensor"), tensor) == 0)
            return layer;
    }
    (void)didi_fail(error, CLIENT_FAILURE, NULL, "no layer has the name '%s'", tensor);
    return NULL;
}

static int print_similarity(const command_context *context, const json_t *similarity,
                            didi_error *error)
{
    const char *tensor = arguments_value(context->arguments, OPTION_LAYER);
    const json_t *tasks = json_object_get(similarity, "tasks");
    if (tensor != NULL) {
        const json_t *layer = find_layer(similarity, tensor, error);
        return layer == NULL ? CLIENT_FAILURE
                             : print_cosines(context->output, tasks,
                                             json_object_get(layer, "cosine"), NULL, error);
    }
    if (json_array_size(tasks) == 0)
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server's similarity is malformed");
    return print_cosines(context->output, tasks, json_object_get(similarity, "cosine"),
                         json_object_get(similarity, "explained_by_shared"), error);
}

static int run_similarity(const command_context *context, didi_error *error)
{
    json_t *similarity = NULL;
    int status = read_result(context, "/similarity", &similarity, error);
    if (status == CLIENT_OK)
        status = output_format_wanted(context->output) == OUTPUT_TABLE
                     ? print_similarity(context, similarity, error)
                     : output_json(context->output, similarity, error);
    json_decref(similarity);
    return status;
}

static const option_row ranks_options[] = {
    {OPTION_ERRORS, 'e', "errors", NULL, "relative errors in place of the tasks' ranks"}};

static const option_row frontier_options[] = {
    {OPTION_BYTES, 0, "bytes", NULL, "error against bytes, for each precision"}};
static const option_row similarity_options[] = {
    {OPTION_LAYER, 0, "layer", "TENSOR", "of one layer in place of all together"}};

const client_command command_similarity = {
    .name = "similarity",
    .words = "JOB",
    .summary = "show which tasks share: cosines of their task vectors",
    .text = "BY SHARED is the share of a task's change that the shared part takes over alone.\n",
    .options = COMMAND_OPTIONS(similarity_options),
    .run = run_similarity,
};
const client_command command_ranks = {
    .name = "ranks",
    .words = "JOB",
    .summary = "show the ranks of a job: layers by shared and tasks",
    .options = COMMAND_OPTIONS(ranks_options),
    .run = run_ranks,
};
const client_command command_frontier = {
    .name = "frontier",
    .words = "JOB",
    .summary = "show error against budget, with a plot on a terminal",
    .text = "The curve is what the spectra alone promise; a job's own point is after refinement.\n",
    .options = COMMAND_OPTIONS(frontier_options),
    .run = run_frontier,
};
