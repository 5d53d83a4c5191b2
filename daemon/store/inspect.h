/* SPDX-License-Identifier: Apache-2.0 */
/* A database looked at without a store: beside the daemon that uses it, or offline. Over a
 * read-only connection of its own, which leaves everything as it is; one thread at a time. */
#pragma once

#include "daemon/base/base.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct store_inspection store_inspection;

/* Opens `didid.db` in the state directory; *ret_current tells whether it has the schema of this
 * program: of another, only its pages can be checked. Caller closes. Errors: DIDI_CONFLICT (not one
 * of didid, of a newer version), DIDI_FORMAT (damaged), DIDI_IO, DIDI_NO_MEMORY. */
int store_inspect_open(const char *directory, store_inspection **ret_inspection, bool *ret_current,
                       didi_error *error);
void store_inspect_close(store_inspection *self);

/* Checks pages, indexes and references; `found` is called for each line of what is wrong, at most
 * `most` of each kind. In proportion to the size. Errors: DIDI_FORMAT (cannot be read), DIDI_IO. */
int store_inspect_check(store_inspection *self, size_t most,
                        void (*found)(void *context, const char *line), void *context,
                        didi_error *error);

typedef struct store_inspected_job {
    char id[ID_BYTES];
    job_state state;
    bool specified; /* its specification is there, and is JSON */
} store_inspected_job;

/* Jobs with ids above `after` ("" for all), ascending, at most `limit`. *ret_count 0: no more.
 * Errors: DIDI_FORMAT (a row that cannot be), DIDI_IO. */
int store_inspect_jobs(store_inspection *self, const char *after, size_t limit,
                       store_inspected_job *ret_jobs, size_t *ret_count, didi_error *error);

/* *ret_known: there is a row of this id, or its files are being deleted. */
int store_inspect_known(store_inspection *self, const char *id, bool *ret_known, didi_error *error);
