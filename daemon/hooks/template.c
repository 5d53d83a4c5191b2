/* SPDX-License-Identifier: Apache-2.0 */
/* Expansion of templates. Depth and size are bounded by the template's own, and by named limits. */
#include "daemon/hooks/template.h"

#include "proto/proto.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- pointers ---- */

bool pointer_is_valid(const char *text)
{
    if (text[0] != '\0' && text[0] != '/')
        return false;
    for (const char *at = text; *at != '\0'; at++)
        if (*at == '~' && at[1] != '0' && at[1] != '1')
            return false;
    return strlen(text) <= TEMPLATE_POINTER_BYTES_MAX;
}

/* The token at *at, unescaped; *at moves behind it. */
static void pointer_token(const char **at, char ret_token[TEMPLATE_POINTER_BYTES_MAX + 1])
{
    size_t length = 0;
    while (**at != '\0' && **at != '/' && length < TEMPLATE_POINTER_BYTES_MAX) {
        char c = *(*at)++;
        if (c == '~')
            c = *(*at)++ == '1' ? '/' : '~';
        ret_token[length++] = c;
    }
    ret_token[length] = '\0';
}

static json_t *pointer_step(json_t *value, const char *token)
{
    if (json_is_object(value))
        return json_object_get(value, token);
    size_t digits = strspn(token, "0123456789");
    bool is_index = json_is_array(value) && digits > 0 && digits < 10 && token[digits] == '\0' &&
                    (token[0] != '0' || digits == 1);
    return is_index ? json_array_get(value, strtoul(token, NULL, 10)) : NULL;
}

json_t *pointer_find(json_t *document, const char *pointer)
{
    char token[TEMPLATE_POINTER_BYTES_MAX + 1];
    json_t *value = document;
    assert(pointer_is_valid(pointer));
    while (*pointer == '/' && value != NULL) {
        pointer++;
        pointer_token(&pointer, token);
        value = pointer_step(value, token);
    }
    return value;
}

int pointer_text(json_t *document, const char *pointer, char ret_text[TEMPLATE_VALUE_BYTES_MAX + 1],
                 didi_error *error)
{
    const json_t *value = pointer_find(document, pointer);
    if (value == NULL)
        return didi_fail(error, DIDI_INVALID, pointer, "the payload has nothing at %s", pointer);
    if (json_is_integer(value)) {
        (void)snprintf(ret_text, TEMPLATE_VALUE_BYTES_MAX + 1, "%" JSON_INTEGER_FORMAT,
                       json_integer_value(value));
        return DIDI_OK;
    }
    if (!json_is_string(value))
        return didi_fail(error, DIDI_INVALID, pointer,
                         "the payload has %s at %s, and no string or whole number",
                         field_type_name(value), pointer);
    if (json_string_length(value) > TEMPLATE_VALUE_BYTES_MAX)
        return didi_fail(error, DIDI_INVALID, pointer,
                         "the payload has a string of %zu bytes at %s; at most %d are taken",
                         json_string_length(value), pointer, TEMPLATE_VALUE_BYTES_MAX);
    memcpy(ret_text, json_string_value(value), json_string_length(value) + 1);
    return DIDI_OK;
}

/* ---- templates ---- */

typedef struct expansion {
    json_t *payload; /* NULL: checked only */
    const json_t *maps;
    size_t places;
    const char *at; /* in the template */
    didi_error *error;
} expansion;

static int place_fail(const expansion *self, const char *why, const char *what)
{
    return didi_fail(self->error, DIDI_INVALID, self->at, "%s: %.200s", why, what);
}

static void filter_name(char *text)
{
    for (char *at = text; *at != '\0'; at++)
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", *at) ==
            NULL)
            *at = '-';
    if (text[0] == '.')
        text[0] = '-';
    if (strlen(text) > LIMIT_TASK_NAME_BYTES)
        text[LIMIT_TASK_NAME_BYTES] = '\0';
}

/* `filter` is "name" or "map MAP". */
static int filter_apply(const expansion *self, const char *filter,
                        char text[TEMPLATE_VALUE_BYTES_MAX + 1])
{
    if (strcmp(filter, "name") == 0) {
        filter_name(text);
        return DIDI_OK;
    }
    const json_t *map =
        strncmp(filter, "map ", 4) == 0 ? json_object_get(self->maps, filter + 4) : NULL;
    if (map == NULL)
        return place_fail(self, "no such filter (name, or map NAME of a map of this hook)", filter);
    if (self->payload == NULL)
        return DIDI_OK;
    const json_t *found = json_object_get(map, text);
    if (found == NULL)
        return place_fail(self, "the map has nothing for this value", text);
    (void)snprintf(text, TEMPLATE_VALUE_BYTES_MAX + 1, "%s", json_string_value(found));
    return DIDI_OK;
}

/* What stands between {{ and }}: a pointer, then filters behind bars. */
static int place_expand(expansion *self, char *inner, char ret_text[TEMPLATE_VALUE_BYTES_MAX + 1])
{
    char *bar = strchr(inner, '|');
    if (bar != NULL)
        *bar = '\0';
    const char *pointer = text_trim(inner);
    if (++self->places > TEMPLATE_PLACES_MAX)
        return place_fail(self, "too many substitutions; at most 1024 are taken", pointer);
    if (pointer[0] != '/' || !pointer_is_valid(pointer))
        return place_fail(self, "not a JSON pointer, as in {{/data/name}}", pointer);
    if (self->payload == NULL) {
        (void)snprintf(ret_text, TEMPLATE_VALUE_BYTES_MAX + 1, "x%zu", self->places);
    } else {
        didi_error why = {0};
        int status = pointer_text(self->payload, pointer, ret_text, &why);
        if (status != DIDI_OK)
            return didi_fail(self->error, status, self->at, "%s", why.message);
    }
    while (bar != NULL) {
        char *filter = bar + 1;
        bar = strchr(filter, '|');
        if (bar != NULL)
            *bar = '\0';
        int status = filter_apply(self, text_trim(filter), ret_text);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

/* Appends within TEMPLATE_TEXT_BYTES_MAX. */
static int text_append(const expansion *self, char *text, size_t *used, const char *from,
                       size_t bytes)
{
    if (bytes > TEMPLATE_TEXT_BYTES_MAX - *used)
        return place_fail(self, "the string is longer than 4096 bytes", "");
    memcpy(text + *used, from, bytes);
    *used += bytes;
    return DIDI_OK;
}

static int string_expand(expansion *self, const char *from, json_t **ret_value)
{
    char text[TEMPLATE_TEXT_BYTES_MAX];
    char inner[TEMPLATE_POINTER_BYTES_MAX * 2];
    char value[TEMPLATE_VALUE_BYTES_MAX + 1];
    size_t used = 0;
    int status = DIDI_OK;
    while (status == DIDI_OK) {
        const char *open = strstr(from, "{{");
        size_t plain = open != NULL ? (size_t)(open - from) : strlen(from);
        status = text_append(self, text, &used, from, plain);
        if (open == NULL || status != DIDI_OK)
            break;
        const char *close = strstr(open, "}}");
        if (close == NULL || (size_t)(close - open - 2) >= sizeof inner)
            return place_fail(self, "{{ without its }}", open);
        (void)snprintf(inner, sizeof inner, "%.*s", (int)(close - open - 2), open + 2);
        status = place_expand(self, inner, value);
        if (status == DIDI_OK)
            status = text_append(self, text, &used, value, strlen(value));
        from = close + 2;
    }
    if (status != DIDI_OK)
        return status;
    *ret_value = json_stringn(text, used);
    return *ret_value != NULL ? DIDI_OK : place_fail(self, "not UTF-8", "");
}

static int value_expand(expansion *self, json_t *from, const char *at, json_t **ret_value);

static int object_expand(expansion *self, json_t *from, const char *at, json_t *into)
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const char *key;
    json_t *value;
    json_object_foreach(from, key, value)
    {
        json_t *made = NULL;
        field_pointer(child, at, key);
        int status = value_expand(self, value, child, &made);
        if (status != DIDI_OK)
            return status;
        if (json_object_set_new(into, key, made) != 0)
            return didi_fail(self->error, DIDI_NO_MEMORY, NULL, "no memory to expand a template");
    }
    return DIDI_OK;
}

static int array_expand(expansion *self, json_t *from, const char *at, json_t *into)
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    for (size_t i = 0; i < json_array_size(from); i++) {
        json_t *made = NULL;
        field_pointer_index(child, at, i);
        int status = value_expand(self, json_array_get(from, i), child, &made);
        if (status != DIDI_OK)
            return status;
        if (json_array_append_new(into, made) != 0)
            return didi_fail(self->error, DIDI_NO_MEMORY, NULL, "no memory to expand a template");
    }
    return DIDI_OK;
}

static int value_expand(expansion *self, json_t *from, const char *at, json_t **ret_value)
{
    self->at = at;
    if (json_is_string(from)) {
        int done = string_expand(self, json_string_value(from), ret_value);
        self->at = "";
        return done;
    }
    self->at = "";
    bool nests = json_is_object(from) || json_is_array(from);
    json_t *made = json_is_object(from)  ? json_object()
                   : json_is_array(from) ? json_array()
                                         : json_deep_copy(from);
    if (made == NULL)
        return didi_fail(self->error, DIDI_NO_MEMORY, NULL, "no memory to expand a template");
    int status = !nests                 ? DIDI_OK
                 : json_is_object(from) ? object_expand(self, from, at, made)
                                        : array_expand(self, from, at, made);
    if (status == DIDI_OK)
        *ret_value = made;
    else
        json_decref(made);
    return status;
}

int template_expand(json_t *template, json_t *payload, const json_t *maps, json_t **ret_value,
                    didi_error *error)
{
    expansion self = {.payload = payload, .maps = maps, .error = error};
    return value_expand(&self, template, "", ret_value);
}
