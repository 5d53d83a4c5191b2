/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets in text. */
#include "client/view/budget_text.h"

#include "client/base/base.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BUDGET_UNITS = 3 };
static const char *const unit_names[BUDGET_UNITS] = {"bytes", "bytes_ratio", "max_error"};

char *budget_text_value(char target[FORMAT_BYTES_MAX], const char *unit, const char *dtype,
                        double value, bool up)
{
    char number[FORMAT_BYTES_MAX];
    if (!isfinite(value))
        return format_number(target, value, 5);
    if (strcmp(unit, "bytes") == 0) {
        (void)snprintf(target, FORMAT_BYTES_MAX, "%.0f bytes", up ? ceil(value) : value);
        return target;
    }
    double step = value > 0 ? pow(10, floor(log10(value)) - 4) : 1;
    format_number(number, up ? ceil(value / step - 1e-6) * step : value, 5);
    if (strcmp(unit, "bytes_ratio") == 0) {
        (void)snprintf(target, FORMAT_BYTES_MAX, "%.11s of the base's bytes", number);
    } else if (strcmp(unit, "max_error") == 0) {
        (void)snprintf(target, FORMAT_BYTES_MAX, "error %.20s", number);
    } else {
        (void)snprintf(target, FORMAT_BYTES_MAX, "%.16s %smodels", number,
                       strcmp(dtype, "auto") == 0 ? "16-bit " : "");
    }
    return target;
}

char *budget_text_show(char target[FORMAT_BYTES_MAX], const json_t *specification)
{
    const json_t *budget = json_object_get(specification, "budget");
    if (json_is_string(budget)) {
        (void)snprintf(target, FORMAT_BYTES_MAX, "%s", json_string_value(budget));
        return target;
    }
    for (size_t unit = 0; unit < BUDGET_UNITS; unit++) {
        const json_t *value = json_object_get(budget, unit_names[unit]);
        if (json_is_number(value))
            return budget_text_value(target, unit_names[unit], "", json_number_value(value), false);
    }
    return budget_text_value(target, "parameters", record_text(specification, "output.dtype"),
                             json_is_number(budget) ? json_number_value(budget) : NAN, false);
}

const char *budget_text_counted(const json_t *specification)
{
    const json_t *budget = json_object_get(specification, "budget");
    bool bytes = json_object_get(budget, "bytes") != NULL ||
                 json_object_get(budget, "bytes_ratio") != NULL ||
                 strcmp(record_text(specification, "output.dtype"), "auto") == 0;
    return bytes ? "bytes" : "parameters";
}

char *budget_text_stored(char target[FORMAT_BYTES_MAX], const json_t *budget)
{
    const char *unit = record_text(budget, "unit");
    const char *dtype = record_text(budget, "dtype");
    if (strcmp(unit, "max_error") == 0)
        return format_bytes(target, record_integer(budget, "bytes"));
    const char *figure = strcmp(dtype, "auto") == 0 ? "bytes_ratio_16bit" : "parameters";
    double value = record_number(budget, strncmp(unit, "bytes", 5) == 0 ? unit : figure);
    return budget_text_value(target, unit, dtype, value, false);
}
