/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that lie at S3, for recover. Internal to the room. */
#pragma once

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

enum { STORED_OBJECTS_MAX = 1000000 };

typedef struct stored stored;

typedef struct stored_job {
    char id[ID_BYTES];
    bool whole; /* its manifest is there, which is stored last */
} stored_job;

/* *ret_stored is NULL where the settings name no artifact_store. Keeps the settings' texts. Errors:
 * DIDI_INVALID (a setting), DIDI_NO_MEMORY. */
int stored_open(const config *settings, stored **ret_stored, didi_error *error);
void stored_close(stored *self); /* NULL is fine */

/* Finds the jobs below the prefix. Errors: DIDI_FORMAT (too many objects), those of s3_list. */
int stored_list(stored *self, didi_error *error);

/* Those that were found, by id; none before. */
const stored_job *stored_jobs(const stored *self, size_t *ret_count);
const stored_job *stored_find(const stored *self, const char *id); /* NULL: none */

/* Compares what is at S3 with the record of the job's directory: sizes, ETags, noted digests.
 * Errors: those of deposit_read and deposit_check. */
int stored_check(const stored *self, int job_fd, didi_error *error);

/* Makes record and manifest of the job below `parent_fd` from its objects, all of which are read;
 * of a failure nothing new stays. Errors: those of deposit_rebuild. */
int stored_rebuild(const stored *self, int parent_fd, const char *id, didi_error *error);
