/* SPDX-License-Identifier: Apache-2.0 */
/* Spectra and bases of foreground merges: taken from a directory, left in one. */
#pragma once

#include "src/base/base.h"
#include "src/didi.h"

/* Either may be NULL. */
typedef struct run_keep {
    const char *keep;  /* directory to make, absent or empty before */
    const char *reuse; /* one made so */
} run_keep;

/* Opens what is to be started from, if anything; the caller closes *ret_reuse_fd. `from_job`, of
 * the specification, must be NULL. Errors: DIDI_INVALID, DIDI_NOT_FOUND, DIDI_IO. */
int run_keep_open(const run_keep *self, const char *from_job, int *ret_reuse_fd, didi_error *error);

/* Moves the work directory of a finished merge to where it is to be kept. Errors: DIDI_CONFLICT
 * (something is there), DIDI_IO. */
int run_keep_finish(const run_keep *self, int holder_fd, int work_fd, didi_error *error);
