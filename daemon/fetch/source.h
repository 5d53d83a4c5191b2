/* SPDX-License-Identifier: Apache-2.0 */
/* Where a model is to come from, as a client spells it. */
#pragma once

#include "proto/proto.h"
#include "src/base/base.h"

#include <stdbool.h>

typedef enum source_kind { SOURCE_HUB, SOURCE_URL, SOURCE_PATH, SOURCE_S3 } source_kind;

typedef struct fetch_source {
    source_kind kind;
    char text[LIMIT_SOURCE_BYTES + 1];           /* URL without fragment, or path; of S3 the URL */
    char repository[LIMIT_MODEL_NAME_BYTES + 1]; /* "ORG/NAME" */
    char revision[LIMIT_MODEL_NAME_BYTES + 1];   /* "main" where none is named */
    bool is_named_revision;
    char sha256[65]; /* of a URL; "" when it is not known */
} fetch_source;

/* Errors: DIDI_INVALID with "/source" or "/name" as subject: the name of a hub's model is the
 * repository's, with its revision. */
int source_parse(const char *name, const char *text, fetch_source *ret_source, didi_error *error);
