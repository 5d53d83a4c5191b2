/* SPDX-License-Identifier: Apache-2.0 */
/* Lets idle threads help inside one item: a parallel loop whose caller always takes part, so that
 * it finishes with no helper at all, and whose results do not depend on who ran which index. */
#pragma once

#include "src/base/error.h"

#include <stddef.h>

typedef struct parallel parallel;

/* Errors: DIDI_NO_MEMORY. Freed with parallel_free, when no thread uses it. */
int parallel_create(parallel **ret_parallel, didi_error *error);
void parallel_free(parallel *self);

/* Runs task(argument, index) for every index < count, on the caller and on any helper; returns when
 * all are done. With NULL, a plain loop. Calls may nest. */
void parallel_run(parallel *self, size_t count, void (*task)(void *argument, size_t index),
                  void *argument);

/* parallel_run over [0, count) in ranges of `width` >= 1, of which the last may be narrower. */
void parallel_ranges(parallel *self, size_t count, size_t width,
                     void (*task)(void *argument, size_t first, size_t end), void *argument);

/* Width of ranges over [0, count) that are about equal, none wider than `most`, a multiple of 8. */
size_t parallel_width(size_t count, size_t most);

/* As parallel_run for tasks that can fail: all are run, and the failure of the lowest index is
 * returned. Errors: the tasks', DIDI_NO_MEMORY. */
int parallel_try(parallel *self, size_t count,
                 int (*task)(void *argument, size_t index, didi_error *error), void *argument,
                 didi_error *error);

/* An item that may call parallel_run began or ended; helpers leave when none is left. */
void parallel_enter(parallel *self);
void parallel_leave(parallel *self);

/* Counts how often the last item ended: names a stage of work, for parallel_help. */
size_t parallel_epoch(parallel *self);

/* Lends the calling thread until no item is left or parallel_recall. Returns at once when no item
 * was left at some time since `epoch` was taken: the items now may belong to another stage. */
void parallel_help(parallel *self, size_t epoch);

/* Makes helpers return after the index they are at; lasts until parallel_welcome. */
void parallel_recall(parallel *self);
void parallel_welcome(parallel *self);
