/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the manifests of succeeded jobs. */
#pragma once

#include "daemon/jobs/jobs.h"

#include <jansson.h>

typedef struct api_figures api_figures;

/* NULL when out of memory. */
api_figures *api_figures_create(void);
void api_figures_free(api_figures *self);

/* The whole manifest of a job. Caller owns *ret_manifest. Errors: DIDI_NOT_FOUND, DIDI_IO,
 * DIDI_FORMAT, DIDI_NO_MEMORY. */
int api_manifest_read(scheduler *jobs, const char *job_id, json_t **ret_manifest,
                      didi_error *error);

/* The figures that a job's own page shows: {"budget", "error": {"relative", "per_task"}}, kept in
 * memory after the first time. A new reference, NULL when there are none. Thread-safe. */
json_t *api_figures_get(api_figures *self, scheduler *jobs, const char *job_id);
