/* SPDX-License-Identifier: Apache-2.0 */
/* The full merge that an extension of a job is compared with. Internal to the room. */
#pragma once

#include "daemon/jobs/scheduler_internal.h"

/* Opens the full merge of the same tasks and total, whose artifacts stay in the job's directory
 * until it ends; self->merge is left NULL, with the reason, where that cannot be. */
void compare_open(attempt *self, const char *text, int job_fd);
/* Its outcome; false when the job ends with it (cancelled, or the daemon stops). */
bool compare_end(attempt *self);
/* The progress of both merges as one number. */
double compare_progress(const attempt *self, double progress);
/* Directory of the artifacts to compare with, or -1. */
int compare_artifacts(const attempt *self, int job_fd);
