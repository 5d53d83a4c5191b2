/* SPDX-License-Identifier: Apache-2.0 */
/* The state directory: made, opened, held by one daemon at a time. */
#pragma once

#include "src/base/base.h"

typedef struct state_dir state_dir;

/* Makes the directory (its parent must exist, mode 0750), takes the lock file in it. Errors:
 * DIDI_CONFLICT (another daemon holds it; the message tells its process id), DIDI_NOT_FOUND,
 * DIDI_IO, DIDI_DISK_FULL, DIDI_NO_MEMORY. */
int state_dir_open(const char *path, state_dir **ret_state, didi_error *error);

/* As state_dir_open, but the directory must be there. */
int state_dir_open_existing(const char *path, state_dir **ret_state, didi_error *error);

/* Takes the directory `path` too, and links the directories of jobs' files in the state directory
 * to ones in it, where others see them: the database stays where it is. Those that are there and
 * empty give way. Errors: those of state_dir_open, and DIDI_CONFLICT (there are files already, or a
 * link that leads elsewhere). */
int state_dir_share(const state_dir *self, const char *path, state_dir **ret_shared,
                    didi_error *error);

/* Releases the lock. NULL is fine. */
void state_dir_close(state_dir *self);

/* The directory, open. */
int state_dir_fd(const state_dir *self);
