/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a job's results against their manifest. Internal to the room. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stdint.h>

/* Reads jobs/<id>/artifacts/manifest.json below `parent_fd` and compares size and SHA-256 of every
 * file that it lists. *ret_manifest, which may be NULL, gets the manifest. The counters are added
 * to. Errors: DIDI_NOT_FOUND (no manifest, a file is missing), DIDI_FORMAT (not a manifest, another
 * size or digest), DIDI_IO, DIDI_NO_MEMORY. */
int package_check(int parent_fd, const char *id, json_t **ret_manifest, uint64_t *files,
                  uint64_t *bytes, didi_error *error);
