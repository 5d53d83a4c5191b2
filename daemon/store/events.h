/* SPDX-License-Identifier: Apache-2.0 */
/* Events of a job, numbered without holes. */
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
    int64_t number; /* from 1, per job, without holes */
    int64_t at_ms;
    unsigned attempt;
    char kind[8];   /* "state", "stage", "point", "note" */
    char stage[16]; /* "" for state events */
    uint64_t step;
    double loss, relative_error, ratio, ratio_target; /* NaN = not known */
    uint64_t items_done, items_total;
    double seconds; /* NaN = not known */
    uint64_t bytes_read;
    char *text; /* state events: the new state; notes: one line; else NULL */
} store_event;

void store_events_free(store_event *events, size_t count);

/* Events numbered above `after`, ascending, at most `limit`. DIDI_NOT_FOUND when there is no such
 * job. */
int store_event_list(store *self, const char *job_id, int64_t after, size_t limit,
                     store_event **ret_events, size_t *ret_count, didi_error *error);

/* Appends without waiting for the commit: copied into the mailbox, number and at_ms are set here.
 * Points are dropped when the mailbox is full; others wait for room. Takes no ownership. */
void store_event_post(store *self, const char *job_id, unsigned attempt, const store_event *event);

/* Sets stage and progress without waiting; dropped when the mailbox is full. */
void store_progress_post(store *self, const char *job_id, unsigned attempt, const char *stage,
                         double progress);
