/* SPDX-License-Identifier: Apache-2.0 */
/* A job specification put together from a file and from options. */
#include "client/commands/draft.h"

#include "client/commands/command.h"
#include "proto/proto.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_text(FILE *file, const char *name, char **ret_text, size_t *ret_bytes,
                     didi_error *error)
{
    size_t bytes = 0;
    size_t room = 0;
    char *text = NULL;
    for (;;) {
        if (bytes == room) {
            room = room == 0 ? 65536 : 2 * room;
            char *longer = realloc(text, room);
            if (longer == NULL) {
                free(text);
                return client_fail_memory(error);
            }
            text = longer;
        }
        size_t count = fread(text + bytes, 1, room - bytes, file);
        bytes += count;
        if (count == 0 || bytes > DRAFT_FILE_BYTES_MAX)
            break;
    }
    if (ferror(file) || bytes > DRAFT_FILE_BYTES_MAX) {
        int failed = ferror(file);
        free(text);
        return failed
                   ? didi_fail(error, CLIENT_FAILURE, name, "cannot be read: %s", strerror(errno))
                   : didi_fail(error, CLIENT_FAILURE, name, "longer than %d bytes",
                               DRAFT_FILE_BYTES_MAX);
    }
    *ret_text = text;
    *ret_bytes = bytes;
    return CLIENT_OK;
}

static int read_file(const char *path, json_t **ret_specification, didi_error *error)
{
    bool from_stdin = strcmp(path, "-") == 0;
    const char *name = from_stdin ? "stdin" : path;
    FILE *file = from_stdin ? stdin : fopen(path, "re");
    if (file == NULL)
        return didi_fail(error, CLIENT_FAILURE, name, "%s", strerror(errno));
    char *text = NULL;
    size_t bytes = 0;
    int status = read_text(file, name, &text, &bytes, error);
    if (!from_stdin)
        fclose(file);
    if (status != CLIENT_OK)
        return status;
    json_error_t place;
    json_t *document = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &place);
    free(text);
    if (document == NULL)
        return didi_fail(error, CLIENT_FAILURE, name, "line %d, column %d: %s", place.line,
                         place.column, place.text);
    if (!json_is_object(document)) {
        json_decref(document);
        return didi_fail(error, CLIENT_FAILURE, name, "a specification is a JSON object");
    }
    *ret_specification = document;
    return CLIENT_OK;
}

/* Splits "left=right" at the first '='; the left must not be empty. */
static int split(const char *text, const char *option, char **ret_left, const char **ret_right,
                 didi_error *error)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text)
        return didi_fail(error, CLIENT_USAGE, option, "'%s' has no form NAME=VALUE", text);
    char *left = strndup(text, (size_t)(equals - text));
    if (left == NULL)
        return client_fail_memory(error);
    *ret_left = left;
    *ret_right = equals + 1;
    return CLIENT_OK;
}

/* The member `key`, made by `make` if the object lacks it; NULL when it is of another type. */
static json_t *member(json_t *object, const char *key, json_type type)
{
    json_t *value = json_object_get(object, key);
    if (value == NULL) {
        value = type == JSON_ARRAY ? json_array() : json_object();
        if (json_object_set_new(object, key, value) != 0)
            return NULL;
    }
    return json_typeof(value) == type ? value : NULL;
}

/* Of the option `id`, called `flag`. */
static int add_tasks(json_t *document, const client_arguments *arguments, int id, const char *flag,
                     didi_error *error)
{
    size_t cursor = 0;
    for (const char *text; (text = arguments_each(arguments, id, &cursor)) != NULL;) {
        char *name = NULL;
        const char *model = NULL;
        int status = split(text, flag, &name, &model, error);
        if (status != CLIENT_OK)
            return status;
        json_t *tasks = member(document, "tasks", JSON_ARRAY);
        json_t *task = json_pack("{s:s, s:s}", "name", name, "model", model);
        free(name);
        if (task == NULL)
            return didi_fail(error, CLIENT_USAGE, flag, "'%s' is not UTF-8", text);
        if (tasks == NULL || json_array_append_new(tasks, task) != 0)
            return didi_fail(error, CLIENT_USAGE, flag, "the file's tasks are not a list");
    }
    return CLIENT_OK;
}

static int add_labels(json_t *document, const client_arguments *arguments, didi_error *error)
{
    size_t cursor = 0;
    for (const char *text; (text = arguments_each(arguments, OPTION_LABEL, &cursor)) != NULL;) {
        char *key = NULL;
        const char *value = NULL;
        int status = split(text, "--label", &key, &value, error);
        if (status != CLIENT_OK)
            return status;
        json_t *labels = member(document, "labels", JSON_OBJECT);
        int failed = labels == NULL || json_object_set_new(labels, key, json_string(value)) != 0;
        free(key);
        if (failed)
            return didi_fail(error, CLIENT_USAGE, "--label", "'%s' cannot be set", text);
    }
    return CLIENT_OK;
}

/* JSON where it reads as JSON, else a string: 1.24, true, ["a"], S. */
static json_t *value_of(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    return value != NULL ? value : json_string(text);
}

/* Where the next step of a path leads, making objects on the way; NULL when it cannot go on. */
static json_t *descend(json_t *node, const char *step)
{
    if (json_is_array(node)) {
        char *end = NULL;
        unsigned long index = strtoul(step, &end, 10);
        return *step >= '0' && *step <= '9' && *end == '\0' ? json_array_get(node, index) : NULL;
    }
    json_t *next = json_object_get(node, step);
    if (next == NULL && json_is_object(node)) {
        next = json_object();
        if (json_object_set_new(node, step, next) != 0)
            return NULL;
    }
    return json_is_object(next) || json_is_array(next) ? next : NULL;
}

static int set_path(json_t *document, char *path, const char *text, didi_error *error)
{
    json_t *node = document;
    char *step = path;
    for (int depth = 0; node != NULL; depth++) {
        char *dot = strchr(step, '.');
        if (dot == NULL)
            break;
        *dot = '\0';
        node = depth < DRAFT_PATH_DEPTH_MAX ? descend(node, step) : NULL;
        step = dot + 1;
    }
    if (!json_is_object(node) || *step == '\0' ||
        json_object_set_new(node, step, value_of(text)) != 0)
        return didi_fail(error, CLIENT_USAGE, "--set", "nothing can be set at '%s'", step);
    return CLIENT_OK;
}

static int add_settings(json_t *document, const client_arguments *arguments, didi_error *error)
{
    size_t cursor = 0;
    for (const char *text; (text = arguments_each(arguments, OPTION_SET, &cursor)) != NULL;) {
        char *path = NULL;
        const char *value = NULL;
        int status = split(text, "--set", &path, &value, error);
        if (status == CLIENT_OK)
            status = set_path(document, path, value, error);
        free(path);
        if (status != CLIENT_OK)
            return status;
    }
    return CLIENT_OK;
}

static int add_scalars(json_t *document, const client_arguments *arguments, didi_error *error)
{
    static const struct {
        int id;
        const char *flag, *key;
        bool json; /* else always a string */
    } rows[] = {
        {OPTION_FROM_JOB, "--from-job", "from_job", false},
        {OPTION_BASE, "--base", "base", false},
        {OPTION_NAME, "--name", "name", false},
        {OPTION_PRIORITY, "--priority", "priority", true},
        {OPTION_OBJECTIVE, "--objective", "objective", false},
        {OPTION_METHOD, "--method", "method", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *text = arguments_value(arguments, rows[i].id);
        json_t *value = text == NULL ? NULL : rows[i].json ? value_of(text) : json_string(text);
        if (text != NULL && json_object_set_new(document, rows[i].key, value) != 0)
            return didi_fail(error, CLIENT_USAGE, rows[i].flag, "'%s' is not UTF-8", text);
    }
    return CLIENT_OK;
}

static int add_size(json_t *document, const client_arguments *arguments, didi_error *error)
{
    const char *budget = arguments_value(arguments, OPTION_BUDGET);
    const char *dtype = arguments_value(arguments, OPTION_DTYPE);
    char path[] = "output.dtype";
    if (budget != NULL && json_object_set_new(document, "budget", budget_words_read(budget)) != 0)
        return didi_fail(error, CLIENT_USAGE, "--budget", "'%s' is not UTF-8", budget);
    return dtype != NULL ? set_path(document, path, dtype, error) : CLIENT_OK;
}

static int check_required(const json_t *document, didi_error *error)
{
    static const char *const keys[] = {"budget", "base", "tasks"};
    bool inherits = json_object_get(document, "from_job") != NULL;
    bool sized = json_object_get(document, "method") != NULL; /* the server knows */
    for (size_t i = sized ? 1 : 0; i < (inherits ? 1 : sizeof keys / sizeof keys[0]); i++) {
        if (json_object_get(document, keys[i]) == NULL)
            return didi_fail(error, CLIENT_USAGE, NULL,
                             "no %s: give a specification file, or %s--budget", keys[i],
                             inherits ? "" : "--base, --task and ");
    }
    return CLIENT_OK;
}

int draft_create(const char *file, const client_arguments *arguments, json_t **ret_specification,
                 didi_error *error)
{
    json_t *document = NULL;
    int status = CLIENT_OK;
    if (file != NULL) {
        status = read_file(file, &document, error);
    } else {
        document = json_object();
        status = document == NULL ? client_fail_memory(error) : CLIENT_OK;
    }
    status = status != CLIENT_OK ? status : add_scalars(document, arguments, error);
    status =
        status != CLIENT_OK ? status : add_tasks(document, arguments, OPTION_TASK, "--task", error);
    status = status != CLIENT_OK ? status : add_labels(document, arguments, error);
    status = status != CLIENT_OK ? status : add_size(document, arguments, error);
    status = status != CLIENT_OK ? status : add_settings(document, arguments, error);
    if (status == CLIENT_OK && file == NULL)
        status = check_required(document, error);
    if (status != CLIENT_OK)
        json_decref(document);
    else
        *ret_specification = document;
    return status;
}

/* The options that belong into `extend`. */
static int add_extend(json_t *document, const char *job, const client_arguments *arguments,
                      didi_error *error)
{
    json_t *extend = json_object();
    json_t *removed = json_array();
    json_t *budget = json_object_get(document, "budget");
    size_t cursor = 0;
    int failed = json_object_set_new(document, "extend", extend) != 0 ||
                 json_object_set_new(extend, "job", json_string(job)) != 0;
    if (budget != NULL) {
        failed |= json_object_set(extend, "budget", budget) != 0;
        failed |= json_object_del(document, "budget") != 0;
    }
    for (const char *name; (name = arguments_each(arguments, OPTION_REMOVE, &cursor)) != NULL;)
        failed |= json_array_append_new(removed, json_string(name)) != 0;
    failed |= json_object_set_new(extend, "remove", removed) != 0;
    if (arguments_has(arguments, OPTION_REBALANCE))
        failed |= json_object_set_new(extend, "rebalance", json_true()) != 0;
    if (arguments_has(arguments, OPTION_NO_COMPARE))
        failed |= json_object_set_new(extend, "compare", json_false()) != 0;
    return failed == 0 ? CLIENT_OK
                       : didi_fail(error, CLIENT_USAGE, "--remove", "a name is not UTF-8");
}

int draft_extend(const char *job, const client_arguments *arguments, json_t **ret_request,
                 didi_error *error)
{
    json_t *request = json_object();
    int status = request == NULL ? client_fail_memory(error) : CLIENT_OK;
    status = status != CLIENT_OK ? status : add_scalars(request, arguments, error);
    status = status != CLIENT_OK ? status : add_size(request, arguments, error);
    status =
        status != CLIENT_OK ? status : add_tasks(request, arguments, OPTION_ADD, "--add", error);
    status = status != CLIENT_OK ? status : add_labels(request, arguments, error);
    status = status != CLIENT_OK ? status : add_extend(request, job, arguments, error);
    if (status != CLIENT_OK)
        json_decref(request);
    else
        *ret_request = request;
    return status;
}
