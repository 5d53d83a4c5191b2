/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing of `extend`. */
#include "proto/specification_extend.h"

#include "proto/budget.h"
#include "proto/names.h"
#include "src/base/base.h"

#include <stdlib.h>
#include <string.h>

#define AT(member) .offset = offsetof(specification_extend, member)
#define FIELD_NAMES                                                                                \
    FIELD_TEXTS, .highest = LIMIT_TASKS, .check = name_is_task, .expected = "the name of a task"

static int budget_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error)
{
    specification_extend *into = object;
    double budget = 0;
    int unit = BUDGET_PARAMETERS;
    (void)field;
    int status = budget_read_value(value, pointer, &budget, &unit, error);
    if (status != DIDI_OK)
        return status;
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
    {.key = "add", FIELD_NAMES, AT(add)},
    {.key = "remove", FIELD_NAMES, AT(remove)},
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

void specification_extend_clear(specification_extend *extend)
{
    free(extend->job);
    field_texts_clear(&extend->add);
    field_texts_clear(&extend->remove);
    *extend = (specification_extend){0};
}
