/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the manifests of succeeded jobs. */
#pragma once

#include "daemon/jobs/jobs.h"

#include <jansson.h>

typedef struct api_results api_results;

/* NULL when out of memory. */
api_results *api_results_create(void);
void api_results_free(api_results *self);

/* The whole manifest of a job. Caller owns *ret_manifest. Errors: DIDI_NOT_FOUND, DIDI_IO,
 * DIDI_FORMAT, DIDI_NO_MEMORY. */
int api_manifest_read(scheduler *jobs, const char *job_id, json_t **ret_manifest,
                      didi_error *error);

/* The figures that a job's own page shows: {"budget", "error": {"relative", "per_task"}}, kept in
 * memory after the first time. A new reference, NULL when there are none. Thread-safe. */
json_t *api_results_get(api_results *self, scheduler *jobs, const char *job_id);
