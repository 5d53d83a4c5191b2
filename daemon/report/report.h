/* SPDX-License-Identifier: Apache-2.0 */
/* The report of a job: one HTML file that is read without the server, and without scripts too;
 * these add the drawings of the dashboard. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>

/* What a report is made of, all borrowed. */
typedef struct report_parts {
    const json_t *job;      /* as GET /v1/jobs/{job} has it */
    const json_t *manifest; /* of its package or survey */
    const json_t *points;   /* its events of kind "point", an array */
} report_parts;

/* The file, UTF-8 that ends with a NUL; the same bytes of the same parts. Nothing of the parts can
 * be read as markup. The caller frees. NULL when out of memory. */
char *report_html(const report_parts *parts);

/* The Content-Security-Policy of the file as a header: nothing but its own script and style. */
const char *report_policy(void);
