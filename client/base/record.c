/* SPDX-License-Identifier: Apache-2.0 */
/* Reading members of JSON objects that a server sent. Short because each function is one question.
 */
#include "client/base/record.h"

#include <math.h>
#include <string.h>

const char *record_text(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    return text != NULL && strlen(text) == json_string_length(value) ? text : "";
}

double record_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

int64_t record_integer(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value)
                                                                    : -1;
}

bool record_true(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
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
