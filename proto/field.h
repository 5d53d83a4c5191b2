/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of JSON objects and the C structs they fill: one table reads and writes both ways. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct json_field json_field;

/* Reads `value` into the member of `object` at field->offset. Errors: DIDI_INVALID with `pointer`
 * as subject, DIDI_NO_MEMORY. */
typedef int (*field_read)(const json_field *field, json_t *value, void *object, const char *pointer,
                          didi_error *error);
/* A new reference, or NULL when out of memory. */
typedef json_t *(*field_write)(const json_field *field, const void *object);

struct json_field {
    const char *key;
    field_read read;
    field_write write;
    size_t offset;
    bool required;
    double lowest, highest;   /* numbers; lists: counts */
    bool above_lowest;        /* `lowest` itself is out */
    const char *const *words; /* choices, in the order of their enumeration; ends with NULL */
    bool (*check)(const char *text);
    const char *expected;                  /* what `check` wants, for messages */
    bool (*is_absent)(const void *object); /* what is absent is not written */
    const json_field *fields; /* nested objects share the struct; ends with a NULL key */
};

/* double */
int field_real_read(const json_field *field, json_t *value, void *object, const char *pointer,
                    didi_error *error);
json_t *field_real_write(const json_field *field, const void *object);
#define FIELD_REAL .read = field_real_read, .write = field_real_write

/* int64_t; 3.0 is an integer, 3.5 is not */
int field_integer_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error);
json_t *field_integer_write(const json_field *field, const void *object);
#define FIELD_INTEGER .read = field_integer_read, .write = field_integer_write

/* bool */
int field_boolean_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error);
json_t *field_boolean_write(const json_field *field, const void *object);
#define FIELD_BOOLEAN .read = field_boolean_read, .write = field_boolean_write

/* int, an index of field->words */
int field_choice_read(const json_field *field, json_t *value, void *object, const char *pointer,
                      didi_error *error);
json_t *field_choice_write(const json_field *field, const void *object);
#define FIELD_CHOICE .read = field_choice_read, .write = field_choice_write

/* char *, freed and replaced */
int field_text_read(const json_field *field, json_t *value, void *object, const char *pointer,
                    didi_error *error);
json_t *field_text_write(const json_field *field, const void *object);
#define FIELD_TEXT .read = field_text_read, .write = field_text_write

/* field_texts: a list of at most `highest` texts, each as `check` wants it; freed and replaced */
typedef struct field_texts {
    char **texts;
    size_t count;
} field_texts;
int field_texts_read(const json_field *field, json_t *value, void *object, const char *pointer,
                     didi_error *error);
json_t *field_texts_write(const json_field *field, const void *object);
void field_texts_clear(field_texts *list);
#define FIELD_TEXTS .read = field_texts_read, .write = field_texts_write

/* A nested object whose fields lie in the same struct. */
int field_object_read(const json_field *field, json_t *value, void *object, const char *pointer,
                      didi_error *error);
json_t *field_object_write(const json_field *field, const void *object);
#define FIELD_OBJECT .read = field_object_read, .write = field_object_write

/* Reads a whole object by a table that ends with a NULL key: unknown fields and missing required
 * ones are errors. `pointer` is where the object lies ("" for the document). */
int field_read_all(const json_field *fields, json_t *value, void *object, const char *pointer,
                   didi_error *error);
json_t *field_write_all(const json_field *fields, const void *object);

/* Writes "pointer/key" with the escapes of RFC 6901, cut when it does not fit. */
void field_pointer(char ret_pointer[DIDI_ERROR_SUBJECT_BYTES_MAX], const char *pointer,
                   const char *key);
void field_pointer_index(char ret_pointer[DIDI_ERROR_SUBJECT_BYTES_MAX], const char *pointer,
                         size_t index);

/* "an object", "a string", ...: what a value is, for messages. Static. */
const char *field_type_name(const json_t *value);
