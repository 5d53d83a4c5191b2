/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing of JSON objects by tables. */
#include "proto/field.h"

#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *field_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

int field_fail_type(const char *key, const char *wanted, const json_t *value, const char *pointer,
                    didi_error *error)
{
    return didi_fail(error, DIDI_INVALID, pointer, "%s must be %s, not %s", key, wanted,
                     field_type_name(value));
}

void field_pointer(char ret_pointer[DIDI_ERROR_SUBJECT_BYTES_MAX], const char *pointer,
                   const char *key)
{
    int written = snprintf(ret_pointer, DIDI_ERROR_SUBJECT_BYTES_MAX, "%s/", pointer);
    size_t length = written < 0 ? 0 : (size_t)written;
    for (; *key != '\0' && length + 3 < DIDI_ERROR_SUBJECT_BYTES_MAX; key++) {
        if (*key == '~' || *key == '/') {
            ret_pointer[length++] = '~';
            ret_pointer[length++] = *key == '~' ? '0' : '1';
        } else {
            ret_pointer[length++] = *key;
        }
        ret_pointer[length] = '\0';
    }
}

void field_pointer_index(char ret_pointer[DIDI_ERROR_SUBJECT_BYTES_MAX], const char *pointer,
                         size_t index)
{
    char key[24];
    snprintf(key, sizeof key, "%zu", index);
    field_pointer(ret_pointer, pointer, key);
}

static int field_out_of_range(const json_field *field, double value, const char *pointer,
                              didi_error *error)
{
    return didi_fail(error, DIDI_INVALID, pointer, "%s is %.17g; it must be %s %.16g and <= %.16g",
                     field->key, value, field->above_lowest ? ">" : ">=", field->lowest,
                     field->highest);
}

static bool field_in_range(const json_field *field, double value)
{
    return isfinite(value) && value <= field->highest &&
           (field->above_lowest ? value > field->lowest : value >= field->lowest);
}

static int real_read(const json_field *field, json_t *value, void *object, const char *pointer,
                     didi_error *error)
{
    if (!json_is_number(value))
        return field_fail_type(field->key, "a number", value, pointer, error);
    double number = json_number_value(value);
    if (!field_in_range(field, number))
        return field_out_of_range(field, number, pointer, error);
    memcpy((char *)object + field->offset, &number, sizeof number);
    return DIDI_OK;
}

static json_t *real_write(const json_field *field, const void *object)
{
    double number;
    memcpy(&number, (const char *)object + field->offset, sizeof number);
    if (number == floor(number) && fabs(number) < 1e15)
        return json_integer((json_int_t)number);
    return json_real(number);
}

const field_kind field_real = {real_read, real_write};

static int integer_read(const json_field *field, json_t *value, void *object, const char *pointer,
                        didi_error *error)
{
    if (!json_is_number(value))
        return field_fail_type(field->key, "an integer", value, pointer, error);
    double number = json_number_value(value);
    if (number != floor(number)) {
        return didi_fail(error, DIDI_INVALID, pointer, "%s is %.17g; it must be an integer",
                         field->key, number);
    }
    if (!field_in_range(field, number))
        return field_out_of_range(field, number, pointer, error);
    int64_t integer = json_is_integer(value) ? json_integer_value(value) : (int64_t)number;
    memcpy((char *)object + field->offset, &integer, sizeof integer);
    return DIDI_OK;
}

static json_t *integer_write(const json_field *field, const void *object)
{
    int64_t integer;
    memcpy(&integer, (const char *)object + field->offset, sizeof integer);
    return json_integer(integer);
}

const field_kind field_integer = {integer_read, integer_write};

static int boolean_read(const json_field *field, json_t *value, void *object, const char *pointer,
                        didi_error *error)
{
    bool flag = json_is_true(value);
    if (!json_is_boolean(value))
        return field_fail_type(field->key, "true or false", value, pointer, error);
    memcpy((char *)object + field->offset, &flag, sizeof flag);
    return DIDI_OK;
}

static json_t *boolean_write(const json_field *field, const void *object)
{
    bool flag;
    memcpy(&flag, (const char *)object + field->offset, sizeof flag);
    return json_boolean(flag);
}

const field_kind field_boolean = {boolean_read, boolean_write};

/* "a, b or c" */
static void field_list_words(const json_field *field, char *text, size_t bytes)
{
    size_t length = 0;
    text[0] = '\0';
    for (size_t word = 0; field->words[word] != NULL && length < bytes; word++) {
        const char *before = word == 0 ? "" : field->words[word + 1] == NULL ? " or " : ", ";
        int written = snprintf(text + length, bytes - length, "%s%s", before, field->words[word]);
        length += written < 0 ? 0 : (size_t)written;
    }
}

static int choice_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error)
{
    char words[256];
    field_list_words(field, words, sizeof words);
    if (!json_is_string(value))
        return field_fail_type(field->key, words, value, pointer, error);
    for (int choice = 0; field->words[choice] != NULL; choice++) {
        if (strcmp(field->words[choice], json_string_value(value)) == 0) {
            memcpy((char *)object + field->offset, &choice, sizeof choice);
            return DIDI_OK;
        }
    }
    return didi_fail(error, DIDI_INVALID, pointer, "%s must be %s, not \"%.100s\"", field->key,
                     words, json_string_value(value));
}

static json_t *choice_write(const json_field *field, const void *object)
{
    int choice;
    memcpy(&choice, (const char *)object + field->offset, sizeof choice);
    assert(choice >= 0);
    return json_string(field->words[choice]);
}

const field_kind field_choice = {choice_read, choice_write};

static int text_read(const json_field *field, json_t *value, void *object, const char *pointer,
                     didi_error *error)
{
    if (!json_is_string(value))
        return field_fail_type(field->key, "a string", value, pointer, error);
    if (!field->check(json_string_value(value))) {
        return didi_fail(error, DIDI_INVALID, pointer, "%s is \"%.200s\"; it must be %s",
                         field->key, json_string_value(value), field->expected);
    }
    char *copy = memory_string(json_string_value(value));
    if (copy == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory for %s", field->key);
    char **member = (char **)(void *)((char *)object + field->offset);
    free(*member);
    *member = copy;
    return DIDI_OK;
}

static json_t *text_write(const json_field *field, const void *object)
{
    char *text;
    memcpy(&text, (const char *)object + field->offset, sizeof text);
    return text != NULL ? json_string(text) : json_null();
}

const field_kind field_text = {text_read, text_write};

static int list_read(const json_field *field, json_t *value, void *object, const char *pointer,
                     didi_error *error)
{
    field_texts *list = (void *)((char *)object + field->offset);
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    size_t count = json_array_size(value);
    if (!json_is_array(value))
        return field_fail_type(field->key, "an array", value, pointer, error);
    if ((double)count > field->highest) {
        return didi_fail(error, DIDI_INVALID, pointer, "%zu entries in %s; at most %.0f are taken",
                         count, field->key, field->highest);
    }
    field_texts_clear(list);
    list->texts = memory_zeroed(count, sizeof *list->texts);
    if (list->texts == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory for %zu texts", count);
    list->count = count;
    for (size_t entry = 0; entry < count; entry++) {
        const json_field element = {.key = field->key,
                                    .offset = entry * sizeof *list->texts,
                                    .check = field->check,
                                    .expected = field->expected};
        field_pointer_index(child, pointer, entry);
        int status = text_read(&element, json_array_get(value, entry), list->texts, child, error);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static json_t *list_write(const json_field *field, const void *object)
{
    field_texts list;
    memcpy(&list, (const char *)object + field->offset, sizeof list);
    json_t *value = json_array();
    for (size_t entry = 0; value != NULL && entry < list.count; entry++) {
        if (json_array_append_new(value, json_string(list.texts[entry])) != 0) {
            json_decref(value);
            value = NULL;
        }
    }
    return value;
}

const field_kind field_list = {list_read, list_write};

void field_texts_clear(field_texts *list)
{
    for (size_t entry = 0; entry < list->count; entry++)
        free(list->texts[entry]);
    free(list->texts);
    *list = (field_texts){0};
}

static int object_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error)
{
    return field_read_all(field->fields, value, object, pointer, error);
}

static json_t *object_write(const json_field *field, const void *object)
{
    return field_write_all(field->fields, object);
}

const field_kind field_object = {object_read, object_write};

static const json_field *field_find(const json_field *fields, const char *key)
{
    for (; fields->key != NULL; fields++)
        if (strcmp(fields->key, key) == 0)
            return fields;
    return NULL;
}

static int fail_unknown(const json_field *fields, const char *key, const char *pointer,
                        didi_error *error)
{
    char meant[NEAREST_TEXT_BYTES];
    nearest near = nearest_begin(key);
    for (const json_field *known = fields; known->key != NULL; known++)
        nearest_try(&near, known->key);
    return didi_fail(error, DIDI_INVALID, pointer, "unknown field \"%.100s\"%s", key,
                     nearest_text(&near, "\"", "\"", meant));
}

int field_read_all(const json_field *fields, json_t *value, void *object, const char *pointer,
                   didi_error *error)
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const char *key;
    json_t *member;
    if (!json_is_object(value))
        return field_fail_type(pointer[0] == '\0' ? "the body" : pointer + 1, "an object", value,
                               pointer, error);
    json_object_foreach(value, key, member)
    {
        field_pointer(child, pointer, key);
        const json_field *known = field_find(fields, key);
        if (known == NULL)
            return fail_unknown(fields, key, child, error);
        int status = known->kind->read(known, member, object, child, error);
        if (status != DIDI_OK)
            return status;
    }
    for (const json_field *known = fields; known->key != NULL; known++) {
        if (known->required && json_object_get(value, known->key) == NULL) {
            field_pointer(child, pointer, known->key);
            return didi_fail(error, DIDI_INVALID, child, "%s is missing", known->key);
        }
    }
    return DIDI_OK;
}

json_t *field_write_all(const json_field *fields, const void *object)
{
    json_t *value = json_object();
    for (; value != NULL && fields->key != NULL; fields++) {
        if (fields->is_absent != NULL && fields->is_absent(object))
            continue;
        json_t *member = fields->kind->write(fields, object);
        if (json_is_null(member))
            continue;
        if (json_object_set_new(value, fields->key, member) != 0) {
            json_decref(value);
            value = NULL;
        }
    }
    return value;
}
