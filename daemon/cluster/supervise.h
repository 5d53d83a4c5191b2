/* SPDX-License-Identifier: Apache-2.0 */
/* A command that outlives the daemon, with a process of ours that waits for it. Files of a NAME in
 * the order's directory tell of it: NAME.lock is locked while the waiting process lives and holds
 * its number, NAME.log has what the command says, and NAME.status appears whole when it ended. */
#pragma once

#include "daemon/cluster/executor.h"

typedef enum supervised {
    SUPERVISED_NONE, /* it was never started */
    SUPERVISED_RUNNING,
    SUPERVISED_ENDED, /* with *ret_code: its exit code, or 128 and the signal that killed it */
    SUPERVISED_LOST,  /* its process and the one that waits for it died */
} supervised;

/* Errors: DIDI_IO, DIDI_CLUSTER (the directory is not there). */
int supervise_look(const char *directory, const char *name, supervised *ret_state, int *ret_code,
                   didi_error *error);
/* Ends it by SIGTERM, after some seconds by SIGKILL, without waiting for that. One that ended is
 * fine. Errors: DIDI_IO, DIDI_CLUSTER. */
int supervise_cancel(const char *directory, const char *name, didi_error *error);
