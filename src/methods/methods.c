/* SPDX-License-Identifier: Apache-2.0 */
/* The only list of methods. */
#include "src/methods/methods.h"

#include "src/base/base.h"

#include <jansson.h>
#include <string.h>

/* clang-format off */
const didi_method *const didi_methods[] = {
    &didi_pursuit_method,
    &average_method,
    &task_arithmetic_method,
    &ties_method,
    &tsv_m_method,
    &iso_c_method,
    &iso_cts_method,
    &wudi_method,
    &dare_method,
    &pcb_method,
    &knots_method,
    &cat_method,
    &emr_method,
    &tall_ties_method,
    &mmer_method,
    &consensus_method,
    &bitdelta_method,
    &free_method,
    &tsv_c_method,
    &twin_method,
    &smile_method,
    &wemoe_method,
    &cart_method,
    &svd_lora_method,
    &individuals_method,
    &regmean_method,
    &fisher_method,
    &adamerging_method,
    NULL,
};
/* clang-format on */

int method_find(const char *name, const didi_method **ret_method, didi_error *error)
{
    char known[512] = "";
    char meant[NEAREST_TEXT_BYTES];
    nearest near = nearest_begin(name != NULL ? name : "");
    for (size_t i = 0; didi_methods[i] != NULL; i++) {
        const didi_method *method = didi_methods[i];
        bool named = name == NULL ? i == 0 : strcmp(method->name, name) == 0;
        if (named && method->needs != NULL)
            return didi_fail(error, DIDI_INVALID, "/method", "method '%s' needs %s", name,
                             method->needs);
        if (named) {
            *ret_method = method;
            return DIDI_OK;
        }
        nearest_try(&near, method->name);
        if (method->needs == NULL)
            text_list_add(known, sizeof known, "", method->name);
    }
    return didi_fail(error, DIDI_INVALID, "/method", "there is no method '%.100s'%s; there are %s",
                     name, nearest_text(&near, "'", "'", meant), known);
}

int method_check_fields(const didi_method *method, const didi_merge_options *options,
                        didi_error *error)
{
    int status = DIDI_OK;
    for (const method_option *f = method->fields; f != NULL && f->name != NULL; f++)
        if (status == DIDI_OK)
            status = method_check_number(f->name, method_option_value(f, options), f->lowest,
                                         f->above_lowest, f->highest, error);
    return status;
}

static json_t *option_json(const method_option *option, const char *prefix)
{
    static const char *const kinds[] = {[METHOD_NUMBER] = "number",
                                        [METHOD_INTEGER] = "integer",
                                        [METHOD_COUNT] = "integer",
                                        [METHOD_FLAG] = "boolean",
                                        [METHOD_WORD] = "string"};
    json_t *row = json_pack("{s:o,s:s,s:s}", "field", json_sprintf("%s%s", prefix, option->name),
                            "type", kinds[option->kind], "help", option->help);
    switch (option->kind) {
    case METHOD_FLAG:
        json_object_set_new(row, "default", json_boolean(option->standard != 0));
        return row;
    case METHOD_WORD: {
        json_t *words = json_array();
        for (size_t i = 0; option->words[i] != NULL; i++)
            json_array_append_new(words, json_string(option->words[i]));
        json_object_set_new(row, "enum", words);
        json_object_set_new(row, "default", json_string(option->words[(size_t)option->standard]));
        return row;
    }
    default:
        json_object_set_new(row, "default", json_real(option->standard));
        json_object_set_new(row, option->above_lowest ? "exclusive_minimum" : "minimum",
                            json_real(option->lowest));
        json_object_set_new(row, "maximum", json_real(option->highest));
        return row;
    }
}

static json_t *method_json(const didi_method *method)
{
    if (method->needs != NULL)
        return json_pack("{s:s,s:b,s:s}", "name", method->name, "usable", 0, "needs",
                         method->needs);
    json_t *options = json_array();
    for (const method_option *o = method->fields; o != NULL && o->name != NULL; o++)
        json_array_append_new(options, option_json(o, ""));
    for (const method_option *o = method->options; o != NULL && o->name != NULL; o++)
        json_array_append_new(options, option_json(o, "/method_options/"));
    return json_pack(
        "{s:s,s:b,s:s,s:b,s:b,s:b,s:b,s:b,s:o}", "name", method->name, "usable", 1, "summary",
        method->summary, "takes_budget", (method->flags & METHOD_TAKES_BUDGET) != 0, "takes_grams",
        (method->flags & METHOD_TAKES_GRAMS) != 0, "extends", (method->flags & METHOD_EXTENDS) != 0,
        "surveys", (method->flags & METHOD_SURVEYS) != 0, "reuses",
        (method->flags & METHOD_REUSES) != 0, "options", options);
}

char *didi_methods_json(void)
{
    json_t *rows = json_array();
    for (size_t i = 0; didi_methods[i] != NULL; i++)
        json_array_append_new(rows, method_json(didi_methods[i]));
    json_t *list = json_pack("{s:o}", "methods", rows);
    char *text = list != NULL ? json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(list);
    return text;
}
