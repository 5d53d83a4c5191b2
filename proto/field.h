/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of JSON objects and the C structs they fill: one table reads and writes both ways. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct json_field json_field;

/* What a member is in C. */
typedef struct field_kind {
    /* Reads `value` into the member of `object` at field->offset. Errors: DIDI_INVALID with
     * `pointer` as subject, DIDI_NO_MEMORY. */
    int (*read)(const json_field *field, json_t *value, void *object, const char *pointer,
                didi_error *error);
    /* A new reference, null for what is absent; NULL when out of memory. */
    json_t *(*write)(const json_field *field, const void *object);
} field_kind;

struct json_field {
    const char *key;
    const field_kind *kind;
    size_t offset;
    bool required;
    double lowest, highest;   /* numbers; lists: counts */
    bool above_lowest;        /* `lowest` itself is out */
    const char *const *words; /* choices, in the order of their enumeration; ends with NULL */
    bool (*check)(const char *text);
    const char *expected;                  /* what `check` wants, for messages */
    bool (*is_absent)(const void *object); /* what is absent is not written, as null is not */
    const json_field *fields; /* nested objects share the struct; ends with a NULL key */
};

/* A list of texts. */
typedef struct field_texts {
    char **texts;
    size_t count;
} field_texts;
void field_texts_clear(field_texts *list);

extern const field_kind field_real;    /* double */
extern const field_kind field_integer; /* int64_t; 3.0 is an integer, 3.5 is not */
extern const field_kind field_boolean; /* bool */
extern const field_kind field_choice;  /* int, an index of the words */
extern const field_kind field_text;    /* char *, freed and replaced; NULL is absent */
extern const field_kind field_list;    /* field_texts, freed and replaced */
extern const field_kind field_object;  /* its fields lie in the same struct */

/* A kind with what it needs. */
#define FIELD_REAL(low, high) .kind = &field_real, .lowest = (low), .highest = (high)
#define FIELD_INTEGER(low, high) .kind = &field_integer, .lowest = (low), .highest = (high)
#define FIELD_CHOICE(list) .kind = &field_choice, .words = (list)
#define FIELD_TEXT(test, wanted) .kind = &field_text, .check = (test), .expected = (wanted)
#define FIELD_LIST(most, test, wanted)                                                             \
    .kind = &field_list, .highest = (most), .check = (test), .expected = (wanted)
#define FIELD_OBJECT(table) .kind = &field_object, .fields = (table)

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

/* Fails because `key` must be what is `wanted`. Returns DIDI_INVALID. */
int field_fail_type(const char *key, const char *wanted, const json_t *value, const char *pointer,
                    didi_error *error);
