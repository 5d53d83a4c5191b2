/* SPDX-License-Identifier: Apache-2.0 */
/* Reading members of JSON objects that a server sent. Short because each function is one question.
 */
#include "client/base/record.h"

#include <math.h>
#include <string.h>

const json_t *record_at(const json_t *object, const char *path)
{
    for (const char *dot; (dot = strchr(path, '.')) != NULL; path = dot + 1)
        object = json_object_getn(object, path, (size_t)(dot - path));
    return json_object_get(object, path);
}

const char *record_text(const json_t *object, const char *path)
{
    const json_t *value = record_at(object, path);
    const char *text = json_string_value(value);
    return text != NULL && strlen(text) == json_string_length(value) ? text : "";
}

const char *record_element(const json_t *array, size_t index)
{
    const char *text = json_string_value(json_array_get(array, index));
    return text != NULL ? text : "?";
}

double record_number(const json_t *object, const char *path)
{
    const json_t *value = record_at(object, path);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

int64_t record_integer(const json_t *object, const char *path)
{
    const json_t *value = record_at(object, path);
    return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value)
                                                                    : -1;
}

bool record_true(const json_t *object, const char *path)
{
    return json_is_true(record_at(object, path));
}

bool record_is_word(const char *text, size_t bytes_max, const char *more)
{
    size_t bytes = strlen(text);
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && strchr(more, c) == NULL)
            return false;
    }
    return bytes >= 1 && bytes <= bytes_max;
}
