/* SPDX-License-Identifier: Apache-2.0 */
/* Events of a job, numbered without holes; old ones may be dropped, but never the last. */
#pragma once

#include "daemon/base/base.h"
#include "proto/proto.h"
#include "src/base/base.h"

enum {
    /* points beyond are dropped; states and notes have their share */
    STORE_EVENTS_PER_JOB_MAX = 5000,
};

typedef struct store store;

typedef struct store_event {
    int64_t number; /* from 1, per job; a number that is missing was dropped */
    int64_t at_ms;
    unsigned attempt;
    char kind[12];  /* "state", "stage", "point", "note", "frontier" */
    char stage[16]; /* "" for state events */
    uint64_t step;
    double loss, relative_error, ratio, ratio_target; /* NaN = not known */
    uint64_t items_done, items_total;
    double seconds; /* NaN = not known */
    uint64_t bytes_read;
    char *text;                    /* state events: the new state; notes: one line; else NULL */
    char traceparent[TRACE_BYTES]; /* of state events, read alone: the job's; else "" */
} store_event;

void store_events_free(store_event *events, size_t count);

/* Events numbered above `after`, ascending, at most `limit`. DIDI_NOT_FOUND when there is no such
 * job. */
int store_event_list(store *self, const char *job_id, int64_t after, size_t limit,
                     store_event **ret_events, size_t *ret_count, didi_error *error);

/* How far a job's events go, without reading the job. Read before the events: when the state is an
 * end, those read afterwards are all there are. */
typedef struct store_event_reach {
    job_state state;
    int64_t number; /* of the last event; 0 for none */
} store_event_reach;

/* DIDI_NOT_FOUND when there is no such job. */
int store_event_reach_get(store *self, const char *job_id, store_event_reach *ret_reach,
                          didi_error *error);

/* Drops the events of the job that ended first, if that was before `before_ms` and it still has
 * all: states stay, and the last one. *ret_found is false when there is none. */
int store_events_thin(store *self, int64_t before_ms, char ret_id[ID_BYTES], bool *ret_found,
                      didi_error *error);

/* Appends without waiting for the commit: copied into the mailbox, number and at_ms are set here.
 * Points are dropped when the mailbox is full; others wait for room. Takes no ownership. */
void store_event_post(store *self, const char *job_id, unsigned attempt, const store_event *event);

/* Where a running job stands. */
typedef struct store_progress {
    const char *stage;
    double share;        /* done, 0 .. 1 */
    double seconds_left; /* expected; NaN: not known */
} store_progress;

/* Sets these without waiting; dropped when the mailbox is full. */
void store_progress_post(store *self, const char *job_id, unsigned attempt,
                         const store_progress *progress);
