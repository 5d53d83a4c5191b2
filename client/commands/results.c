/* SPDX-License-Identifier: Apache-2.0 */
/* ranks, frontier and similarity. */
#include "client/commands/command.h"

#include "client/commands/job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A column for each task, after those there are. */
static void add_task_columns(client_table *table, const json_t *tasks)
{
    for (size_t i = 0; i < json_array_size(tasks); i++)
        table_add_column(table, record_element(tasks, i), true);
}

/* A number's text, with its shade before it on a terminal. */
static void add_shaded(client_table *table, const char *text, double number, double greatest)
{
    const bool drawn = greatest > 0.0;
    table_add(table, "%s%s%s", drawn ? heat_shade(number, greatest) : "", drawn ? " " : "", text);
}

static void add_rank(client_table *table, const json_t *rank, bool dense, double greatest,
                     double *sum)
{
    char text[FORMAT_BYTES_MAX];
    if (dense) {
        table_add(table, "dense");
    } else if (json_is_integer(rank)) {
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(rank));
        add_shaded(table, text, json_number_value(rank), greatest);
        *sum += json_number_value(rank);
    } else {
        table_add(table, "-");
    }
}

/* What is shown of a layer in a task's column; NaN where there is nothing. */
static double number_of(const json_t *layer, size_t task, bool errors)
{
    const json_t *number =
        json_array_get(json_object_get(layer, errors ? "errors" : "experts"), task);
    const bool dense = json_is_true(json_array_get(json_object_get(layer, "dense"), task));
    return json_is_number(number) && (errors || !dense) ? json_number_value(number) : NAN;
}

static double shared_of(const json_t *layer)
{
    return record_number(layer, "shared");
}

/* Ranks, or with `errors` the relative error each task keeps in the layer. */
static void add_layer(client_table *table, const json_t *layer, size_t tasks, bool errors,
                      double greatest, double *sums)
{
    const json_t *experts = json_object_get(layer, "experts");
    const json_t *dense = json_object_get(layer, "dense");
    table_add(table, "%s", record_text(layer, "tensor"));
    add_rank(table, json_object_get(layer, "shared"), false, errors ? 0.0 : greatest, &sums[0]);
    for (size_t i = 0; i < tasks; i++) {
        char text[FORMAT_BYTES_MAX];
        const double number = number_of(layer, i, errors);
        if (errors)
            add_shaded(table, format_number(text, number, 4), number, greatest);
        else
            add_rank(table, json_array_get(experts, i), json_is_true(json_array_get(dense, i)),
                     greatest, &sums[i + 1]);
    }
}

static double greatest_of(const json_t *layers, size_t tasks, bool errors)
{
    double greatest = 0.0;
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        const double shared = errors ? 0.0 : shared_of(layer);
        greatest = shared > greatest ? shared : greatest;
        for (size_t task = 0; task < tasks; task++) {
            const double number = number_of(layer, task, errors);
            greatest = number > greatest ? number : greatest;
        }
    }
    return greatest;
}

/* Columns of a table of numbers under the tasks' names. */
static size_t table_columns(const json_t *tasks, size_t first, size_t cell)
{
    size_t columns = first;
    for (size_t i = 0; i < json_array_size(tasks); i++)
        columns += 2 + larger(cell, format_width(record_element(tasks, i)));
    return columns;
}

static size_t widest_layer(const json_t *layers)
{
    size_t widest = 0;
    for (size_t i = 0; i < json_array_size(layers); i++)
        widest = larger(widest, format_width(record_text(json_array_get(layers, i), "tensor")));
    return widest;
}

/* Layers by tasks as shades alone, where a table would not fit; with ranks the shared part first.
 */
static int draw_layers(const json_t *tasks, const json_t *layers, bool errors, didi_error *error)
{
    const size_t shared = errors ? 0 : 1;
    const size_t columns = json_array_size(tasks) + shared;
    const size_t rows = json_array_size(layers);
    const char **names = memory_zeroed(rows + columns + 1, sizeof *names);
    double *numbers = memory_zeroed(rows * columns + 1, sizeof *numbers);
    int status = names == NULL || numbers == NULL ? client_fail_memory(error) : CLIENT_OK;
    for (size_t i = 0; status == CLIENT_OK && i < columns; i++)
        names[rows + i] = i < shared ? "shared" : record_element(tasks, i - shared);
    for (size_t row = 0; status == CLIENT_OK && row < rows; row++) {
        const json_t *layer = json_array_get(layers, row);
        names[row] = record_text(layer, "tensor");
        for (size_t i = 0; i < columns; i++)
            numbers[row * columns + i] =
                i < shared ? shared_of(layer) : number_of(layer, i - shared, errors);
    }
    if (status == CLIENT_OK)
        heat_print(stdout, &(heat_map){names, rows, names + rows, columns, numbers});
    free(names);
    free(numbers);
    return status;
}

static int print_ranks(const command_context *context, const json_t *ranks, didi_error *error)
{
    static const table_column columns[] = {{"LAYER", false}, {"SHARED", true}};
    bool errors = arguments_has(context->arguments, OPTION_ERRORS);
    const json_t *tasks = json_object_get(ranks, "tasks");
    const json_t *layers = json_object_get(ranks, "layers");
    size_t task_count = json_array_size(tasks);
    if (!json_is_array(layers) || task_count == 0)
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server's ranks are malformed");
    const bool drawn = terminal_is(stdout);
    if (drawn &&
        table_columns(tasks, widest_layer(layers) + 8, errors ? 9 : 5) > terminal_columns(stdout))
        return draw_layers(tasks, layers, errors, error);
    const double greatest = drawn ? greatest_of(layers, task_count, errors) : 0.0;
    double *sums = memory_zeroed(task_count + 1, sizeof *sums);
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    if (sums == NULL) {
        table_free(table);
        return client_fail_memory(error);
    }
    add_task_columns(table, tasks);
    for (size_t i = 0; i < json_array_size(layers); i++)
        add_layer(table, json_array_get(layers, i), task_count, errors, greatest, sums);
    if (!errors) {
        table_add(table, "sum");
        for (size_t i = 0; i <= task_count; i++)
            table_add(table, "%.0f", sums[i]);
    }
    free(sums);
    return output_table(context->output, table, error);
}

static int run_ranks(const command_context *context, didi_error *error)
{
    json_t *ranks = NULL;
    int status = job_read_named(context, "/ranks", &ranks, error);
    if (status == CLIENT_OK && context->settings->format == OUTPUT_NAME) {
        json_t *layers = json_incref(json_object_get(ranks, "layers"));
        json_decref(ranks);
        return command_print(context, status, layers, "tensor", NULL, error);
    }
    return command_print(context, status, ranks, NULL, print_ranks, error);
}

/* Points for a plot, and the rows of a table that say the same. */
typedef struct curves {
    plot_point *points;
    size_t count;
    client_table *table;
} curves;

/* The point at (x_key, error) of a curve, or of this job (mark O); NULL where there is none. */
static const plot_point *add_point(curves *self, const json_t *row, const char *x_key, char mark)
{
    plot_point read = {
        .x = record_number(row, x_key), .y = record_number(row, "error"), .mark = mark};
    if (self->points == NULL || !isfinite(read.x) || !isfinite(read.y))
        return NULL;
    self->points[self->count] = read;
    return &self->points[self->count++];
}

/* Plots on a terminal, prints the table and frees both; `lack` is said of no points. */
static int print_curves(const command_context *context, curves *self, const char *x_label,
                        const char *lack, didi_error *error)
{
    int status = self->points == NULL ? client_fail_memory(error)
                 : self->count == 0   ? didi_fail(error, CLIENT_FAILURE, NULL, "%s", lack)
                                      : CLIENT_OK;
    if (status == CLIENT_OK) {
        status = output_table(context->output, self->table, error);
        self->table = NULL;
    }
    if (status == CLIENT_OK && terminal_is(stdout)) { /* last, to be seen without scrolling */
        putchar('\n');
        plot_print(stdout, self->points, self->count, x_label, "relative error");
    }
    table_free(self->table);
    free(self->points);
    return status;
}

static void add_parameters(curves *self, const json_t *row, char mark, const char *note)
{
    const plot_point *point = add_point(self, row, "budget", mark);
    if (point == NULL)
        return;
    table_add(self->table, "%.4f", point->x);
    table_add(self->table, "%.5f", point->y);
    table_add(self->table, "%s", note);
}

/* The letter by which a named budget is drawn. */
static char letter_of(const json_t *mark)
{
    const char letter = record_text(mark, "name")[0];
    return letter >= 'A' && letter <= 'Z' ? letter : '+';
}

static char *note_of(const json_t *mark, char note[FORMAT_BYTES_MAX])
{
    snprintf(note, FORMAT_BYTES_MAX, "budget %.8s", record_text(mark, "name"));
    return note;
}

/* Named budgets count what the job's precision makes them count: parameters, or bytes. */
static bool counts_bytes(const json_t *frontier)
{
    const json_t *mark = json_array_get(json_object_get(frontier, "marks"), 0);
    return mark != NULL && strcmp(record_text(mark, "unit"), "parameters") != 0;
}

static int print_parameters(const command_context *context, const json_t *frontier,
                            didi_error *error)
{
    static const table_column columns[] = {
        {"PARAMETERS", true}, {"RELATIVE ERROR", true}, {"", false}};
    const json_t *points = json_object_get(frontier, "points");
    const json_t *marks = json_object_get(frontier, "marks");
    const size_t room = json_array_size(points) + json_array_size(marks) + 1;
    curves self = {.points = memory_zeroed(room, sizeof *self.points),
                   .table = table_create(columns, sizeof columns / sizeof columns[0])};
    for (size_t i = 0; i < json_array_size(points); i++)
        add_parameters(&self, json_array_get(points, i), '*', "");
    for (size_t i = 0; i < json_array_size(marks); i++) {
        char note[FORMAT_BYTES_MAX];
        const json_t *mark = json_array_get(marks, i);
        add_parameters(&self, mark, letter_of(mark), note_of(mark, note));
    }
    add_parameters(&self, json_object_get(frontier, "chosen"), 'O', "this job");
    return print_curves(context, &self, "parameters, to one model (O: this job)",
                        "the server's frontier is malformed", error);
}

static const struct {
    const char *name;
    char mark;
} precisions[] = {{"f32", 'f'},  {"bf16", 'b'}, {"f16", 'h'}, {"int8", '8'},
                  {"int4", '4'}, {"int3", '3'}, {"auto", 'a'}};
enum { PRECISION_COUNT = sizeof precisions / sizeof precisions[0] };

static void add_bytes(curves *self, const json_t *row, const char *name, char mark,
                      const char *note)
{
    char bytes[FORMAT_BYTES_MAX];
    const plot_point *point = add_point(self, row, "bytes_ratio", mark);
    if (point == NULL)
        return;
    table_add(self->table, "%s", name);
    table_add(self->table, "%.4f", point->x);
    table_add(self->table, "%s", format_bytes(bytes, record_integer(row, "bytes")));
    table_add(self->table, "%.5f", point->y);
    table_add(self->table, "%s", note);
}

static void add_marks(curves *self, const json_t *frontier)
{
    const json_t *marks = json_object_get(frontier, "marks");
    const json_t *chosen = json_object_get(frontier, "chosen");
    for (size_t i = 0; i < json_array_size(marks); i++) {
        char note[FORMAT_BYTES_MAX];
        const json_t *mark = json_array_get(marks, i);
        add_bytes(self, mark, record_text(frontier, "dtype"), letter_of(mark), note_of(mark, note));
    }
    add_bytes(self, chosen, record_text(chosen, "dtype"), 'O', "this job");
}

static const table_column bytes_columns[] = {{"PRECISION", false},
                                             {"OF THE BASE'S BYTES", true},
                                             {"BYTES", true},
                                             {"RELATIVE ERROR", true},
                                             {"", false}};

/* Error against bytes by the job's own precision. */
static int print_curve(const command_context *context, const json_t *frontier, didi_error *error)
{
    const json_t *curve = json_object_get(frontier, "curve");
    const size_t room =
        1 + json_array_size(curve) + json_array_size(json_object_get(frontier, "marks"));
    curves self = {.points = memory_zeroed(room, sizeof *self.points),
                   .table =
                       table_create(bytes_columns, sizeof bytes_columns / sizeof bytes_columns[0])};
    for (size_t i = 0; i < json_array_size(curve); i++)
        add_bytes(&self, json_array_get(curve, i), record_text(frontier, "dtype"), '*', "");
    add_marks(&self, frontier);
    return print_curves(context, &self, "of the base's bytes (O: this job)",
                        "the server's frontier is malformed", error);
}

static int print_frontier(const command_context *context, const json_t *frontier, didi_error *error)
{
    return counts_bytes(frontier) ? print_curve(context, frontier, error)
                                  : print_parameters(context, frontier, error);
}

/* Error against bytes, a curve for each precision. */
static int print_bytes(const command_context *context, const json_t *frontier, didi_error *error)
{
    const json_t *precision = json_object_get(frontier, "precisions");
    size_t room = 1 + json_array_size(json_object_get(frontier, "marks"));
    for (size_t p = 0; p < PRECISION_COUNT; p++)
        room += json_array_size(json_object_get(precision, precisions[p].name));
    curves self = {.points = memory_zeroed(room, sizeof *self.points),
                   .table =
                       table_create(bytes_columns, sizeof bytes_columns / sizeof bytes_columns[0])};
    for (size_t p = 0; p < PRECISION_COUNT; p++) {
        const json_t *curve = json_object_get(precision, precisions[p].name);
        for (size_t i = 0; i < json_array_size(curve); i++)
            add_bytes(&self, json_array_get(curve, i), precisions[p].name, precisions[p].mark, "");
    }
    add_marks(&self, frontier);
    return print_curves(context, &self, "of the base's bytes (b: bf16, 8, 4, 3: integers, a: auto)",
                        "the job has no figures by bytes", error);
}

static int run_frontier(const command_context *context, didi_error *error)
{
    json_t *frontier = NULL;
    int status = job_read_named(context, "/frontier", &frontier, error);
    bool bytes = arguments_has(context->arguments, OPTION_BYTES);
    return command_print(context, status, frontier, NULL, bytes ? print_bytes : print_frontier,
                         error);
}

static void add_cosine(client_table *table, const json_t *number)
{
    char text[FORMAT_BYTES_MAX];
    if (!json_is_number(number)) {
        table_add(table, "-");
        return;
    }
    snprintf(text, sizeof text, "%.3f", json_number_value(number));
    add_shaded(table, text, json_number_value(number), terminal_is(stdout) ? 1.0 : 0.0);
}

static int draw_cosines(const json_t *tasks, const json_t *cosines, didi_error *error)
{
    const size_t count = json_array_size(tasks);
    const char **names = memory_zeroed(count + 1, sizeof *names);
    double *numbers = memory_zeroed(count * count + 1, sizeof *numbers);
    int status = names == NULL || numbers == NULL ? client_fail_memory(error) : CLIENT_OK;
    for (size_t i = 0; status == CLIENT_OK && i < count; i++) {
        names[i] = record_element(tasks, i);
        for (size_t j = 0; j < count; j++) {
            const json_t *number = json_array_get(json_array_get(cosines, i), j);
            /* A task is itself: that would leave no shade for the others. */
            numbers[i * count + j] =
                i != j && json_is_number(number) ? json_number_value(number) : NAN;
        }
    }
    if (status == CLIENT_OK)
        heat_print(stdout, &(heat_map){names, count, names, count, numbers});
    free(names);
    free(numbers);
    return status;
}

/* A square of cosines, and what the shared part explains of each task. */
static int print_cosines(client_output *output, const json_t *tasks, const json_t *cosines,
                         const json_t *explained, didi_error *error)
{
    static const table_column columns[] = {{"TASK", false}};
    size_t count = json_array_size(tasks);
    if (terminal_is(stdout) && table_columns(tasks, table_columns(tasks, 0, 0) / (count + 1) + 20,
                                             7) > terminal_columns(stdout))
        return draw_cosines(tasks, cosines, error);
    client_table *table = table_create(columns, 1);
    add_task_columns(table, tasks);
    if (explained != NULL)
        table_add_column(table, "BY SHARED", true);
    for (size_t i = 0; i < count; i++) {
        table_add(table, "%s", record_element(tasks, i));
        for (size_t j = 0; j < count; j++)
            add_cosine(table, json_array_get(json_array_get(cosines, i), j));
        if (explained != NULL)
            add_cosine(table, json_array_get(explained, i));
    }
    return output_table(output, table, error);
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
    int status = job_read_named(context, "/similarity", &similarity, error);
    return command_print(context, status, similarity, NULL, print_similarity, error);
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
