/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs and plans in words, for people. */
#pragma once

#include "client/view/output.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>

/* One remark on how a job ended: state, time, error and ratio. */
void summary_note(const client_output *output, const json_t *job);

/* All that is known of a job, to stdout. Errors: CLIENT_FAILURE. */
int summary_job(client_output *output, const json_t *job, didi_error *error);

/* What a job would take, to stdout, with a table of its matrices if `layers`. */
int summary_plan(client_output *output, const json_t *plan, bool layers, didi_error *error);
