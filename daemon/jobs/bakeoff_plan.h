/* SPDX-License-Identifier: Apache-2.0 */
/* What is next of a bake-off, by its rows alone: pure functions. Internal to the room. */
#pragma once

#include "daemon/store/store.h"
#include "proto/proto.h"

#include <jansson.h>

typedef struct bakeoff_view {
    store_bakeoff row;
    json_t *request;
    store_member *members;
    size_t member_count;
    store_score *scores; /* by member and task */
    size_t score_count;
} bakeoff_view;

typedef enum bakeoff_next {
    BAKEOFF_WAIT, /* for jobs or scores */
    BAKEOFF_SIZE, /* didi's members are to be added */
    BAKEOFF_END,
} bakeoff_next;

bakeoff_next bakeoff_decide(const bakeoff_view *self);

/* True when nothing needs the member's job any more. */
bool bakeoff_is_done_with(const bakeoff_view *self, const store_member *member);

/* The next score that is missing, or what stands for it without a scorer, at or after *member and
 * *task, which are places; false: there is none. The caller goes on at the task after it. */
bool bakeoff_find_unscored(const bakeoff_view *self, size_t *member, size_t *task);

typedef struct bakeoff_size {
    double ratio; /* to one model in 16 bits */
    uint64_t bytes;
} bakeoff_size;

/* The sizes asked for, or those of the methods from small to large that are not nearly those
 * before. Returns how many. */
size_t bakeoff_sizes(const bakeoff_view *self, bakeoff_size ret_sizes[LIMIT_BAKEOFF_SIZES]);
