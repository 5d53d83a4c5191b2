/* SPDX-License-Identifier: Apache-2.0 */
/* The file didid.mark beside the database: which database was used last, and how many commits it
 * had. A database that has fewer went back in time: its log was lost, or an old copy was put in its
 * place. Internal to the store.
 *
 * It is written after each commit, without a sync, so it never tells of more than the database
 * has: a crash of the process loses nothing, and after a power cut it may be behind. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stdint.h>

enum { MARK_DATABASE_ID_BYTES = 33 };
#define MARK_NAME "didid.mark"

typedef struct database_mark {
    char database_id[MARK_DATABASE_ID_BYTES]; /* hex */
    int64_t commits;
} database_mark;

/* *ret_found is false where there is none. Errors: DIDI_FORMAT (it is damaged), DIDI_IO. */
int mark_read(int directory_fd, database_mark *ret_mark, bool *ret_found, didi_error *error);

/* Puts a new one in the place of what is there, synced. Errors: DIDI_IO, DIDI_DISK_FULL. */
int mark_replace(int directory_fd, const database_mark *mark, didi_error *error);

/* Writes it over the one that `fd` has open, unsynced. Errors: DIDI_IO, DIDI_DISK_FULL. */
int mark_write(int fd, const database_mark *mark, didi_error *error);
