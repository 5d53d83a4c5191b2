/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request for exports. */
#pragma once

#include "proto/field.h"
#include "src/base/base.h"

#include <stddef.h>

typedef struct export_request {
    int format;        /* 0, "full", is the only one */
    field_texts tasks; /* none when all are meant */
} export_request;

/* Reads {"format": "full", "tasks": [...]}. Errors as specification_parse, also a task given
 * twice. Clear *ret_request with export_request_clear. */
int export_request_parse(const char *text, size_t bytes, size_t bytes_max,
                         export_request *ret_request, didi_error *error);

void export_request_clear(export_request *request);
