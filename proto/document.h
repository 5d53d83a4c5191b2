/* SPDX-License-Identifier: Apache-2.0 */
/* JSON and YAML documents from outside (bounded, strict) and back to text (numbers that read back
 * equal). */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Reads one JSON value. Refuses keys given twice, \u0000, nesting beyond LIMIT_JSON_DEPTH, text
 * longer than bytes_max, and anything after the value. Errors: DIDI_FORMAT with line and column,
 * DIDI_NO_MEMORY. Caller owns *ret_value. */
int document_parse(const char *text, size_t bytes, size_t bytes_max, json_t **ret_value,
                   didi_error *error);

/* Reads one YAML document into what the same JSON gives, with the same limits. Plain scalars are
 * those of the core schema of YAML 1.2: no, on and off are strings. Refuses aliases, anchors, tags
 * other than !!str, infinity and NaN. Errors and ownership as above. */
int document_parse_yaml(const char *text, size_t bytes, size_t bytes_max, json_t **ret_value,
                        didi_error *error);

/* True of a file whose name ends in .yaml or .yml; of other names, but .json, true where the text
 * begins with neither { nor [. */
bool document_is_yaml(const char *name, const char *text, size_t bytes);

/* Reads the text as what it is by document_is_yaml. */
int document_parse_named(const char *name, const char *text, size_t bytes, size_t bytes_max,
                         json_t **ret_value, didi_error *error);

/* One line of JSON, 15 digits where they are enough, else 17; caller frees. NULL when out of
 * memory. */
char *document_render(const json_t *value);
