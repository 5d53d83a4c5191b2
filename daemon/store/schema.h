/* SPDX-License-Identifier: Apache-2.0 */
/* What version a database has, bringing it to the newest, and whether it can be read. Internal to
 * the store. */
#pragma once

#include "daemon/store/database.h"
#include "daemon/store/mark.h"

/* The version of the schema, 0 of an empty database; set even where it is refused. Errors:
 * DIDI_CONFLICT (not ours, of a newer didid), DIDI_FORMAT (damaged), DIDI_IO. */
int schema_identify(database *self, int64_t *ret_version, didi_error *error);

/* Refuses a version that this program does not know. DIDI_CONFLICT. */
int schema_refuse(int64_t version, didi_error *error);

/* Brings it to the newest version, a transaction a step; a copy of an older one is made first, as
 * `path`.before-VERSION. Errors: DIDI_CONFLICT, DIDI_IO, DIDI_DISK_FULL, DIDI_FORMAT. */
int schema_migrate(database *self, const char *path, didi_error *error);

/* Reads a little of every table and index; all pages of a small database. Bounded in time. Errors:
 * DIDI_FORMAT (damaged), DIDI_IO. */
int schema_look(database *self, didi_error *error);

/* Every page and index, with `found` called for each line of what is wrong, at most `most` lines.
 * Takes time in proportion to the size. Errors: DIDI_FORMAT (cannot be read at all), DIDI_IO. */
int schema_check(database *self, size_t most, void (*found)(void *context, const char *line),
                 void *context, didi_error *error);

/* Its id and number of commits; false in *ret_has for a version that has none. */
int schema_facts(database *self, database_mark *ret_facts, bool *ret_has, didi_error *error);

/* True if there is a job. */
int schema_has_jobs(database *self, bool *ret_any, didi_error *error);

/* A copy of the whole database, compact and consistent, in the new file `target`. Over any
 * connection; holds its read snapshot meanwhile. Errors: DIDI_IO, DIDI_DISK_FULL, DIDI_FORMAT. */
int schema_copy(database *self, const char *target, didi_error *error);
