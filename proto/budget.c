/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets as users write them. */
#include "proto/budget.h"

#include "proto/limits.h"
#include "proto/specification_defaults.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* By unit; the first is the plain number. */
static const json_field budget_fields[] = {
    {.key = "budget", FIELD_REAL(0, LIMIT_BUDGET), .above_lowest = true},
    {.key = "bytes", FIELD_REAL(1, LIMIT_SAFE_INTEGER)},
    {.key = "bytes_ratio", FIELD_REAL(0, LIMIT_BUDGET), .above_lowest = true},
    {.key = "max_error", FIELD_REAL(0, 1), .above_lowest = true},
};

static int read_size(const char *name, const char *pointer, double *ret_value, didi_error *error)
{
    static const struct {
        const char *name;
        double ratio;
    } sizes[] = {
#define BUDGET_SIZE(name, ratio) {name, ratio},
        DIDI_SIZE_TABLE(BUDGET_SIZE)
#undef BUDGET_SIZE
    };
    for (size_t size = 0; size < sizeof sizes / sizeof sizes[0]; size++) {
        if (strcmp(sizes[size].name, name) == 0) {
            *ret_value = sizes[size].ratio;
            return DIDI_OK;
        }
    }
    return didi_fail(error, DIDI_INVALID, pointer,
                     "budget must be a number, one of S, M and L, or an object, not \"%.100s\"",
                     name);
}

static int read_object(json_t *value, const char *pointer, specification_budget *budget,
                       didi_error *error)
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const char *key = NULL;
    json_t *member = NULL;
    if (json_object_size(value) != 1) {
        return didi_fail(error, DIDI_INVALID, pointer,
                         "budget must have one member, bytes, bytes_ratio or max_error; it has %zu",
                         json_object_size(value));
    }
    json_object_foreach(value, key, member)
    {
        field_pointer(child, pointer, key);
        for (size_t unit = 1; unit < sizeof budget_fields / sizeof budget_fields[0]; unit++) {
            if (strcmp(budget_fields[unit].key, key) != 0)
                continue;
            int status =
                field_real.read(&budget_fields[unit], member, &budget->value, child, error);
            if (status == DIDI_OK && unit == DIDI_BUDGET_BYTES &&
                budget->value != floor(budget->value)) {
                status = didi_fail(error, DIDI_INVALID, child,
                                   "bytes is %.17g; it must be an integer", budget->value);
            }
            budget->unit = (int)unit;
            return status;
        }
        return didi_fail(error, DIDI_INVALID, child,
                         "unknown field \"%.100s\"; a budget is in bytes, bytes_ratio or max_error",
                         key);
    }
    return DIDI_OK;
}

static int budget_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error)
{
    specification_budget *budget = (void *)((char *)object + field->offset);
    budget->unit = DIDI_BUDGET_PARAMETERS;
    if (json_is_object(value))
        return read_object(value, pointer, budget, error);
    if (json_is_string(value))
        return read_size(json_string_value(value), pointer, &budget->value, error);
    return field_real.read(&budget_fields[0], value, &budget->value, pointer, error);
}

static json_t *budget_write(const json_field *field, const void *object)
{
    const specification_budget *budget = (const void *)((const char *)object + field->offset);
    int unit = budget->unit;
    if (!(budget->value > 0))
        return json_null();
    assert(unit >= 0 && (size_t)unit < sizeof budget_fields / sizeof budget_fields[0]);
    json_t *value = field_real.write(&budget_fields[unit], &budget->value);
    return unit == DIDI_BUDGET_PARAMETERS ? value
                                          : json_pack("{s:o}", budget_fields[unit].key, value);
}

const field_kind field_budget = {budget_read, budget_write};

json_t *budget_words_read(const char *text)
{
    static const char *const units[] = {DIDI_BUDGET_TABLE(TEXT_WORD)};
    json_t *value =
        json_load(text, strlen(text), JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL, NULL);
    const char *mark = strchr(text, '=');
    size_t length = mark != NULL ? (size_t)(mark - text) : 0;
    for (size_t unit = DIDI_BUDGET_BYTES; value == NULL && unit <= DIDI_BUDGET_MAX_ERROR; unit++) {
        if (mark != NULL && length == strlen(units[unit]) &&
            strncmp(text, units[unit], length) == 0) {
            json_t *number = json_load(mark + 1, strlen(mark + 1), JSON_DECODE_ANY, NULL, NULL);
            return json_pack("{s:o}", units[unit], number != NULL ? number : json_string(mark + 1));
        }
    }
    return value != NULL ? value : json_string(text);
}
