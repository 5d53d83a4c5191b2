/* SPDX-License-Identifier: Apache-2.0 */
/* Thinning of telemetry. */
#include "daemon/jobs/telemetry.h"

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* 128 points, then 128 for each e-fold: 100,000 steps leave 980, two such stages 2,000. */
    TELEMETRY_DENSE_MAX = 128,
    TELEMETRY_DENSE_MIN = 4,
    TELEMETRY_SHARES = 36, /* of the room left an attempt's stages may take together, about */
    TELEMETRY_NOTES_MAX = 64,
};

struct telemetry {
    store *records;
    char job_id[ID_BYTES];
    unsigned attempt;
    uint64_t dense;
    pthread_mutex_t lock; /* guards what follows */
    uint64_t moves;       /* all events */
    uint64_t seen, kept;  /* points of the stage */
    unsigned notes;
    int stage; /* in force, -1 before the first; one stage may be begun in several phases */
    double stage_began, stage_items;
    double seconds[DIDI_STAGE_COUNT]; /* of those that have ended */
    bool held;                        /* `last` has not been posted */
    store_event last;
};

int telemetry_create(store *records, const store_job *job, telemetry **ret_telemetry,
                     didi_error *error)
{
    telemetry *self = memory_zeroed(1, sizeof *self);
    assert(job->attempt > 0);
    int64_t room = STORE_EVENTS_PER_JOB_MAX - job->event_count;
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->records = records;
    memcpy(self->job_id, job->id, sizeof self->job_id);
    self->attempt = job->attempt;
    self->dense = room > 0 ? (uint64_t)room / TELEMETRY_SHARES : 0;
    self->dense = larger(TELEMETRY_DENSE_MIN, smaller(self->dense, TELEMETRY_DENSE_MAX));
    self->stage = -1;
    pthread_mutex_init(&self->lock, NULL);
    *ret_telemetry = self;
    return DIDI_OK;
}

/* Under the lock. */
static void post_held(telemetry *self)
{
    if (self->held)
        store_event_post(self->records, self->job_id, self->attempt, &self->last);
    self->held = false;
}

/* Under the lock: the time and the items of the stage in force. */
static void stage_end(telemetry *self)
{
    if (self->stage < 0)
        return;
    const char *stage = didi_stage_name((didi_stage)self->stage);
    const double seconds = clock_seconds() - self->stage_began;
    metric_observe(METRIC_STAGE_SECONDS, METRIC_LABELS(stage), seconds);
    metric_add(METRIC_STAGE_ITEMS, METRIC_LABELS(stage), self->stage_items);
    self->seconds[self->stage] += seconds;
    self->stage = -1;
}

void telemetry_end(telemetry *self, double ret_seconds[DIDI_STAGE_COUNT])
{
    pthread_mutex_lock(&self->lock);
    post_held(self);
    stage_end(self);
    memcpy(ret_seconds, self->seconds, sizeof self->seconds);
    pthread_mutex_unlock(&self->lock);
}

void telemetry_free(telemetry *self)
{
    if (self == NULL)
        return;
    post_held(self);
    stage_end(self);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

uint64_t telemetry_moves(telemetry *self)
{
    pthread_mutex_lock(&self->lock);
    uint64_t moves = self->moves;
    pthread_mutex_unlock(&self->lock);
    return moves;
}

bool telemetry_keeps(uint64_t seen, uint64_t kept, uint64_t dense)
{
    assert(seen > kept && dense > 0);
    return kept == 0 || seen - kept >= 1 + kept / dense;
}

static void event_convert(const didi_event *event, const char *kind, store_event *ret_event)
{
    memset(ret_event, 0, sizeof *ret_event);
    snprintf(ret_event->kind, sizeof ret_event->kind, "%s", kind);
    snprintf(ret_event->stage, sizeof ret_event->stage, "%s", didi_stage_name(event->stage));
    ret_event->step = event->step;
    ret_event->loss = event->loss;
    ret_event->relative_error = event->relative_error;
    ret_event->ratio = event->ratio;
    ret_event->ratio_target = event->ratio_target;
    ret_event->items_done = event->items_done;
    ret_event->items_total = event->items_total;
    ret_event->seconds = event->seconds;
    ret_event->bytes_read = event->bytes_read;
}

void telemetry_event(void *context, const didi_event *event)
{
    telemetry *self = context;
    store_event converted;
    pthread_mutex_lock(&self->lock);
    self->moves++;
    if (event->kind == DIDI_EVENT_POINT) {
        if ((double)event->items_done > self->stage_items)
            self->stage_items = (double)event->items_done;
        event_convert(event, "point", &self->last);
        self->held = true;
        self->seen++;
        if (telemetry_keeps(self->seen, self->kept, self->dense)) {
            self->kept = self->seen;
            post_held(self);
        }
    } else if (event->kind == DIDI_EVENT_STAGE) {
        if (self->stage != (int)event->stage) {
            post_held(self);
            stage_end(self);
            self->stage_began = clock_seconds();
            self->stage_items = 0;
            self->seen = self->kept = 0;
            event_convert(event, "stage", &converted);
            store_event_post(self->records, self->job_id, self->attempt, &converted);
        }
        self->stage = (int)event->stage;
    } else if (event->kind == DIDI_EVENT_FRONTIER) {
        event_convert(event, "frontier", &converted);
        store_event_post(self->records, self->job_id, self->attempt, &converted);
    } else if (self->notes++ < TELEMETRY_NOTES_MAX) {
        char text[512];
        event_convert(event, "note", &converted);
        snprintf(text, sizeof text, "%s", event->text != NULL ? event->text : "");
        converted.text = text;
        store_event_post(self->records, self->job_id, self->attempt, &converted);
    }
    pthread_mutex_unlock(&self->lock);
}

void telemetry_note(telemetry *self, const char *text)
{
    pthread_mutex_lock(&self->lock);
    const didi_event event = {.kind = DIDI_EVENT_NOTE,
                              .stage =
                                  self->stage >= 0 ? (didi_stage)self->stage : DIDI_STAGE_DIGEST,
                              .loss = NAN,
                              .relative_error = NAN,
                              .ratio = NAN,
                              .ratio_target = NAN,
                              .text = text};
    pthread_mutex_unlock(&self->lock);
    telemetry_event(self, &event);
}
