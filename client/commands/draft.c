/* SPDX-License-Identifier: Apache-2.0 */
/* A job specification put together from a file and from options. */
#include "client/commands/draft.h"

#include "client/commands/command.h"
#include "proto/proto.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All of a stream, at most DRAFT_FILE_BYTES_MAX. Caller frees *ret_text. */
static int read_text(FILE *stream, const char *name, char **ret_text, size_t *ret_bytes,
                     didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    size_t room = 0;
    size_t count = 0;
    do {
        if (bytes == room) {
            room = room == 0 ? 64 << 10 : 2 * room;
            char *grown = realloc(text, room);
            if (grown == NULL) {
                free(text);
                return client_fail_memory(error);
            }
            text = grown;
        }
        count = fread(text + bytes, 1, room - bytes, stream);
        bytes += count;
    } while (count > 0 && !feof(stream) && bytes <= DRAFT_FILE_BYTES_MAX);
    int status = CLIENT_OK;
    if (ferror(stream))
        status = didi_fail(error, CLIENT_FAILURE, name, "cannot be read: %s", strerror(errno));
    else if (bytes > DRAFT_FILE_BYTES_MAX)
        status =
            didi_fail(error, CLIENT_FAILURE, name, "longer than %d bytes", DRAFT_FILE_BYTES_MAX);
    if (status != CLIENT_OK) {
        free(text);
        return status;
    }
    *ret_text = text;
    *ret_bytes = bytes;
    return CLIENT_OK;
}

int draft_read(const char *path, client_advice *advice, json_t **ret_document, didi_error *error)
{
    bool from_stdin = strcmp(path, "-") == 0;
    const char *name = from_stdin ? "stdin" : path;
    FILE *stream = from_stdin ? stdin : fopen(path, "re");
    if (stream == NULL) {
        advice_give(advice, "check the name of the file, and whether you may read it: ls -l %s",
                    path);
        return didi_fail(error, CLIENT_FAILURE, name, "%s", strerror(errno));
    }
    char *text = NULL;
    size_t bytes = 0;
    json_t *document = NULL;
    didi_error reason = {0};
    int status = read_text(stream, name, &text, &bytes, error);
    if (!from_stdin)
        fclose(stream);
    if (status != CLIENT_OK)
        return status;
    if (document_parse_named(name, text, bytes, DRAFT_FILE_BYTES_MAX, &document, &reason) !=
        DIDI_OK)
        status = didi_fail(error, CLIENT_FAILURE, name, "%s", reason.message);
    else if (!json_is_object(document))
        status =
            didi_fail(error, CLIENT_FAILURE, name, "must be %s",
                      document_is_yaml(name, text, bytes) ? "a YAML mapping" : "a JSON object");
    free(text);
    if (status != CLIENT_OK) {
        advice_give(advice,
                    "mend %s at that place; didictl plan %s checks a specification and "
                    "submits nothing",
                    name, path);
        json_decref(document);
    } else {
        *ret_document = document;
    }
    return status;
}

/* "left=right" as an option has it, split at the first '='. */
typedef struct draft_pair {
    const char *flag, *text;
    char *left;
    const char *right;
} draft_pair;

/* Hands each value of an option to `set`. The left side must not be empty. */
static int set_pairs(json_t *document, const client_arguments *arguments, int id, const char *flag,
                     int (*set)(json_t *document, const draft_pair *pair, didi_error *error),
                     didi_error *error)
{
    int status = CLIENT_OK;
    const char *text;
    for (size_t i = 0; status == CLIENT_OK && (text = arguments_at(arguments, id, i)) != NULL;
         i++) {
        const char *equals = strchr(text, '=');
        if (equals == NULL || equals == text)
            return didi_fail(error, CLIENT_USAGE, flag, "'%s' has no form NAME=VALUE", text);
        draft_pair pair = {flag, text, strndup(text, (size_t)(equals - text)), equals + 1};
        status = pair.left == NULL ? client_fail_memory(error) : set(document, &pair, error);
        free(pair.left);
    }
    return status;
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

static int add_task(json_t *document, const draft_pair *pair, didi_error *error)
{
    json_t *tasks = member(document, "tasks", JSON_ARRAY);
    json_t *task = json_pack("{s:s, s:s}", "name", pair->left, "model", pair->right);
    if (task == NULL)
        return didi_fail(error, CLIENT_USAGE, pair->flag, "'%s' is not UTF-8", pair->text);
    if (json_array_append_new(tasks, task) != 0)
        return didi_fail(error, CLIENT_USAGE, pair->flag, "the file's tasks are not a list");
    return CLIENT_OK;
}

static int add_label(json_t *document, const draft_pair *pair, didi_error *error)
{
    json_t *labels = member(document, "labels", JSON_OBJECT);
    if (json_object_set_new(labels, pair->left, json_string(pair->right)) != 0)
        return didi_fail(error, CLIENT_USAGE, pair->flag, "'%s' cannot be set", pair->text);
    return CLIENT_OK;
}

/* JSON where it reads as JSON, else a string: 1.24, true, ["a"], S. */
static json_t *value_of(const char *text)
{
    json_t *value =
        json_load(text, strlen(text), JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL, NULL);
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

static int add_setting(json_t *document, const draft_pair *pair, didi_error *error)
{
    return set_path(document, pair->left, pair->right, error);
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
    bool survey = arguments_has(arguments, OPTION_SURVEY);
    char path[] = "output.dtype";
    if (survey && json_object_set_new(document, "survey", json_true()) != 0)
        return client_fail_memory(error);
    if (budget != NULL && json_object_set_new(document, "budget", budget_words_read(budget)) != 0)
        return didi_fail(error, CLIENT_USAGE, "--budget", "'%s' is not UTF-8", budget);
    return dtype != NULL ? set_path(document, path, dtype, error) : CLIENT_OK;
}

/* What lies beneath the options: the file, or nothing. */
static int read_file(const char *file, client_advice *advice, json_t **ret_document,
                     didi_error *error)
{
    if (file != NULL)
        return draft_read(file, advice, ret_document, error);
    *ret_document = json_object();
    return *ret_document != NULL ? CLIENT_OK : client_fail_memory(error);
}

/* Options that a job and a bake-off have. */
static int add_common(json_t *document, const client_arguments *arguments, didi_error *error)
{
    int status = add_scalars(document, arguments, error);
    if (status == CLIENT_OK)
        status = set_pairs(document, arguments, OPTION_TASK, "--task", add_task, error);
    if (status == CLIENT_OK)
        status = set_pairs(document, arguments, OPTION_LABEL, "--label", add_label, error);
    return status;
}

static int check_required(const json_t *document, didi_error *error)
{
    static const char *const keys[] = {"budget", "base", "tasks"};
    bool inherits = json_object_get(document, "from_job") != NULL;
    bool sized = json_object_get(document, "method") != NULL || /* the server knows */
                 json_is_true(json_object_get(document, "survey"));
    for (size_t i = sized ? 1 : 0; i < (inherits ? 1 : sizeof keys / sizeof keys[0]); i++) {
        if (json_object_get(document, keys[i]) == NULL)
            return didi_fail(error, CLIENT_USAGE, NULL,
                             "no %s: give a specification file, or %s--budget", keys[i],
                             inherits ? "" : "--base, --task and ");
    }
    return CLIENT_OK;
}

int draft_create(const char *file, const client_arguments *arguments, client_advice *advice,
                 json_t **ret_specification, didi_error *error)
{
    json_t *document = NULL;
    int status = read_file(file, advice, &document, error);
    status = status != CLIENT_OK ? status : add_common(document, arguments, error);
    status = status != CLIENT_OK ? status : add_size(document, arguments, error);
    if (status == CLIENT_OK)
        status = set_pairs(document, arguments, OPTION_SET, "--set", add_setting, error);
    if (status == CLIENT_OK && file == NULL)
        status = check_required(document, error);
    if (status != CLIENT_OK)
        json_decref(document);
    else
        *ret_specification = document;
    return status;
}

/* `method` of add_scalars is of jobs: here each one named is of a list. */
static int name_methods(json_t *document, const client_arguments *arguments, didi_error *error)
{
    json_t *methods = json_array();
    const char *name;
    int failed = methods == NULL;
    (void)json_object_del(document, "method");
    for (size_t i = 0; (name = arguments_at(arguments, OPTION_METHOD, i)) != NULL; i++)
        failed |= json_array_append_new(methods, json_string(name)) != 0;
    if (json_array_size(methods) > 0)
        failed |= json_object_set(document, "methods", methods) != 0;
    json_decref(methods);
    return failed == 0 ? CLIENT_OK
                       : didi_fail(error, CLIENT_USAGE, "--method", "a name is not UTF-8");
}

int draft_bakeoff(const char *file, const client_arguments *arguments, client_advice *advice,
                  json_t **ret_request, didi_error *error)
{
    json_t *request = NULL;
    int status = read_file(file, advice, &request, error);
    status = status != CLIENT_OK ? status : add_common(request, arguments, error);
    status = status != CLIENT_OK ? status : name_methods(request, arguments, error);
    if (status == CLIENT_OK)
        status = set_pairs(request, arguments, OPTION_SET, "--set", add_setting, error);
    if (status == CLIENT_OK && file == NULL &&
        (json_object_get(request, "base") == NULL || json_object_get(request, "tasks") == NULL))
        status = didi_fail(error, CLIENT_USAGE, NULL,
                           "no base or no tasks: give a file, or --base and --task");
    if (status != CLIENT_OK)
        json_decref(request);
    else
        *ret_request = request;
    return status;
}

/* The options that belong into `extend`. */
static int add_extend(json_t *document, const char *job, const client_arguments *arguments,
                      didi_error *error)
{
    json_t *extend = json_object();
    json_t *removed = json_array();
    json_t *budget = json_object_get(document, "budget");
    const char *name;
    int failed = json_object_set_new(document, "extend", extend) != 0 ||
                 json_object_set_new(extend, "job", json_string(job)) != 0;
    if (budget != NULL) {
        failed |= json_object_set(extend, "budget", budget) != 0;
        failed |= json_object_del(document, "budget") != 0;
    }
    for (size_t i = 0; (name = arguments_at(arguments, OPTION_REMOVE, i)) != NULL; i++)
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
    if (status == CLIENT_OK)
        status = set_pairs(request, arguments, OPTION_ADD, "--add", add_task, error);
    if (status == CLIENT_OK)
        status = set_pairs(request, arguments, OPTION_LABEL, "--label", add_label, error);
    status = status != CLIENT_OK ? status : add_extend(request, job, arguments, error);
    if (status != CLIENT_OK)
        json_decref(request);
    else
        *ret_request = request;
    return status;
}
