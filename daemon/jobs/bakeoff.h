/* SPDX-License-Identifier: Apache-2.0 */
/* Bake-offs: members made into jobs, and what follows when these end. */
#pragma once

#include "daemon/score/score.h"
#include "daemon/store/store.h"
#include "src/base/base.h"

#include <jansson.h>

typedef struct scheduler scheduler;

/* Bake-offs from now on are scored by it, unless NULL; it must outlive the scheduler's work. Before
 * the loop runs. */
int scheduler_set_scorer(scheduler *self, const scorer *used, didi_error *error);

typedef struct bakeoff_order {
    const json_t *request;                                   /* as bakeoff_request_read gives it */
    const char *traceparent, *idempotency_key, *body_digest; /* as in store_submission */
} bakeoff_order;

/* Checks all methods by the headers of the models and accepts the bake-off; a method that cannot be
 * used here is a member that is refused. Errors: those of scheduler_open_merge, subjects below
 * "/methods/N" where they are of a method; those of store_bakeoff_create. [any] */
int scheduler_bakeoff_create(scheduler *self, const bakeoff_order *order, char ret_id[ID_BYTES],
                             store_submit_outcome *ret_outcome, didi_error *error);

/* As store_bakeoff_cancel, then wakes. [any] */
int scheduler_bakeoff_cancel(scheduler *self, const char *id, didi_error *error);

/* Removes one that has ended, and the jobs that are left of it. Errors: those of
 * store_bakeoff_delete and scheduler_job_delete. [any] */
int scheduler_bakeoff_delete(scheduler *self, const char *id, didi_error *error);
