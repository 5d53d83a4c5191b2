/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets in text. */
#include "client/budget_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BUDGET_UNITS = 3 };
static const char *const unit_names[BUDGET_UNITS] = {"bytes", "bytes_ratio", "max_error"};

json_t *budget_text_read(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    const char *mark = strchr(text, '=');
    for (size_t unit = 0; value == NULL && mark != NULL && unit < BUDGET_UNITS; unit++) {
        size_t length = strlen(unit_names[unit]);
        if (length == (size_t)(mark - text) && strncmp(text, unit_names[unit], length) == 0) {
            json_t *number = json_loads(mark + 1, JSON_DECODE_ANY, NULL);
            return json_pack("{s:o}", unit_names[unit],
                             number != NULL ? number : json_string(mark + 1));
        }
    }
    return value != NULL ? value : json_string(text);
}

char *budget_text_value(char target[FORMAT_BYTES_MAX], const char *unit, double value, bool up)
{
    char number[FORMAT_BYTES_MAX];
    if (!isfinite(value)) {
        return format_number(target, value, 5);
    }
    if (strcmp(unit, "bytes") == 0) {
        (void)snprintf(target, FORMAT_BYTES_MAX, "%.0f bytes", up ? ceil(value) : value);
        return target;
    }
    double step = value > 0 ? pow(10, floor(log10(value)) - 4) : 1;
    format_number(number, up ? ceil(value / step - 1e-6) * step : value, 5);
    if (strcmp(unit, "bytes_ratio") == 0) {
        (void)snprintf(target, FORMAT_BYTES_MAX, "%.20s in bytes", number);
    } else if (strcmp(unit, "max_error") == 0) {
        (void)snprintf(target, FORMAT_BYTES_MAX, "error %.20s", number);
    } else {
        (void)snprintf(target, FORMAT_BYTES_MAX, "%.20s models", number);
    }
    return target;
}

char *budget_text_show(char target[FORMAT_BYTES_MAX], const json_t *budget)
{
    if (json_is_string(budget)) {
        (void)snprintf(target, FORMAT_BYTES_MAX, "%s", json_string_value(budget));
        return target;
    }
    for (size_t unit = 0; unit < BUDGET_UNITS; unit++) {
        const json_t *value = json_object_get(budget, unit_names[unit]);
        if (json_is_number(value)) {
            return budget_text_value(target, unit_names[unit], json_number_value(value), false);
        }
    }
    return format_number(target, json_is_number(budget) ? json_number_value(budget) : NAN, 5);
}
