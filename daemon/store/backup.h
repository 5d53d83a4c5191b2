/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of the database: made while it is used, and put back. */
#pragma once

#include "src/base/base.h"

typedef struct store store;

/* A compact, consistent copy in the new file `target`, synced; writers go on meanwhile. Errors:
 * DIDI_IO, DIDI_DISK_FULL, DIDI_FORMAT (the database is damaged). */
int store_backup(store *self, const char *target, didi_error *error);

/* Puts the copy `path` into the place of the database of the state directory, which nobody uses and
 * whose lock the caller holds. What is there is renamed, to ret_aside ("" where there was nothing).
 * The copy is checked first: all pages, references, and that it is of a version that is known.
 * Errors: DIDI_NOT_FOUND, DIDI_CONFLICT (not ours, too new), DIDI_FORMAT (damaged), DIDI_IO,
 * DIDI_DISK_FULL. */
int store_restore(int directory_fd, const char *directory, const char *path, char ret_aside[64],
                  didi_error *error);
