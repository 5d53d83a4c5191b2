/* SPDX-License-Identifier: Apache-2.0 */
/* Requests for bake-offs: read with all that was left out, and the jobs of their members. */
#include "proto/bakeoff_request.h"

#include "proto/field.h"
#include "proto/limits.h"
#include "proto/names.h"
#include "proto/specification.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN_METHOD SPECIFICATION_DEFAULT_METHOD
#define GRAM_METHOD "cat" /* takes the Gram matrices of tasks */

/* Members that jobs have too, and that are read as theirs. */
static const char *const job_keys[] = {"base", "tasks", "name", "labels", "priority"};
static const char *const own_keys[] = {"methods", "sizes", "split", "keep_artifacts"};
static const char *const method_keys[] = {"method", "method_options", "label"};
enum {
    JOB_KEYS = sizeof job_keys / sizeof job_keys[0],
    OWN_KEYS = sizeof own_keys / sizeof own_keys[0],
    METHOD_KEYS = sizeof method_keys / sizeof method_keys[0],
};

/* What is compared beside every method with its defaults: what else publications say, and what
 * helps where there are many tasks. Nothing here was tuned on what is measured. */
static const struct {
    const char *method, *options;
} variants[] = {
    {"ties", "{\"combine\":\"sum\",\"scale\":0.3}"},
    {"wudi", "{\"relative_rate\":0.02}"},
    {"emr", "{\"rescaler\":\"tensors\"}"},
    {"smile", "{\"rank\":16}"},
    {"svd_lora", "{\"rank\":16}"},
};

static int no_memory(didi_error *error)
{
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a bake-off");
}

static int check_keys(json_t *value, const char *pointer, const char *const *keys, size_t count,
                      didi_error *error)
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const char *key;
    json_t *member;
    json_object_foreach(value, key, member)
    {
        if (text_find(keys, count, key) < count)
            continue;
        field_pointer(child, pointer, key);
        return didi_fail(error, DIDI_INVALID, child, "unknown field \"%.100s\"", key);
    }
    return DIDI_OK;
}

/* ---- what jobs have too ---- */

/* Reads the members that jobs have by the table of jobs. */
static int read_job_part(json_t *document, json_t *request, didi_error *error)
{
    json_t *job = json_object();
    specification *read = NULL;
    char *text = NULL;
    int status = job != NULL ? DIDI_OK : no_memory(error);
    for (size_t i = 0; i < JOB_KEYS && status == DIDI_OK; i++)
        if (json_object_get(document, job_keys[i]) != NULL)
            json_object_set(job, job_keys[i], json_object_get(document, job_keys[i]));
    if (status == DIDI_OK)
        status = json_object_set_new(job, "survey", json_true()) == 0 ? DIDI_OK : no_memory(error);
    if (status == DIDI_OK)
        status = specification_read(job, 0, &read, error);
    if (status == DIDI_OK && read->task_count < 2)
        status = didi_fail(error, DIDI_INVALID, "/tasks",
                           "a bake-off compares merges of two tasks or more");
    if (status == DIDI_OK)
        status = specification_render(read, &text, error);
    json_t *whole = status == DIDI_OK ? json_load_own(text) : NULL;
    for (size_t i = 0; i < JOB_KEYS && status == DIDI_OK; i++) {
        json_t *value = json_object_get(whole, job_keys[i]);
        if (json_object_set(request, job_keys[i], value) != 0)
            status = no_memory(error);
    }
    json_decref(whole);
    json_decref(job);
    free(text);
    specification_free(read);
    return status;
}

/* ---- methods ---- */

/* "ties, combine sum, scale 0.3". */
static json_t *label_made(const char *method, const json_t *options)
{
    char text[4 * LIMIT_JOB_NAME_CHARACTERS];
    char label[LIMIT_JOB_NAME_CHARACTERS + 1];
    const char *key;
    json_t *value;
    (void)snprintf(text, sizeof text, "%s", method);
    json_object_foreach((json_t *)options, key, value)
    {
        char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used, ", %s %s", key,
                       json_is_string(value) ? json_string_value(value)
                       : shown != NULL       ? shown
                                             : "?");
        free(shown);
    }
    text_copy_printable(label, sizeof label, text);
    return json_string(label);
}

static json_t *method_made(const char *method, json_t *options, json_t *label)
{
    return json_pack("{s:s, s:o, s:o}", "method", method, "method_options", options, "label",
                     label != NULL ? label : label_made(method, options));
}

static int read_method(json_t *value, const char *pointer, json_t *methods, didi_error *error)
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const bool alone = json_is_string(value);
    if (!alone && !json_is_object(value))
        return field_fail_type("a method", "a string or an object", value, pointer, error);
    const json_t *name = alone ? value : json_object_get(value, "method");
    json_t *options = alone ? NULL : json_object_get(value, "method_options");
    json_t *label = alone ? NULL : json_object_get(value, "label");
    int status = alone ? DIDI_OK : check_keys(value, pointer, method_keys, METHOD_KEYS, error);
    if (status != DIDI_OK)
        return status;
    field_pointer(child, pointer, "label");
    if (label != NULL && (!json_is_string(label) || json_string_length(label) == 0 ||
                          !name_is_plain_text(json_string_value(label), LIMIT_JOB_NAME_CHARACTERS)))
        return didi_fail(error, DIDI_INVALID, child,
                         "label must be 1 to 128 characters, none of them control characters");
    field_pointer(child, pointer, "method_options");
    if (options != NULL && !json_is_object(options))
        return field_fail_type("method_options", "an object", options, child, error);
    field_pointer(child, pointer, "method");
    if (!json_is_string(name))
        return didi_fail(error, DIDI_INVALID, alone ? pointer : child,
                         "method must be the name of a method");
    if (strcmp(json_string_value(name), OWN_METHOD) == 0)
        return didi_fail(error, DIDI_INVALID, alone ? pointer : child,
                         OWN_METHOD " is measured at the sizes of the others; leave it out");
    json_t *made =
        method_made(json_string_value(name), options != NULL ? json_incref(options) : json_object(),
                    label != NULL ? json_incref(label) : NULL);
    return json_array_append_new(methods, made) == 0 ? DIDI_OK : no_memory(error);
}

static int check_labels(const json_t *methods, didi_error *error)
{
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    for (size_t i = 0; i < json_array_size(methods); i++)
        for (size_t j = 0; j < i; j++) {
            const json_t *label = json_object_get(json_array_get(methods, i), "label");
            if (!json_equal(label, json_object_get(json_array_get(methods, j), "label")))
                continue;
            field_pointer_index(pointer, "/methods", i);
            return didi_fail(error, DIDI_INVALID, pointer,
                             "\"%.128s\" is there already; give one of the two another label",
                             json_string_value(label));
        }
    return DIDI_OK;
}

static int read_methods(const json_t *value, json_t *methods, didi_error *error)
{
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    int status = DIDI_OK;
    if (!json_is_array(value))
        return field_fail_type("methods", "an array", value, "/methods", error);
    if (json_array_size(value) == 0 || json_array_size(value) > LIMIT_BAKEOFF_METHODS)
        return didi_fail(error, DIDI_INVALID, "/methods", "%zu methods; it must be 1 to %d",
                         json_array_size(value), LIMIT_BAKEOFF_METHODS);
    for (size_t i = 0; i < json_array_size(value) && status == DIDI_OK; i++) {
        field_pointer_index(pointer, "/methods", i);
        status = read_method(json_array_get(value, i), pointer, methods, error);
    }
    return status == DIDI_OK ? check_labels(methods, error) : status;
}

/* Each method that there is, and after it what else is said of it. */
static int all_methods(const json_t *known, json_t *methods, didi_error *error)
{
    json_t *row;
    size_t index;
    json_array_foreach(known, index, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        bool usable = json_is_true(json_object_get(row, "usable"));
        if (strcmp(name, OWN_METHOD) == 0)
            continue;
        if (json_array_append_new(methods, method_made(name, json_object(), NULL)) != 0)
            return no_memory(error);
        for (size_t i = 0; usable && i < sizeof variants / sizeof variants[0]; i++)
            if (strcmp(variants[i].method, name) == 0 &&
                json_array_append_new(
                    methods, method_made(name, json_load_own(variants[i].options), NULL)) != 0)
                return no_memory(error);
    }
    return DIDI_OK;
}

/* ---- the others ---- */

static int check_sizes(const json_t *sizes, didi_error *error)
{
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    if (sizes == NULL || json_is_null(sizes))
        return DIDI_OK;
    if (!json_is_array(sizes))
        return field_fail_type("sizes", "an array", sizes, "/sizes", error);
    if (json_array_size(sizes) == 0 || json_array_size(sizes) > LIMIT_BAKEOFF_SIZES)
        return didi_fail(error, DIDI_INVALID, "/sizes", "%zu sizes; it must be 1 to %d",
                         json_array_size(sizes), LIMIT_BAKEOFF_SIZES);
    for (size_t i = 0; i < json_array_size(sizes); i++) {
        const json_t *size = json_array_get(sizes, i);
        const double value = json_number_value(size);
        if (json_is_number(size) && value > 0 && value <= LIMIT_BUDGET)
            continue;
        field_pointer_index(pointer, "/sizes", i);
        return didi_fail(error, DIDI_INVALID, pointer,
                         "a size is a number above 0 and at most %g, in models of 16 bits",
                         LIMIT_BUDGET);
    }
    return DIDI_OK;
}

static int read_rest(const json_t *document, json_t *request, didi_error *error)
{
    json_t *sizes = json_object_get(document, "sizes");
    json_t *split = json_object_get(document, "split");
    json_t *keep = json_object_get(document, "keep_artifacts");
    const char *name = json_string_value(split);
    int status = check_sizes(sizes, error);
    if (status != DIDI_OK)
        return status;
    if (split != NULL && !json_is_null(split) && (name == NULL || !name_is_task(name)))
        return didi_fail(error, DIDI_INVALID, "/split",
                         "split must be 1 to 128 of A-Z, a-z, 0-9, '.', '_', '-', no '.' first");
    if (keep != NULL && !json_is_boolean(keep))
        return field_fail_type("keep_artifacts", "true or false", keep, "/keep_artifacts", error);
    if (json_object_set_new(request, "sizes", sizes != NULL ? json_incref(sizes) : json_null()) ||
        json_object_set_new(request, "split", split != NULL ? json_incref(split) : json_null()) ||
        json_object_set_new(request, "keep_artifacts", json_boolean(json_is_true(keep))))
        return no_memory(error);
    return DIDI_OK;
}

int bakeoff_request_read(json_t *document, const json_t *known, json_t **ret_request,
                         didi_error *error)
{
    const char *keys[JOB_KEYS + OWN_KEYS];
    json_t *request = json_object();
    json_t *methods = json_array();
    memcpy(keys, job_keys, sizeof job_keys);
    memcpy(keys + JOB_KEYS, own_keys, sizeof own_keys);
    int status = request != NULL && methods != NULL ? DIDI_OK : no_memory(error);
    if (status == DIDI_OK && !json_is_object(document))
        status = field_fail_type("a bake-off", "an object", document, "", error);
    if (status == DIDI_OK)
        status = check_keys(document, "", keys, JOB_KEYS + OWN_KEYS, error);
    if (status == DIDI_OK)
        status = read_job_part(document, request, error);
    const json_t *named = json_object_get(document, "methods");
    if (status == DIDI_OK)
        status = named != NULL ? read_methods(named, methods, error)
                               : all_methods(known, methods, error);
    if (status == DIDI_OK && json_object_set(request, "methods", methods) != 0)
        status = no_memory(error);
    if (status == DIDI_OK)
        status = read_rest(document, request, error);
    json_decref(methods);
    if (status != DIDI_OK)
        json_decref(request);
    else
        *ret_request = request;
    return status;
}

/* ---- jobs ---- */

/* Gram matrices are refused by the methods that do not take them. */
static void forget_grams(json_t *job)
{
    json_t *tasks = json_deep_copy(json_object_get(job, "tasks"));
    json_t *task;
    size_t index;
    json_array_foreach(tasks, index, task)
    {
        (void)json_object_del(task, "gram");
    }
    json_object_set_new(job, "tasks", tasks);
}

/* Takes `own`. */
static json_t *job_of(const json_t *request, const char *label, json_t *own)
{
    for (size_t i = 0; own != NULL && i < JOB_KEYS; i++)
        if (strcmp(job_keys[i], "name") != 0)
            json_object_set(own, job_keys[i], json_object_get(request, job_keys[i]));
    if (own != NULL)
        json_object_set_new(own, "name", json_string(label));
    const char *method = json_string_value(json_object_get(own, "method"));
    if (own != NULL && (method == NULL || strcmp(method, GRAM_METHOD) != 0))
        forget_grams(own);
    return own;
}

json_t *bakeoff_request_method(const json_t *request, const char *label, const char *method,
                               const json_t *options)
{
    json_t *own = json_pack("{s:s}", "method", method);
    if (own != NULL && json_object_size(options) > 0)
        json_object_set_new(own, "method_options", json_deep_copy(options));
    return job_of(request, label, own);
}

json_t *bakeoff_request_survey(const json_t *request)
{
    return job_of(request, OWN_METHOD ", survey", json_pack("{s:b}", "survey", 1));
}

json_t *bakeoff_request_size(const json_t *request, const char *label, uint64_t bytes,
                             const char *from_job)
{
    return job_of(request, label,
                  json_pack("{s:{s:I}, s:{s:s}, s:s*}", "budget", "bytes", (json_int_t)bytes,
                            "output", "dtype", "auto", "from_job", from_job));
}
