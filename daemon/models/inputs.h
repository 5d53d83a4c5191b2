/* SPDX-License-Identifier: Apache-2.0 */
/* From a job specification to its merge: the models opened beneath the roots, then the merge. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/models/roots.h"
#include "proto/proto.h"
#include "src/didi.h"

typedef struct inputs inputs;

/* Opens base and tasks. The specification must outlive the inputs. Errors: DIDI_NOT_FOUND and
 * DIDI_IO with the field's JSON pointer as subject and the model named in the message,
 * DIDI_NO_MEMORY. */
int inputs_create(const model_roots *roots, const specification *from, inputs **ret_inputs,
                  didi_error *error);

/* Closes the models; merges that were opened have their own. NULL is fine. */
void inputs_free(inputs *self);

/* Where a merge works and what it starts from. Descriptors stay the caller's, -1 for none. */
typedef struct inputs_places {
    int work_fd, output_fd; /* "artifacts" appears in output_fd; neither: a plan only */
    bool volatile_work, keep_work;
    bool elsewhere, worker;        /* as in didi_merge_options */
    int reuse_fd;                  /* what another merge of the same models left */
    int package_fd;                /* to extend, where the specification does */
    int comparison_fd;             /* package of a full merge, for the report */
    const char *comparison_reason; /* why there is none; may be NULL */
} inputs_places;

#define INPUTS_NOWHERE                                                                             \
    {                                                                                              \
        .work_fd = -1, .output_fd = -1, .reuse_fd = -1, .package_fd = -1, .comparison_fd = -1      \
    }

/* Opens the merge, within memory_limit and workers of the settings. `hooks` may be NULL. Errors:
 * those of didi_merge_open. */
int inputs_open_merge(const inputs *self, const config *settings, const inputs_places *places,
                      const didi_merge_hooks *hooks, didi_merge **ret_merge, didi_error *error);
