/* SPDX-License-Identifier: Apache-2.0 */
/* Thinning of telemetry. */
#include "daemon/jobs/telemetry.h"

#include "src/base/base.h"

#include <assert.h>
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
    uint64_t seen, kept;  /* points of the stage */
    unsigned notes;
    int stage; /* in force, -1 before the first; one stage may be begun in several phases */
    bool held; /* `last` has not been posted */
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

void telemetry_free(telemetry *self)
{
    if (self == NULL)
        return;
    post_held(self);
    pthread_mutex_destroy(&self->lock);
    free(self);
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
    if (event->kind == DIDI_EVENT_POINT) {
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
            self->seen = self->kept = 0;
            event_convert(event, "stage", &converted);
            store_event_post(self->records, self->job_id, self->attempt, &converted);
        }
        self->stage = (int)event->stage;
    } else if (self->notes++ < TELEMETRY_NOTES_MAX) {
        char text[512];
        event_convert(event, "note", &converted);
        snprintf(text, sizeof text, "%s", event->text != NULL ? event->text : "");
        converted.text = text;
        store_event_post(self->records, self->job_id, self->attempt, &converted);
    }
    pthread_mutex_unlock(&self->lock);
}
