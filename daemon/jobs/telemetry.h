/* SPDX-License-Identifier: Apache-2.0 */
/* An attempt's events on their way into the store, thinned so that their number grows with the
 * logarithm of what there is to tell. */
#pragma once

#include "daemon/store/store.h"
#include "src/didi.h"

typedef struct telemetry telemetry;

/* `job` tells id, attempt and how many events there are already: later attempts tell less. Errors:
 * DIDI_NO_MEMORY. */
int telemetry_create(store *records, const store_job *job, telemetry **ret_telemetry,
                     didi_error *error);

/* Ends the stage in force, and tells the seconds of each. Thread-safe. */
void telemetry_end(telemetry *self, double ret_seconds[DIDI_STAGE_COUNT]);

/* Posts the point held back, if any, and frees. NULL is fine. */
void telemetry_free(telemetry *self);

/* The hook of didi_merge_hooks; `context` is a telemetry. Thread-safe. Of each stage the first
 * points are kept, later ones in steps that grow in proportion to their number, and the last one
 * always. */
void telemetry_event(void *context, const didi_event *event);

/* One line, told as a note of the attempt. Thread-safe. */
void telemetry_note(telemetry *self, const char *text);

/* How many events there have been, told or not. Thread-safe. */
uint64_t telemetry_moves(telemetry *self);

/* The spacing alone: is point number `seen` (from 1) kept when the last one kept was `kept` (0:
 * none)? The first `dense` are; then one in each 1/dense of what was seen. */
bool telemetry_keeps(uint64_t seen, uint64_t kept, uint64_t dense);
