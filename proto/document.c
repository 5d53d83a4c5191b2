/* SPDX-License-Identifier: Apache-2.0 */
/* Strict reading of JSON text and its writing. */
#include "proto/document.h"

#include "proto/limits.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Checked before parsing, because the parser recurses. */
static bool document_is_shallow(const char *text, size_t bytes)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t at = 0; at < bytes; at++) {
        char c = text[at];
        if (quoted) {
            at += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > LIMIT_JSON_DEPTH)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

int document_parse(const char *text, size_t bytes, size_t bytes_max, json_t **ret_value,
                   didi_error *error)
{
    json_error_t reason;
    if (bytes > bytes_max) {
        return didi_fail(error, DIDI_FORMAT, NULL, "%zu bytes of JSON; at most %zu are taken",
                         bytes, bytes_max);
    }
    if (!document_is_shallow(text, bytes))
        return didi_fail(error, DIDI_FORMAT, NULL, "JSON is nested deeper than %d levels",
                         LIMIT_JSON_DEPTH);
    bool no_memory = false;
    json_t *value =
        json_load(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &reason, &no_memory);
    if (no_memory)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for %zu bytes of JSON", bytes);
    if (value == NULL)
        return didi_fail(error, DIDI_FORMAT, NULL, "not JSON: line %d, column %d: %s", reason.line,
                         reason.column, reason.text);
    *ret_value = value;
    return DIDI_OK;
}

char *document_render(const json_t *value)
{
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    char *text = json_dumps(value, flags | JSON_REAL_PRECISION(15));
    bool refused = false;
    json_t *back =
        text == NULL ? NULL : json_load(text, strlen(text), JSON_DECODE_ANY, NULL, &refused);
    if (refused) { /* whether all digits are there is unknown */
        free(text);
        return NULL;
    }
    if (back != NULL && json_equal(back, value) == 0) {
        free(text);
        text = json_dumps(value, flags | JSON_REAL_PRECISION(17));
    }
    json_decref(back);
    return text;
}
