/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a job's results against their manifest. Internal to the room. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct package_facts {
    json_t *manifest; /* the caller's */
    uint64_t files, bytes;
    bool at_s3; /* some are there alone by the job's record: those were not read */
} package_facts;

/* Reads <id>/artifacts/manifest.json below `parent_fd` and compares size and SHA-256 of every file
 * that it lists and that is here; of others the record of what was stored has to say the same.
 * Errors: DIDI_NOT_FOUND (no manifest, a file is missing), DIDI_FORMAT (not a manifest, another
 * size or digest), DIDI_IO, DIDI_NO_MEMORY. */
int package_check(int parent_fd, const char *id, package_facts *ret_facts, didi_error *error);
