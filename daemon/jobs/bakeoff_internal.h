/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of bake-offs and the scheduler share. Internal to the room. */
#pragma once

#include "daemon/jobs/bakeoff.h"
#include "daemon/jobs/bakeoff_plan.h"
#include "daemon/jobs/scheduler_internal.h"

/* By definition the fine-tunes themselves. */
#define REFERENCE_METHOD "individuals"

/* ---- bakeoff.c ---- */

int bakery_create(scheduler *self, int state_fd, didi_error *error);
void bakery_free(scheduler *self);
/* Looks on the pool what is next of bake-offs that have not ended. */
void bakery_look(scheduler *self);
void bakery_tick(scheduler *self);
/* Nothing of it is on a pool thread. */
bool bakery_is_idle(const scheduler *self);
/* As store_bakeoff_create, then looks at it. [any] */
int bakery_take(scheduler *self, const store_new_bakeoff *made, char ret_id[ID_BYTES],
                store_submit_outcome *ret_outcome, didi_error *error);

/* ---- bakeoff_create.c ---- */

/* The job of a member before it has a row. Zeroed, then read. */
typedef struct member_draft {
    specification *specification;
    char *canonical, *labels;
} member_draft;
/* Takes the document; NULL: there was no memory for it. Errors: those of specification_read. */
int member_draft_read(member_draft *self, json_t *document, didi_error *error);
void member_draft_clear(member_draft *self);
/* Its row, which points into it; `options` must live as long. */
store_new_member member_draft_row(const member_draft *self, member_role role, const char *options);

/* ---- bakeoff_score.c ---- */

int scorings_create(scheduler *owner, int state_fd, didi_error *error);
void scorings_free(scheduler *owner);
bool scorings_possible(const scheduler *owner);
bool scorings_run(const scheduler *owner);
/* Notes scores that are missing; where there is no scorer any more, that there will be none. On the
 * pool thread that looks. */
int scorings_want(scheduler *owner, const bakeoff_view *view, bool *ret_again, didi_error *error);
/* Starts some of those that are wanted. */
void scorings_start(scheduler *owner);
void scorings_check_cancel(scheduler *owner);
