/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request for a model from elsewhere. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>

typedef struct fetch_request {
    char *name;   /* what the model will be called */
    char *source; /* "hf:ORG/NAME[@REVISION]", "https://...", or a path */
} fetch_request;

/* Reads {"name": "...", "source": "..."}. Errors as specification_parse. Clear *ret_request with
 * fetch_request_clear. */
int fetch_request_parse(const char *text, size_t bytes, size_t bytes_max,
                        fetch_request *ret_request, didi_error *error);

void fetch_request_clear(fetch_request *request);
