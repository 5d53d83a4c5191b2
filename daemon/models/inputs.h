/* SPDX-License-Identifier: Apache-2.0 */
/* From a job specification to the options of a merge, with its models opened beneath the roots. */
#pragma once

#include "daemon/models/roots.h"
#include "proto/proto.h"
#include "src/didi.h"

typedef struct planner planner;

/* Opens base and tasks. The specification must outlive the planner. Errors: DIDI_NOT_FOUND and
 * DIDI_IO with the field's JSON pointer as subject and the model named in the message,
 * DIDI_NO_MEMORY. */
int planner_create(const model_roots *roots, const specification *from, planner **ret_planner,
                   didi_error *error);

/* Closes the models. NULL is fine. Not before didi_merge_open has duplicated them. */
void planner_free(planner *self);

/* The options: all of the specification, no output (output_fd -1). The caller sets memory_limit,
 * workers and, for a run, work_fd, output_fd, output_name; and extend.package_fd when the
 * specification extends a job (its tasks are then those added). Lives as long as the planner. */
didi_merge_options *planner_options(planner *self);
