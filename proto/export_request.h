/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request for exports. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>

typedef struct export_request {
    char **tasks; /* NULL when all tasks are meant */
    size_t task_count;
} export_request;

/* Reads {"format": "full", "tasks": [...]}. Errors as specification_parse, also a task given
 * twice. Clear *ret_request with export_request_clear. */
int export_request_parse(const char *text, size_t bytes, size_t bytes_max,
                         export_request *ret_request, didi_error *error);

void export_request_clear(export_request *request);
