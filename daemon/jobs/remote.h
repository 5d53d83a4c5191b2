/* SPDX-License-Identifier: Apache-2.0 */
/* The items of one merge on a cluster: given out as orders of tasks, looked for, taken up. Orders
 * lie in jobs/<id>/cluster/<number>. Internal to the room.
 *
 * All functions on the loop thread; what blocks runs beside it, one thing at a time. */
#pragma once

#include "daemon/jobs/scheduler_internal.h"

typedef struct remote remote;

/* Of a running attempt, whose merge was opened with `elsewhere`. `merged` is the specification's
 * text that the merge was opened by, `work` its work directory below the job's. Errors: DIDI_IO,
 * DIDI_NO_MEMORY. */
int remote_create(attempt *of, const char *merged, const char *work, remote **ret_remote,
                  didi_error *error);

/* Gives out, looks, takes up; at every tick, as long as the merge has not finished. */
void remote_tick(remote *self);

/* Adds its tasks that wait and that run, when last looked at. */
void remote_count(const remote *self, size_t *waiting, size_t *running);

/* Nothing may be in flight, as when the merge has finished. NULL is fine. */
void remote_free(remote *self);

/* Before a merge is opened over states that it may not keep: ends orders that an earlier attempt
 * left, and waits until they are gone. On any thread but the loop's. Errors: DIDI_UNAVAILABLE,
 * DIDI_CLUSTER, DIDI_IO, DIDI_NO_MEMORY. */
int remote_end_orders(const scheduler *owner, const char *id, int job_fd, didi_error *error);
