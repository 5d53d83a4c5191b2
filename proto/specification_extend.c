/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing of `extend`. */
#include "proto/specification_extend.h"

#include "proto/budget.h"
#include "proto/names.h"
#include "src/base/memory.h"

#include <stdlib.h>
#include <string.h>

#define AT(member) .offset = offsetof(specification_extend, member)

static int names_read(const json_field *field, json_t *value, void *object, const char *pointer,
                      didi_error *error)
{
    specification_globs *names = (void *)((char *)object + field->offset);
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    size_t count = json_array_size(value);
    if (!json_is_array(value)) {
        return didi_fail(error, DIDI_INVALID, pointer, "%s must be an array, not %s", field->key,
                         field_type_name(value));
    }
    if (count > LIMIT_TASKS) {
        return didi_fail(error, DIDI_INVALID, pointer, "%zu names in %s; at most %d are taken",
                         count, field->key, LIMIT_TASKS);
    }
    names->patterns = memory_zeroed(count, sizeof *names->patterns);
    if (names->patterns == NULL) {
        return didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory for %zu names", count);
    }
    names->count = count;
    for (size_t name = 0; name < count; name++) {
        const json_field element = {.key = field->key,
                                    .offset = name * sizeof *names->patterns,
                                    .check = name_is_task,
                                    .expected = "the name of a task"};
        field_pointer_index(child, pointer, name);
        int status =
            field_text_read(&element, json_array_get(value, name), names->patterns, child, error);
        if (status != DIDI_OK) {
            return status;
        }
    }
    return DIDI_OK;
}

static json_t *names_write(const json_field *field, const void *object)
{
    specification_globs names;
    memcpy(&names, (const char *)object + field->offset, sizeof names);
    json_t *value = json_array();
    for (size_t name = 0; value != NULL && name < names.count; name++) {
        if (json_array_append_new(value, json_string(names.patterns[name])) != 0) {
            json_decref(value);
            value = NULL;
        }
    }
    return value;
}

static int budget_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error)
{
    specification_extend *into = object;
    double budget = 0;
    int unit = BUDGET_PARAMETERS;
    (void)field;
    int status = budget_read_value(value, pointer, &budget, &unit, error);
    if (status != DIDI_OK) {
        return status;
    }
    if (unit != BUDGET_PARAMETERS && unit != BUDGET_BYTES) {
        return didi_fail(error, DIDI_INVALID, pointer,
                         "what a task may cost is a ratio of parameters or {\"bytes\": N}");
    }
    into->budget = budget;
    into->budget_unit = unit;
    return DIDI_OK;
}

static json_t *budget_write(const json_field *field, const void *object)
{
    const specification_extend *from = object;
    (void)field;
    return budget_write_value(from->budget, from->budget_unit);
}

static bool budget_is_absent(const void *object)
{
    return !(((const specification_extend *)object)->budget > 0);
}

static bool job_is_valid(const char *text)
{
    size_t length = strlen(text);
    return length > 0 && length <= LIMIT_JOB_ID_CHARACTERS &&
           strspn(text, "0123456789abcdefghjkmnpqrstvwxyz") == length;
}

static const json_field extend_fields[] = {
    {.key = "job",
     FIELD_TEXT,
     AT(job),
     .required = true,
     .check = job_is_valid,
     .expected = "the id of a job"},
    {.key = "add", .read = names_read, .write = names_write, AT(add)},
    {.key = "remove", .read = names_read, .write = names_write, AT(remove)},
    {.key = "budget", .read = budget_read, .write = budget_write, .is_absent = budget_is_absent},
    {.key = "rebalance", FIELD_BOOLEAN, AT(rebalance)},
    {.key = "compare", FIELD_BOOLEAN, AT(compare)},
    {.key = NULL},
};

int specification_extend_read(const json_field *field, json_t *value, void *object,
                              const char *pointer, didi_error *error)
{
    return field_read_all(extend_fields, value, (char *)object + field->offset, pointer, error);
}

json_t *specification_extend_write(const json_field *field, const void *object)
{
    return field_write_all(extend_fields, (const char *)object + field->offset);
}

bool specification_extend_is_absent(const void *object)
{
    return ((const specification *)object)->extend.job == NULL;
}

static void names_clear(specification_globs *names)
{
    for (size_t name = 0; name < names->count; name++) {
        free(names->patterns[name]);
    }
    free(names->patterns);
}

void specification_extend_clear(specification_extend *extend)
{
    free(extend->job);
    names_clear(&extend->add);
    names_clear(&extend->remove);
    *extend = (specification_extend){0};
}
