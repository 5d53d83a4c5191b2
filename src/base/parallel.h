/* SPDX-License-Identifier: Apache-2.0 */
/* Lets idle threads help inside one item: a parallel loop whose caller always takes part, so that
 * it finishes with no helper at all, and whose results do not depend on who ran which index. */
#pragma once

#include "src/base/error.h"

#include <stddef.h>

typedef struct team team;

/* Errors: DIDI_NO_MEMORY. Freed with team_free, when no thread uses it. */
int team_create(team **ret_team, didi_error *error);
void team_free(team *team);

/* Runs task(argument, index) for every index < count, on the caller and on any helper; returns when
 * all are done. With team NULL, a plain loop. Calls may nest. */
void team_run(team *team, size_t count, void (*task)(void *argument, size_t index), void *argument);

/* As team_run for tasks that can fail: all are run, and the failure of the lowest index is what is
 * returned, with its error. Errors: the tasks', DIDI_NO_MEMORY. */
int team_try(team *team, size_t count, int (*task)(void *argument, size_t index, didi_error *error),
             void *argument, didi_error *error);

/* An item that may call team_run began or ended; helpers leave when none is left. */
void team_enter(team *team);
void team_leave(team *team);

/* Counts how often the items fell to none: a stage of work, for team_help. */
size_t team_visit(team *team);

/* Lends the calling thread until no item is left or team_recall; returns at once when the items
 * have fallen to none since `visit` was taken, for what runs now may belong to something else. */
void team_help(team *team, size_t visit);

/* Makes helpers return after the index they are at; lasts until team_welcome. */
void team_recall(team *team);
void team_welcome(team *team);
