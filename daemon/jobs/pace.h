/* SPDX-License-Identifier: Apache-2.0 */
/* How long merges take: of a plan before it runs, and of an attempt while it runs. Internal to the
 * room but scheduler_estimate (scheduler.h). */
#pragma once

#include "daemon/store/store.h"
#include "proto/proto.h"
#include "src/didi.h"

/* An attempt's. Zeroed, then pace_begin. */
typedef struct pace {
    char method[LIMIT_METHOD_NAME_BYTES + 1];
    char kind[16];                 /* what the job starts from; "" before pace_begin */
    double work[DIDI_STAGE_COUNT]; /* as planned */
    double whole;                  /* seconds of the whole, by earlier attempts; NaN: none */
    double first;                  /* progress when it was first asked for; what was picked up */
    double began_s, ends_s;        /* on the monotonic clock; ends_s NaN: not known */
} pace;

void pace_begin(pace *self, store *records, const specification *wanted, const didi_plan *plan);

/* Seconds left at this progress; NaN where nothing tells. `now_s` rises from call to call. */
double pace_left(pace *self, double progress, double now_s);

/* Notes what the stages of an attempt took that did all of its work. */
void pace_learn(const pace *self, store *records, const double seconds[DIDI_STAGE_COUNT]);
