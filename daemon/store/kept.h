/* SPDX-License-Identifier: Apache-2.0 */
/* Spectra and bases that finished jobs keep for others. */
#pragma once

#include "daemon/store/jobs.h"

/* Notes what a running job keeps; before its end is recorded. DIDI_CONFLICT if it is not running
 * this attempt. */
int store_job_keep(store *self, const char *id, unsigned attempt, uint64_t bytes,
                   didi_error *error);

/* While all together exceed `limit` bytes, the oldest that no unfinished job starts from keeps
 * nothing any more. One a call: *ret_found is false and ret_id untouched when there is none. */
int store_kept_shrink(store *self, uint64_t limit, char ret_id[ID_BYTES], bool *ret_found,
                      didi_error *error);

/* The files are gone. */
int store_kept_forget(store *self, const char *id, didi_error *error);

/* True while the job `id` keeps its spectra or, itself deleted or not, an unfinished one starts
 * from them. Once false it stays so. */
int store_kept_is_needed(store *self, const char *id, bool *ret_needed, didi_error *error);

/* Calls visit for every job that keeps something. For the sweep at start. */
int store_kept_each(store *self, int (*visit)(void *context, const char *id), void *context,
                    didi_error *error);
