/* SPDX-License-Identifier: Apache-2.0 */
/* Where the database lies: noticed when the state directory, the database or its log is deleted or
 * replaced while it is in use. Internal to the store; one thread at a time. */
#pragma once

#include "daemon/store/mark.h"
#include "src/base/base.h"

typedef struct place place;

/* Remembers what lies at the path now; the database is open and its mark written. Caller closes.
 * Errors: DIDI_IO, DIDI_NOT_FOUND, DIDI_NO_MEMORY. */
int place_open(const char *directory, place **ret_place, didi_error *error);
void place_close(place *self);

/* DIDI_IO unless the very same still lie there. Some microseconds. */
int place_check(const place *self, didi_error *error);

/* Writes the mark, unsynced. Errors: DIDI_IO, DIDI_DISK_FULL. */
int place_mark(const place *self, const database_mark *mark, didi_error *error);

/* Syncs the mark. NULL is fine. */
void place_settle(const place *self);
