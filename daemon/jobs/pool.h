/* SPDX-License-Identifier: Apache-2.0 */
/* Shares the libuv worker threads among merges: who runs next, within how much memory.
 *
 * Threads: all functions and callbacks run on the loop thread; items and tasks run on pool threads.
 * The order: one-off tasks first; then items of the lane with the highest priority, among equals
 * the one with the fewest items in flight, then the one served longest ago. A lane that has nothing
 * in flight and does not fit into the memory left makes the others wait, so that it is not starved
 * by smaller ones. Idle threads go to helper items, which are recalled when something else could
 * run. */
#pragma once

#include "src/didi.h"

#include <uv.h>

typedef struct pool pool;
typedef struct pool_lane pool_lane;

/* `workers` threads are used at once (UV_THREADPOOL_SIZE must be at least that); `memory_limit`
 * bytes of items at once, at least one item runs whatever it needs. Errors: DIDI_NO_MEMORY. */
int pool_create(uv_loop_t *loop, size_t workers, uint64_t memory_limit, pool **ret_pool,
                didi_error *error);

/* Nothing may be in flight and no lane left. NULL is fine. */
void pool_free(pool *self);

/* The merge's items are given out from the next pool_pump on. When it has finished, its lane is
 * removed and `finished` is called. The merge stays the caller's. Errors: DIDI_NO_MEMORY. */
int pool_add(pool *self, didi_merge *merge, int priority, void (*finished)(void *context),
             void *context, didi_error *error);

/* Runs work(context) on a pool thread, then after(context) on the loop. Errors: DIDI_NO_MEMORY. */
int pool_task(pool *self, void (*work)(void *context), void (*after)(void *context), void *context,
              didi_error *error);

/* Gives out what can run now. Call after changes outside (a merge cancelled, a lane added). */
void pool_pump(pool *self);

/* While paused, no item of a merge begins; those in flight end, and merges that are over are told
 * so. Tasks go on. */
void pool_pause(pool *self, bool paused);

/* Asks the helpers of all lanes to return. */
void pool_recall_helpers(pool *self);

/* Items of the merge that threads work on; *ret_moves changes whenever one begins or ends. */
size_t pool_items(const pool *self, const didi_merge *merge, uint64_t *ret_moves);

/* Work that runs or waits for a thread; helpers count. */
size_t pool_in_flight(const pool *self);

/* Closes all handles of a loop, without telling them. */
void pool_close_handles(uv_loop_t *loop);
