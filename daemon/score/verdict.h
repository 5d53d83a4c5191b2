/* SPDX-License-Identifier: Apache-2.0 */
/* What a scorer's end and its words mean. */
#pragma once

#include "daemon/process/process.h"
#include "daemon/score/score.h"

/* The score, or why there is none. `task` is the subject of errors. Errors: DIDI_SCORER,
 * DIDI_CANCELLED, DIDI_NO_MEMORY. */
int verdict_read(const watch_result *result, const scorer_settings *settings, const char *task,
                 double *ret_score, didi_error *error);
