/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest.json as it lies on disk. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>

/* Reads the manifest of a package, an object; the caller's to release. Errors: DIDI_NOT_FOUND,
 * DIDI_IO, DIDI_FORMAT (not a JSON object, or too long), DIDI_NO_MEMORY. */
int manifest_file_read(int package_fd, json_t **ret_manifest, didi_error *error);

/* The row of a list whose `key` says `value` (which may be NULL), or NULL. */
json_t *manifest_file_row(const json_t *rows, const char *key, const char *value);

/* The files listed of the base; NULL when they are not listed. */
const json_t *manifest_file_base(const json_t *manifest);
