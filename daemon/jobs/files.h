/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of jobs, and making them agree with the rows. Internal to the room. */
#pragma once

#include "daemon/jobs/scheduler.h"

/* ---- files.c ---- */

int files_open(scheduler *self, int state_fd, didi_error *error);
/* Removes the results of a cancelled job: the crash came after the rename of its artifacts. Always
 * 0. */
int files_unpublish(void *self, const char *id);
/* Moves what jobs/ has of this name to lost/, under another name where that is taken. */
void files_set_aside(scheduler *self, const char *name);
/* Files of a job that was deleted. */
void files_remove_deleted(scheduler *self, const char *id);
void files_empty_trash(scheduler *self);
/* Moves what jobs_fd or kept_fd has of this name to the trash, if it is there. */
void files_throw_away(scheduler *self, int parent_fd, const char *name);
/* jobs/<id>; created if `create`. */
int files_open_job(const scheduler *self, const char *id, bool create, int *ret_fd,
                   didi_error *error);
/* True if artifacts/manifest.json is in the job's directory. */
bool files_are_published(int job_fd);
/* Bytes of the files below artifacts/. Errors: DIDI_NOT_FOUND, DIDI_IO. */
int files_measure_artifacts(int job_fd, uint64_t *ret_bytes, didi_error *error);
/* What an interrupted attempt left beside the known directories. */
void files_remove_strays(int job_fd);
/* What a job needs no more once it has succeeded. */
void files_remove_work(int job_fd);
/* Strays and the artifacts; finished layers stay for a retry. */
void files_remove_results(int job_fd);

/* ---- sweep.c ---- */

int sweep_create(scheduler *self, didi_error *error);
void sweep_free(scheduler *self);
/* Starts the next step on the pool, if there is one. */
void sweep_continue(scheduler *self);
