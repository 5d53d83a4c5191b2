/* SPDX-License-Identifier: Apache-2.0 */
/* From a request to extend a job to the specification of the new one. */
#include "proto/extension_request.h"

#include "proto/budget.h"
#include "proto/field.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

bool extension_request_is(const json_t *document)
{
    return json_object_get(document, "extend") != NULL;
}

int extension_request_job(const json_t *request, const char **ret_job, didi_error *error)
{
    const json_t *extend = json_object_get(request, "extend");
    const char *job = json_string_value(json_object_get(extend, "job"));
    if (!json_is_object(extend))
        return field_fail_type("extend", "an object", extend, "/extend", error);
    if (job == NULL)
        return didi_fail(error, DIDI_INVALID, "/extend/job",
                         "job must be the id of the job to extend");
    *ret_job = job;
    return DIDI_OK;
}

/* ---- what a request may say ---- */

static int check_keys(json_t *request, didi_error *error)
{
    static const char *const keys[] = {"extend", "tasks", "base", "name", "labels", "priority"};
    static const char *const parts[] = {"job", "remove", "budget", "rebalance", "compare"};
    const size_t key_count = sizeof keys / sizeof keys[0];
    const size_t part_count = sizeof parts / sizeof parts[0];
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    json_t *extend = json_object_get(request, "extend");
    const char *key;
    json_t *value;
    json_object_foreach(request, key, value)
    {
        field_pointer(pointer, "", key);
        if (text_find(keys, key_count, key) == key_count) {
            return didi_fail(error, DIDI_INVALID, pointer,
                             "%s is taken from the job that is extended; leave it out", key);
        }
    }
    json_object_foreach(extend, key, value)
    {
        field_pointer(pointer, "/extend", key);
        if (text_find(parts, part_count, key) == part_count)
            return didi_fail(error, DIDI_INVALID, pointer, "unknown field \"%.100s\"", key);
    }
    value = json_object_get(request, "tasks");
    if (value != NULL && !json_is_array(value))
        return field_fail_type("tasks", "an array", value, "/tasks", error);
    value = json_object_get(extend, "remove");
    if (value != NULL && !json_is_array(value))
        return field_fail_type("remove", "an array", value, "/extend/remove", error);
    return DIDI_OK;
}

static int check_base(const json_t *request, const json_t *old, didi_error *error)
{
    const json_t *asked = json_object_get(request, "base");
    const json_t *base = json_object_get(old, "base");
    if (asked == NULL || json_equal(asked, base) != 0)
        return DIDI_OK;
    return didi_fail(error, DIDI_INVALID, "/base",
                     "the job to extend was made from base \"%s\"; give that or leave base out",
                     json_string_value(base));
}

/* ---- tasks ---- */

static const char *name_of(const json_t *tasks, size_t task)
{
    const char *name = json_string_value(json_object_get(json_array_get(tasks, task), "name"));
    return name != NULL ? name : "";
}

static size_t find_task(const json_t *tasks, const char *name)
{
    size_t task = 0;
    while (task < json_array_size(tasks) && strcmp(name_of(tasks, task), name) != 0)
        task++;
    return task;
}

static int fail_unknown(const json_t *tasks, const char *name, const char *pointer,
                        didi_error *error)
{
    char names[512] = "";
    for (size_t task = 0; task < json_array_size(tasks); task++)
        text_list_add(names, sizeof names, "", name_of(tasks, task));
    return didi_fail(error, DIDI_INVALID, pointer,
                     "the job to extend has no task \"%.128s\" left to remove; it has %s", name,
                     names);
}

/* Takes the tasks to be removed out of `tasks`. */
static int remove_tasks(json_t *tasks, const json_t *names, didi_error *error)
{
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        field_pointer_index(pointer, "/extend/remove", i);
        if (name == NULL)
            return didi_fail(error, DIDI_INVALID, pointer, "the name of a task is a string, not %s",
                             field_type_name(json_array_get(names, i)));
        size_t task = find_task(tasks, name);
        if (task == json_array_size(tasks))
            return fail_unknown(tasks, name, pointer, error);
        json_array_remove(tasks, task);
    }
    return DIDI_OK;
}

static int check_change(const json_t *request, size_t kept, didi_error *error)
{
    const json_t *extend = json_object_get(request, "extend");
    size_t added = json_array_size(json_object_get(request, "tasks"));
    size_t removed = json_array_size(json_object_get(extend, "remove"));
    if (added + kept == 0) {
        return didi_fail(error, DIDI_INVALID, "/extend/remove",
                         "no task would be left; leave one, or add one");
    }
    if (added + removed == 0 && !json_is_true(json_object_get(extend, "rebalance")))
        return didi_fail(error, DIDI_INVALID, "/tasks",
                         "there is no task to add, none to remove, and nothing to rebalance");
    return DIDI_OK;
}

/* `tasks` are those kept. */
static int check_names(const json_t *request, const json_t *tasks, didi_error *error)
{
    const json_t *added = json_object_get(request, "tasks");
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    for (size_t task = 0; task < json_array_size(added); task++) {
        const char *name = name_of(added, task);
        if (name[0] != '\0' && find_task(tasks, name) < json_array_size(tasks)) {
            (void)snprintf(pointer, sizeof pointer, "/tasks/%zu/name", task);
            return didi_fail(error, DIDI_INVALID, pointer,
                             "the job to extend has a task \"%.128s\" already; choose another "
                             "name, or remove the old one in the same step",
                             name);
        }
    }
    return DIDI_OK;
}

static json_t *names_added(const json_t *request)
{
    const json_t *tasks = json_object_get(request, "tasks");
    json_t *names = json_array();
    for (size_t task = 0; task < json_array_size(tasks); task++)
        json_array_append_new(names, json_string(name_of(tasks, task)));
    return names;
}

/* ---- budget ---- */

/* Of what a package stores, in the unit of its budget: parameters as a ratio to one model, or
 * bytes.
 */
typedef struct costs {
    int unit;      /* DIDI_BUDGET_PARAMETERS or DIDI_BUDGET_BYTES */
    double kept;   /* all files kept together */
    double expert; /* a mean expert of the package */
    double model;  /* what a number as budget is a ratio to, in this unit; 0: it has no meaning */
} costs;

/* Bits and ranks were allocated together: a number means as many 16-bit parameters. */
static bool is_automatic(const json_t *budget)
{
    const char *dtype = json_string_value(json_object_get(budget, "dtype"));
    return dtype != NULL && strcmp(dtype, "auto") == 0;
}

/* Then, and where bytes were asked for, bytes count. */
static int unit_of(const json_t *budget)
{
    const char *unit = json_string_value(json_object_get(budget, "unit"));
    bool bytes = (unit != NULL && strcmp(unit, "parameters") != 0) || is_automatic(budget);
    return bytes ? DIDI_BUDGET_BYTES : DIDI_BUDGET_PARAMETERS;
}

/* "experts/NAME.safetensors" of a task that stays, or the shared file. */
static bool file_stays(const char *file, const json_t *kept)
{
    bool stays = strncmp(file, "experts/", 8) != 0;
    for (size_t task = 0; !stays && task < json_array_size(kept); task++) {
        const char *name = name_of(kept, task);
        size_t length = strlen(name);
        stays =
            strncmp(file + 8, name, length) == 0 && strcmp(file + 8 + length, ".safetensors") == 0;
    }
    return stays;
}

static int read_costs(const json_t *manifest, const json_t *kept, costs *ret_costs,
                      didi_error *error)
{
    const json_t *files = json_object_get(manifest, "files");
    const json_t *budget = json_object_get(manifest, "budget");
    double model = json_number_value(json_object_get(budget, "model_parameters"));
    costs found = {.unit = unit_of(budget)};
    double unit = found.unit == DIDI_BUDGET_BYTES ? 1 : model;
    size_t experts = 0;
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *row = json_array_get(files, i);
        const char *file = json_string_value(json_object_get(row, "name"));
        const json_t *cost =
            json_object_get(row, found.unit == DIDI_BUDGET_BYTES ? "bytes" : "parameters");
        if (file == NULL || !json_is_integer(cost) || !(model > 0)) {
            return didi_fail(error, DIDI_FORMAT, "/extend/job",
                             "the job was made by an older didid and cannot be extended; "
                             "rebalance, or merge again");
        }
        bool expert = strncmp(file, "experts/", 8) == 0;
        found.expert += expert ? json_number_value(cost) / unit : 0;
        experts += expert;
        found.kept += file_stays(file, kept) ? json_number_value(cost) / unit : 0;
    }
    found.model = found.unit == DIDI_BUDGET_PARAMETERS ? 1 : is_automatic(budget) ? 2 * model : 0;
    found.expert = experts > 0 ? found.expert / (double)experts : 0;
    *ret_costs = found;
    return DIDI_OK;
}

/* Where a budget stands by itself. */
static const json_field budget_alone = {.key = "budget"};

/* What each new task may cost, in the unit of the package's budget. */
static int read_each(json_t *asked, const costs *found, double *ret_each, didi_error *error)
{
    specification_budget each = {found->expert, found->unit};
    int status = asked == NULL
                     ? DIDI_OK
                     : field_budget.read(&budget_alone, asked, &each, "/extend/budget", error);
    if (status != DIDI_OK)
        return status;
    if (each.unit == DIDI_BUDGET_PARAMETERS && found->unit == DIDI_BUDGET_BYTES) {
        each.value *= found->model;
        each.unit = found->model > 0 ? found->unit : each.unit;
    }
    if (each.unit != found->unit) {
        return didi_fail(
            error, DIDI_INVALID, "/extend/budget",
            found->unit == DIDI_BUDGET_BYTES
                ? "the budget of this job counts bytes: give {\"bytes\": N} (a task of "
                  "it costs %.0f)"
                : "the budget of this job counts parameters: give a number, a ratio to "
                  "one model (a task of it costs %.4g)",
            found->expert);
    }
    *ret_each = found->unit == DIDI_BUDGET_BYTES ? floor(each.value) : each.value;
    return DIDI_OK;
}

static void put_budget(json_t *object, double value, int unit)
{
    const specification_budget budget = {value, unit};
    json_object_set_new(object, "budget", field_budget.write(&budget_alone, &budget));
}

/* Sets `budget` of the new job and of each task added. */
static int set_budget(const json_t *request, const json_t *manifest, json_t *document,
                      json_t *extend, size_t added, didi_error *error)
{
    costs found = {0};
    double each = 0;
    int status = read_costs(manifest, json_object_get(document, "tasks"), &found, error);
    if (status == DIDI_OK) {
        json_t *asked = json_object_get(json_object_get(request, "extend"), "budget");
        status = read_each(asked, &found, &each, error);
    }
    if (status != DIDI_OK)
        return status;
    json_object_del(extend, "budget");
    if (added > 0)
        put_budget(extend, each, found.unit);
    put_budget(document, found.kept + each * (double)added, found.unit);
    return DIDI_OK;
}

/* ---- the new specification ---- */

static int set_extend(const json_t *request, const json_t *manifest, json_t *document,
                      didi_error *error)
{
    const json_t *asked = json_object_get(request, "extend");
    json_t *extend = json_deep_copy(asked);
    json_t *added = names_added(request);
    bool rebalance = json_is_true(json_object_get(asked, "rebalance"));
    int status = DIDI_OK;
    if (json_object_set_new(document, "extend", extend) != 0 ||
        json_object_set_new(extend, "add", added) != 0)
        return didi_fail(error, DIDI_NO_MEMORY, "/extend", "no memory for a specification");
    if (json_object_get(asked, "compare") == NULL)
        json_object_set_new(extend, "compare",
                            json_boolean(json_array_size(added) > 0 && !rebalance));
    if (!rebalance) {
        status = set_budget(request, manifest, document, extend, json_array_size(added), error);
    } else if (json_object_get(asked, "budget") != NULL) {
        status = didi_fail(error, DIDI_INVALID, "/extend/budget",
                           "a rebalanced job keeps the total of the job it extends; leave budget "
                           "out");
    }
    return status;
}

/* Experts are made for a shared part of low rank, which other methods have not. */
static int check_method(const json_t *document, didi_error *error)
{
    const char *method = json_string_value(json_object_get(document, "method"));
    return method == NULL || strcmp(method, SPECIFICATION_DEFAULT_METHOD) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_INVALID, "/extend/job",
                           "the job was merged by method \"%.64s\", whose packages cannot be "
                           "extended",
                           method);
}

static int make_document(const json_t *request, const json_t *manifest, json_t *document,
                         size_t *ret_kept, didi_error *error)
{
    static const char *const own[] = {"name", "labels", "priority"};
    json_t *tasks = json_object_get(document, "tasks");
    const json_t *extend = json_object_get(request, "extend");
    int status = check_base(request, document, error);
    if (status == DIDI_OK)
        status = remove_tasks(tasks, json_object_get(extend, "remove"), error);
    *ret_kept = json_array_size(tasks);
    if (status == DIDI_OK)
        status = check_change(request, *ret_kept, error);
    if (status == DIDI_OK)
        status = check_names(request, tasks, error);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        json_object_del(document, own[i]);
        if (json_object_get(request, own[i]) != NULL)
            json_object_set(document, own[i], json_object_get(request, own[i]));
    }
    json_object_del(document, "extend");
    json_object_del(document, "from_job");
    if (status == DIDI_OK)
        status = set_extend(request, manifest, document, error);
    if (status == DIDI_OK)
        json_array_extend(tasks, json_object_get(request, "tasks"));
    return status;
}

int extension_request_resolve(json_t *request, const json_t *manifest,
                              specification **ret_specification, didi_error *error)
{
    json_t *document = json_deep_copy(json_object_get(manifest, "specification"));
    size_t kept = 0;
    assert(json_is_object(json_object_get(request, "extend"))); /* extension_request_job */
    int status = check_keys(request, error);
    if (status == DIDI_OK && json_is_true(json_object_get(manifest, "survey")))
        status = didi_fail(error, DIDI_INVALID, "/extend/job",
                           "the job is a survey, which has no files to extend; merge with it as "
                           "from_job first");
    if (status == DIDI_OK)
        status = check_method(document, error);
    if (status == DIDI_OK && !json_is_array(json_object_get(document, "tasks")))
        status = didi_fail(error, DIDI_FORMAT, "/extend/job",
                           "the manifest of the job to extend holds no specification");
    if (status == DIDI_OK)
        status = make_document(request, manifest, document, &kept, error);
    if (status == DIDI_OK)
        status = specification_read(document, kept, ret_specification, error);
    json_decref(document);
    return status;
}
