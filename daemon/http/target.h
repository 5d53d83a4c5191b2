/* SPDX-License-Identifier: Apache-2.0 */
/* Request targets: path segments and query, decoded once and strictly. Pure functions. */
#pragma once

#include "daemon/http/range.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    HTTP_TARGET_BYTES_MAX = 8192,
    HTTP_TARGET_SEGMENTS_MAX = 24,
    HTTP_TARGET_PARAMETERS_MAX = 16,
};

typedef struct http_parameter {
    const char *name, *value; /* value is "" for a bare name */
} http_parameter;

/* Strings lie in `storage`. */
typedef struct http_target {
    char storage[HTTP_TARGET_BYTES_MAX];
    const char *segments[HTTP_TARGET_SEGMENTS_MAX];
    size_t segment_count; /* "/" has none */
    bool is_folder;       /* a slash stands behind the last segment */
    http_parameter parameters[HTTP_TARGET_PARAMETERS_MAX];
    size_t parameter_count;
} http_target;

/* Splits and decodes `raw`, as it stood in the request line. Refused: what is not origin form,
 * empty segments (but for one behind the last slash), dot segments, %00, %2f and %5c, control
 * characters, bytes beyond ASCII, '#', broken escapes, texts that are not UTF-8, a parameter given
 * twice, too long or too many of anything. Returns NULL, or the reason (static text). */
const char *http_target_parse(const char *raw, http_target *ret_target);
