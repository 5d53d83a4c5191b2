/* SPDX-License-Identifier: Apache-2.0 */
/* A request for a bake-off: what POST /v1/bakeoffs takes, and the jobs that are made of it.
 *
 *   {"base": MODEL, "tasks": [as in a job], "methods": [NAME or {"method": NAME, "method_options":
 *    {...}, "label": TEXT}...], "sizes": [ratio...], "split": TEXT, "keep_artifacts": B, "name":
 * ..., "labels": ..., "priority": ...} */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stdint.h>

/* Reads a request into one where nothing is left out: every usable method of `known` (the "methods"
 * of didi_methods_json) and some with other options where none is named. `sizes` and `split` are
 * null where they were not given. Errors: DIDI_INVALID (subject = JSON pointer), DIDI_NO_MEMORY.
 * What methods and options mean is not looked at. Caller owns *ret_request. */
int bakeoff_request_read(json_t *document, const json_t *known, json_t **ret_request,
                         didi_error *error);

/* The specification of the job of a method; NULL when out of memory. */
json_t *bakeoff_request_method(const json_t *request, const char *label, const char *method,
                               const json_t *options);
/* Of one that finds out what didi can do at any size. */
json_t *bakeoff_request_survey(const json_t *request);
/* Of didi at a size in bytes, starting from a job unless NULL. */
json_t *bakeoff_request_size(const json_t *request, const char *label, uint64_t bytes,
                             const char *from_job);
