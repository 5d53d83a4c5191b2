/* SPDX-License-Identifier: Apache-2.0 */
/* JSON pointers, and templates: documents in whose strings {{...}} stands for what a payload has.
 *
 *   {{/data/name}}             the string or number there
 *   {{/data/name | map models}} what the map "models" has for it
 *   {{/data/name | name}}      the same, as a task may be called: other characters become '-'
 */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stddef.h>

enum {
    TEMPLATE_VALUE_BYTES_MAX = 1024,  /* of what a payload has in one place */
    TEMPLATE_TEXT_BYTES_MAX = 4096,   /* of one string, expanded */
    TEMPLATE_PLACES_MAX = 1024,       /* of substitutions in one template */
    TEMPLATE_POINTER_BYTES_MAX = 512, /* of a pointer */
};

/* True for a JSON pointer (RFC 6901): "" or tokens each begun by '/', '~' only in ~0 and ~1. */
bool pointer_is_valid(const char *text);

/* What `pointer`, which must be valid, names in the document; NULL when there is nothing. */
json_t *pointer_find(json_t *document, const char *pointer);

/* A string, or a whole number as text, of at most TEMPLATE_VALUE_BYTES_MAX bytes, in `ret_text`.
 * Errors: DIDI_INVALID. */
int pointer_text(json_t *document, const char *pointer, char ret_text[TEMPLATE_VALUE_BYTES_MAX + 1],
                 didi_error *error);

/* A copy of the template with everything in its place. `payload` NULL: names "x1", "x2" and so on
 * stand in, to check the template itself. `maps`: an object of objects of strings, or NULL. Errors:
 * DIDI_INVALID with the place in the template as subject ("/tasks/0/model"); DIDI_NO_MEMORY. */
int template_expand(json_t *template, json_t *payload, const json_t *maps, json_t **ret_value,
                    didi_error *error);
