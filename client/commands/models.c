/* SPDX-License-Identifier: Apache-2.0 */
/* model ls, model show, model rescan; methods. */
#include "client/commands/command.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MODEL_NAME_BYTES_MAX = 255, MODEL_LIST_ITEMS = 10000 };

static int run_list(const command_context *context, didi_error *error)
{
    static const table_column columns[] = {
        {"NAME", false}, {"STATE", false},   {"TENSORS", true}, {"PARAMETERS", true},
        {"SIZE", true},  {"UPDATED", false}, {"REASON", false}};
    const char *state = arguments_value(context->arguments, OPTION_STATE);
    if (state != NULL && !record_is_word(state, 32, "_"))
        return didi_fail(error, CLIENT_USAGE, "--state", "ready or broken");
    char *target =
        memory_format("/v1/models%s%s", state != NULL ? "?state=" : "", state != NULL ? state : "");
    if (target == NULL)
        return client_fail_memory(error);
    json_t *models = NULL;
    bool more = false;
    bool done = false;
    int status = service_list(context->service, target, MODEL_LIST_ITEMS, &models, &more, error);
    free(target);
    if (status != CLIENT_OK)
        return status;
    status = output_records(context->output, models, "name", &done, error);
    if (status == CLIENT_OK && !done) {
        client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
        for (size_t i = 0; i < json_array_size(models); i++) {
            const json_t *model = json_array_get(models, i);
            char text[FORMAT_BYTES_MAX];
            table_add(table, "%s", record_text(model, "name"));
            table_add(table, "%s", record_text(model, "state"));
            table_add(table, "%lld", (long long)record_integer(model, "tensor_count"));
            table_add(table, "%s", format_count(text, record_number(model, "parameters")));
            table_add(table, "%s", format_bytes(text, record_integer(model, "bytes")));
            table_add(table, "%s", format_age(text, record_text(model, "updated_at")));
            table_add(table, "%s", record_text(model, "reason"));
        }
        status = output_table(context->output, table, true, error);
    }
    if (more)
        output_note(context->output, "only the first %d models are shown", MODEL_LIST_ITEMS);
    json_decref(models);
    return status;
}

static char *shape_text(const json_t *shape)
{
    char *text = memory_string("");
    for (size_t i = 0; text != NULL && i < json_array_size(shape); i++) {
        char *longer = memory_format("%s%s%lld", text, i > 0 ? " x " : "",
                                     (long long)json_integer_value(json_array_get(shape, i)));
        free(text);
        text = longer;
    }
    return text;
}

static int print_model(const command_context *context, const json_t *model, didi_error *error)
{
    static const table_column tensor_columns[] = {
        {"TENSOR", false}, {"DTYPE", false}, {"SHAPE", false}};
    char text[FORMAT_BYTES_MAX];
    client_table *facts = table_create_facts();
    table_add_fact(facts, "name", record_text(model, "name"));
    table_add_fact(facts, "state", record_text(model, "state"));
    table_add_fact(facts, "reason", record_text(model, "reason"));
    table_add_fact(facts, "parameters", format_count(text, record_number(model, "parameters")));
    table_add_fact(facts, "size", format_bytes(text, record_integer(model, "bytes")));
    table_add_fact(facts, "revision", record_text(model, "revision"));
    table_add_fact(facts, "updated", record_text(model, "updated_at"));
    int status = output_table(context->output, facts, false, error);
    const json_t *tensors = json_object_get(model, "tensors");
    if (status != CLIENT_OK || json_array_size(tensors) == 0)
        return status;
    client_table *table = table_create(tensor_columns, 3);
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *tensor = json_array_get(tensors, i);
        char *shape = shape_text(json_object_get(tensor, "shape"));
        table_add(table, "%s", record_text(tensor, "name"));
        table_add(table, "%s", record_text(tensor, "dtype"));
        table_add(table, "%s", shape != NULL ? shape : "");
        free(shape);
    }
    putchar('\n');
    return output_table(context->output, table, true, error);
}

static int run_show(const command_context *context, didi_error *error)
{
    const char *name = arguments_word(context->arguments, 0);
    if (!record_is_word(name, MODEL_NAME_BYTES_MAX, "._-/") || name[0] == '/' ||
        strstr(name, "//") != NULL || name[0] == '.' || strstr(name, "/.") != NULL)
        return didi_fail(error, CLIENT_USAGE, name, "this is not the name of a model");
    json_t *model = NULL;
    bool done = false;
    int status = service_get(context->service, 0, &model, error, "/v1/models/%s", name);
    if (status == CLIENT_OK)
        status = output_records(context->output, model, "name", &done, error);
    if (status == CLIENT_OK && !done)
        status = print_model(context, model, error);
    json_decref(model);
    return status;
}

static int run_rescan(const command_context *context, didi_error *error)
{
    json_t *found = NULL;
    int status =
        service_send(context->service, "POST", "/v1/models/rescan", NULL, NULL, &found, error);
    if (status == CLIENT_OK && output_format_wanted(context->output) == OUTPUT_TABLE) {
        printf("%lld ready, %lld broken\n", (long long)record_integer(found, "ready"),
               (long long)record_integer(found, "broken"));
    } else if (status == CLIENT_OK) {
        status = output_json(context->output, found, error);
    }
    json_decref(found);
    return status;
}

/* "above 0 to 10", "0 to 1", "als, adam". */
static char *range_text(const json_t *option)
{
    const json_t *words = json_object_get(option, "enum");
    double low = record_number(option, "minimum");
    double above = record_number(option, "exclusive_minimum");
    char *text = memory_string("");
    if (isfinite(above))
        low = above;
    for (size_t i = 0; text != NULL && i < json_array_size(words); i++) {
        char *longer = memory_format("%s%s%s", text, i > 0 ? ", " : "",
                                     json_string_value(json_array_get(words, i)));
        free(text);
        text = longer;
    }
    if (text != NULL && isfinite(low)) {
        free(text);
        text = memory_format("%s%g to %g", isfinite(above) ? "above " : "", low,
                             record_number(option, "maximum"));
    }
    return text;
}

static char *default_text(const json_t *option)
{
    const json_t *value = json_object_get(option, "default");
    if (json_is_string(value))
        return memory_string(json_string_value(value));
    return json_is_boolean(value) ? memory_string(json_is_true(value) ? "true" : "false")
                                  : memory_format("%g", json_number_value(value));
}

static void add_option(client_table *table, const char *method, const json_t *option)
{
    char *standard = default_text(option);
    char *range = range_text(option);
    table_add(table, "%s", method);
    table_add(table, "%s", record_text(option, "field"));
    table_add(table, "%s", standard != NULL ? standard : "");
    table_add(table, "%s", range != NULL ? range : "");
    table_add(table, "%s", record_text(option, "help"));
    free(standard);
    free(range);
}

static int print_methods(const command_context *context, const json_t *methods, didi_error *error)
{
    static const table_column columns[] = {{"METHOD", false}, {"BUDGET", false}, {"WHAT", false}};
    static const table_column option_columns[] = {{"METHOD", false},
                                                  {"FIELD", false},
                                                  {"DEFAULT", false},
                                                  {"VALUES", false},
                                                  {"WHAT", false}};
    client_table *table = table_create(columns, 3);
    client_table *options = table_create(option_columns, 5);
    size_t index;
    json_t *method;
    json_array_foreach(methods, index, method)
    {
        bool usable = json_is_true(json_object_get(method, "usable"));
        bool takes = json_is_true(json_object_get(method, "takes_budget"));
        table_add(table, "%s", record_text(method, "name"));
        table_add(table, "%s", usable ? takes ? "yes" : "no" : "-");
        table_add(table, "%s%s", usable ? "" : "cannot be used here: it needs ",
                  record_text(method, usable ? "summary" : "needs"));
        const json_t *rows = json_object_get(method, "options");
        for (size_t i = 0; i < json_array_size(rows); i++)
            add_option(options, record_text(method, "name"), json_array_get(rows, i));
    }
    int status = output_table(context->output, table, true, error);
    putchar('\n');
    int more = output_table(context->output, options, true, status == CLIENT_OK ? error : NULL);
    return status == CLIENT_OK ? more : status;
}

static int run_methods(const command_context *context, didi_error *error)
{
    json_t *found = NULL;
    int status = service_get(context->service, 0, &found, error, "/v1/methods");
    if (status == CLIENT_OK && output_format_wanted(context->output) == OUTPUT_TABLE)
        status = print_methods(context, json_object_get(found, "methods"), error);
    else if (status == CLIENT_OK)
        status = output_json(context->output, found, error);
    json_decref(found);
    return status;
}

static const option_row list_options[] = {
    {OPTION_STATE, 0, "state", "STATE", "only models that are ready, or broken"}};

const client_command command_model_list = {
    .name = "model ls",
    .words = "",
    .summary = "list the models the server knows",
    .options = COMMAND_OPTIONS(list_options),
    .run = run_list,
};
const client_command command_model_show = {
    .name = "model show",
    .words = "MODEL",
    .summary = "show one model and its tensors",
    .run = run_show,
};
const client_command command_model_rescan = {
    .name = "model rescan",
    .words = "",
    .summary = "make the server look for models again",
    .run = run_rescan,
};
const client_command command_methods = {
    .name = "methods",
    .words = "",
    .summary = "list the merging methods and their options",
    .run = run_methods,
};
