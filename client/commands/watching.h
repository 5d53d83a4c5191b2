/* SPDX-License-Identifier: Apache-2.0 */
/* Following a job with progress on a stream, as watch, wait and submit --wait do. */
#pragma once

#include "client/commands/command.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdio.h>

/* Where progress goes. */
typedef enum follow_style {
    FOLLOW_SILENT, /* nowhere */
    FOLLOW_BAR,    /* one line redrawn */
    FOLLOW_LINES,  /* a line per change */
    FOLLOW_JSON,   /* a JSON document per change, to stdout */
} follow_style;

/* Follows the job to its end. Caller decrefs *ret_job. Errors: those of job_follow. */
int follow_job(const command_context *context, const char *id, FILE *stream, follow_style style,
               json_t **ret_job, didi_error *error);
