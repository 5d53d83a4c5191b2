/* SPDX-License-Identifier: Apache-2.0 */
/* Artifacts at S3: stored after they are published here and before the job has succeeded; brought
 * back for who needs them as files. Internal to the room. */
#pragma once

#include "daemon/jobs/scheduler_internal.h"

/* Errors: DIDI_INVALID (a setting), DIDI_NO_MEMORY. */
int storage_create(scheduler *self, didi_error *error);
void storage_free(scheduler *self);

/* Stores a published job's files where artifact_store says so; what it fails with is the attempt's
 * status. On a pool thread. */
void storage_send(attempt *of);

/* Removes files that are stored from artifacts/ if the settings say so and nobody asked for them
 * lately. On any thread. */
void storage_trim(scheduler *self, const char *id, int job_fd);

/* Deletes the objects of the job whose directory `name` is. False: some may be left, and the reason
 * is in the log. On any thread. */
bool storage_delete(scheduler *self, int parent_fd, const char *name);

/* Opens jobs/<id>/artifacts with all its files; the caller closes. Those at S3 alone are brought
 * back first or, without `may_wait`, in the background: DIDI_CONFLICT. Errors: those of
 * deposit_restore, of files. On any thread. */
int storage_open_package(scheduler *self, const char *id, bool may_wait, int *ret_fd,
                         didi_error *error);

/* Brings back what was asked for, and removes again what nobody used for long. */
void storage_tick(scheduler *self);
