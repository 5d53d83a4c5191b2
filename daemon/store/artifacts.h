/* SPDX-License-Identifier: Apache-2.0 */
/* How many jobs there are and what their artifacts take: kept, never counted or looked up. */
#pragma once

#include "daemon/store/jobs.h"

/* How many jobs are in each state, and what their artifacts take; kept, not counted. */
typedef struct store_counts {
    uint64_t jobs[JOB_STATE_COUNT];
    uint64_t artifact_bytes[JOB_STATE_COUNT]; /* at most, of those that have not succeeded */
} store_counts;
int store_job_counts(store *self, store_counts *ret_counts, didi_error *error);

/* True of an error that artifacts of finished jobs, with what those of unfinished ones may take,
 * would be over the limit. */
bool store_artifacts_over(const didi_error *error);

/* Ids of succeeded jobs whose artifacts nobody has measured, as store_job_ids. */
int store_artifacts_unmeasured(store *self, const char *after, size_t limit,
                               char (**ret_ids)[ID_BYTES], size_t *ret_count, didi_error *error);
/* What the artifacts of one of them take; another job stays as it is. */
int store_artifacts_measured(store *self, const char *id, uint64_t bytes, didi_error *error);
