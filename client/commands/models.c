/* SPDX-License-Identifier: Apache-2.0 */
/* model ls, model show, model rescan; methods. */
#include "client/commands/advise.h"
#include "client/commands/command.h"

#include "proto/proto.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MODEL_LIST_ITEMS = 10000 };

static int print_list(const command_context *context, const json_t *models, didi_error *error)
{
    static const table_column columns[] = {
        {"NAME", false},      {"KIND", false}, {"STATE", false},   {"TENSORS", true},
        {"PARAMETERS", true}, {"SIZE", true},  {"UPDATED", false}, {"REASON", false}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(models); i++) {
        const json_t *model = json_array_get(models, i);
        char text[FORMAT_BYTES_MAX];
        table_add(table, "%s", record_text(model, "name"));
        table_add(table, "%s", record_text(model, "kind"));
        table_add(table, "%s", record_text(model, "state"));
        table_add(table, "%lld", (long long)record_integer(model, "tensor_count"));
        table_add(table, "%s", format_count(text, record_number(model, "parameters")));
        table_add(table, "%s", format_bytes(text, record_integer(model, "bytes")));
        table_add(table, "%s", format_age(text, record_text(model, "updated_at")));
        table_add(table, "%s", record_text(model, "reason"));
    }
    return output_table(context->output, table, error);
}

static int run_list(const command_context *context, didi_error *error)
{
    const char *state = arguments_value(context->arguments, OPTION_STATE);
    if (state != NULL && !record_is_word(state, 32, "_"))
        return didi_fail(error, CLIENT_USAGE, "--state", "ready or broken");
    char *target =
        memory_format("/v1/models%s%s", state != NULL ? "?state=" : "", state != NULL ? state : "");
    if (target == NULL)
        return client_fail_memory(error);
    json_t *models = NULL;
    bool more = false;
    int status = service_list(context->service, target, MODEL_LIST_ITEMS, &models, &more, error);
    free(target);
    status = command_print(context, status, models, "name", print_list, error);
    if (more)
        output_note(context->output, "only the first %d models are shown", MODEL_LIST_ITEMS);
    return status;
}

/* "64 x 3 x 7" */
static void add_shape(client_table *table, const json_t *shape)
{
    char text[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(shape) && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%lld", i > 0 ? " x " : "",
                                 (long long)json_integer_value(json_array_get(shape, i)));
    table_add(table, "%s", text);
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
    int status = output_table(context->output, facts, error);
    const json_t *tensors = json_object_get(model, "tensors");
    if (status != CLIENT_OK || json_array_size(tensors) == 0)
        return status;
    client_table *table = table_create(tensor_columns, 3);
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *tensor = json_array_get(tensors, i);
        table_add(table, "%s", record_text(tensor, "name"));
        table_add(table, "%s", record_text(tensor, "dtype"));
        add_shape(table, json_object_get(tensor, "shape"));
    }
    putchar('\n');
    return output_table(context->output, table, error);
}

static int run_show(const command_context *context, didi_error *error)
{
    const char *name = arguments_word(context->arguments, 0);
    if (!name_is_model(name))
        return didi_fail(error, CLIENT_USAGE, name, "this is not the name of a model");
    json_t *model = NULL;
    int status = service_get(context->service, 0, &model, error, "/v1/models/%s", name);
    if (status == CLIENT_FAILURE)
        advise_model(context, NULL, name, error);
    return command_print(context, status, model, "name", print_model, error);
}

static int print_counts(const command_context *context, const json_t *found, didi_error *error)
{
    (void)context;
    (void)error;
    printf("%lld ready, %lld broken\n", (long long)record_integer(found, "ready"),
           (long long)record_integer(found, "broken"));
    return CLIENT_OK;
}

static int run_rescan(const command_context *context, didi_error *error)
{
    json_t *found = NULL;
    int status =
        service_send(context->service, "POST", "/v1/models/rescan", NULL, NULL, &found, error);
    return command_print(context, status, found, NULL, print_counts, error);
}

/* "above 0 to 10", "0 to 1", "als, adam". */
static void add_range(client_table *table, const json_t *option)
{
    const json_t *words = json_object_get(option, "enum");
    double low = record_number(option, "minimum");
    double above = record_number(option, "exclusive_minimum");
    char text[512] = "";
    for (size_t i = 0; i < json_array_size(words); i++)
        text_list_add(text, sizeof text, "", record_element(words, i));
    if (isfinite(low) || isfinite(above))
        table_add(table, "%s%g to %g", isfinite(above) ? "above " : "",
                  isfinite(above) ? above : low, record_number(option, "maximum"));
    else
        table_add(table, "%s", text);
}

static void add_default(client_table *table, const json_t *value)
{
    if (json_is_string(value))
        table_add(table, "%s", json_string_value(value));
    else if (json_is_boolean(value))
        table_add(table, "%s", json_is_true(value) ? "true" : "false");
    else
        table_add(table, "%g", json_number_value(value));
}

static void add_option(client_table *table, const char *method, const json_t *option)
{
    table_add(table, "%s", method);
    table_add(table, "%s", record_text(option, "field"));
    add_default(table, json_object_get(option, "default"));
    add_range(table, option);
    table_add(table, "%s", record_text(option, "help"));
}

/* A server that is older than a member does not tell. */
static void add_whether(client_table *table, const json_t *method, const char *key)
{
    const json_t *told = json_object_get(method, key);
    table_add(table, "%s", !json_is_boolean(told) ? "-" : json_is_true(told) ? "yes" : "no");
}

static int print_methods(const command_context *context, const json_t *found, didi_error *error)
{
    static const table_column columns[] = {
        {"METHOD", false}, {"BUDGET", false}, {"GRAMS", false}, {"WHAT", false}};
    static const table_column option_columns[] = {{"METHOD", false},
                                                  {"FIELD", false},
                                                  {"DEFAULT", false},
                                                  {"VALUES", false},
                                                  {"WHAT", false}};
    client_table *table = table_create(columns, 4);
    client_table *options = table_create(option_columns, 5);
    size_t index;
    json_t *method;
    json_array_foreach(json_object_get(found, "methods"), index, method)
    {
        bool usable = record_true(method, "usable");
        table_add(table, "%s", record_text(method, "name"));
        add_whether(table, method, "takes_budget");
        add_whether(table, method, "takes_grams");
        table_add(table, "%s%s", usable ? "" : "cannot be used here: it needs ",
                  record_text(method, usable ? "summary" : "needs"));
        const json_t *rows = json_object_get(method, "options");
        for (size_t i = 0; i < json_array_size(rows); i++)
            add_option(options, record_text(method, "name"), json_array_get(rows, i));
    }
    int status = output_table(context->output, table, error);
    putchar('\n');
    int more = output_table(context->output, options, status == CLIENT_OK ? error : NULL);
    return status == CLIENT_OK ? more : status;
}

static int run_methods(const command_context *context, didi_error *error)
{
    json_t *found = NULL;
    int status = service_get(context->service, 0, &found, error, "/v1/methods");
    return command_print(context, status, found, NULL, print_methods, error);
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
