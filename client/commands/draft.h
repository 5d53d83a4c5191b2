/* SPDX-License-Identifier: Apache-2.0 */
/* A job specification put together from a file and from options; the server judges it. */
#pragma once

#include "client/base/base.h"
#include "src/base/base.h"

#include <jansson.h>

enum { DRAFT_FILE_BYTES_MAX = 16 << 20, DRAFT_PATH_DEPTH_MAX = 8 };

/* Reads a JSON object or a YAML mapping (document_is_yaml) from a file, "-" is stdin. Caller
 * decrefs *ret_document. Errors: CLIENT_FAILURE, with advice. */
int draft_read(const char *path, client_advice *advice, json_t **ret_document, didi_error *error);

/* Reads `file` ("-" is stdin, NULL none) and lays the options base, task, budget, name, label,
 * priority and set over it, in this order. Caller decrefs *ret_specification, an object.
 * Errors: CLIENT_USAGE (an option; no base, task or budget at all), CLIENT_FAILURE (the file). */
int draft_create(const char *file, const client_arguments *arguments, client_advice *advice,
                 json_t **ret_specification, didi_error *error);

/* The request to extend a job, from the options add, remove, budget, rebalance, no-compare, name,
 * label and priority. Caller decrefs *ret_request. Errors: CLIENT_USAGE, CLIENT_FAILURE. */
int draft_extend(const char *job, const client_arguments *arguments, json_t **ret_request,
                 didi_error *error);

/* The request for a bake-off, from a file likewise and the options base, task, method, name, label,
 * priority and set. Caller decrefs *ret_request. Errors: CLIENT_USAGE, CLIENT_FAILURE. */
int draft_bakeoff(const char *file, const client_arguments *arguments, client_advice *advice,
                  json_t **ret_request, didi_error *error);
