/* SPDX-License-Identifier: Apache-2.0 */
/* JSON documents from outside (bounded, strict) and back to text (numbers that read back equal). */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stddef.h>

/* Reads one JSON value. Refuses keys given twice, \u0000, nesting beyond LIMIT_JSON_DEPTH, text
 * longer than bytes_max, and anything after the value. Errors: DIDI_FORMAT with line and column,
 * DIDI_NO_MEMORY. Caller owns *ret_value. */
int document_parse(const char *text, size_t bytes, size_t bytes_max, json_t **ret_value,
                   didi_error *error);

/* One line of JSON, 15 digits where they are enough, else 17; caller frees. NULL when out of
 * memory. */
char *document_render(const json_t *value);
