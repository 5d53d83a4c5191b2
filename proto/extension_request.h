/* SPDX-License-Identifier: Apache-2.0 */
/* A request to extend a finished job: what POST /v1/jobs takes in place of a whole specification.
 *
 *   {"extend": {"job": ID, "remove": [NAME...], "budget": X, "rebalance": B, "compare": B},
 *    "tasks": [tasks to add], "name": ..., "labels": ..., "priority": ...}
 *
 * All else is taken from that job. */
#pragma once

#include "proto/specification.h"

#include <jansson.h>

/* True for such a body; another is a specification. */
bool extension_request_is(const json_t *document);

/* The job to extend. Errors: DIDI_INVALID (no string). */
int extension_request_job(const json_t *request, const char **ret_job, didi_error *error);

/* The whole specification of the new job (after extension_request_job), from the manifest of the
 * one it extends: the tasks kept and those added, and `extend` with the names added and what each
 * may cost. Errors: DIDI_INVALID (subject = JSON pointer into the request), DIDI_FORMAT (a manifest
 * that says too little), DIDI_NO_MEMORY. Free *ret_specification with specification_free. */
int extension_request_resolve(json_t *request, const json_t *manifest,
                              specification **ret_specification, didi_error *error);
