/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request for exports. */
#pragma once

#include "proto/field.h"
#include "src/base/base.h"

#include <stddef.h>

/* How a task is written, and the folder beside a package's files where its own are. */
#define EXPORT_FORMAT_TABLE(X)                                                                     \
    X(FULL, "full", "models")   /* a checkpoint: models/TASK/model.safetensors */                  \
    X(PEFT, "peft", "adapters") /* a LoRA that servers load: adapters/TASK/ */                     \
    X(PEFT_EXACT, "peft-exact", "adapters-exact") /* one for PEFT alone */                         \
    X(ROUTER, "router", "routers") /* what routes to it: routers/TASK/router.safetensors */

typedef enum export_format {
#define EXPORT_FORMAT_ENUMERATOR(id, word, folder) EXPORT_FORMAT_##id,
    EXPORT_FORMAT_TABLE(EXPORT_FORMAT_ENUMERATOR)
#undef EXPORT_FORMAT_ENUMERATOR
        EXPORT_FORMAT_COUNT
} export_format;

const char *export_format_name(export_format format);
const char *export_format_folder(export_format format);
/* The files of one task in there, ended by NULL; the first one has the numbers. */
const char *const *export_format_files(export_format format);
/* EXPORT_FORMAT_COUNT where there is no such word. */
export_format export_format_find(const char *word);

typedef struct export_request {
    int format;        /* export_format */
    int64_t max_rank;  /* of adapters, 0: as packaged; directions of routers */
    field_texts tasks; /* none when all are meant */
} export_request;

/* Reads {"format": ..., "max_rank": N, "tasks": [...]}. Errors as specification_parse, also a task
 * given twice, and a max_rank that the format cannot have. Clear *ret_request with
 * export_request_clear. */
int export_request_parse(const char *text, size_t bytes, size_t bytes_max,
                         export_request *ret_request, didi_error *error);

void export_request_clear(export_request *request);
