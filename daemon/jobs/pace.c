/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds of a stage are its planned work by what earlier attempts of the same method and kind did
 * in a second (docs/operations.md, "How long it takes"). */
#include "daemon/jobs/pace.h"

#include "daemon/jobs/scheduler.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PACE_MEASURED_FROM 0.02 /* of progress: below, its speed says nothing */
#define PACE_TRUSTED_FROM 0.5   /* from here on what was measured now stands alone */
#define PACE_SMOOTH 0.3         /* how far the end moves towards what was found last */

static const char *kind_of(const specification *wanted)
{
    if (wanted->survey)
        return "survey";
    if (wanted->from_job != NULL)
        return "reuse";
    return specification_extends(wanted) ? "extend" : "merge";
}

/* Digests and files are bytes; what lies between is operations, or bytes where a method plans
 * none. */
static void plan_work(const didi_plan *plan, double ret_work[DIDI_STAGE_COUNT])
{
    const double read = (double)plan->bytes_to_read;
    for (int stage = 0; stage < DIDI_STAGE_COUNT; stage++)
        ret_work[stage] = plan->flops > 0 ? plan->flops : read;
    ret_work[DIDI_STAGE_DIGEST] = read;
    ret_work[DIDI_STAGE_PUBLISH] = (double)plan->artifact_bytes;
}

static double estimate(store *records, const char *method, const char *kind,
                       const double work[DIDI_STAGE_COUNT])
{
    store_pace *rows = NULL;
    size_t count = 0;
    double seconds = NAN;
    if (store_pace_list(records, method, kind, &rows, &count, NULL) != DIDI_OK)
        return NAN;
    for (int stage = 0; stage < DIDI_STAGE_COUNT; stage++)
        for (size_t i = 0; i < count; i++)
            if (strcmp(rows[i].stage, didi_stage_name((didi_stage)stage)) == 0 && rows[i].work > 0)
                seconds =
                    (isnan(seconds) ? 0 : seconds) + work[stage] * (rows[i].seconds / rows[i].work);
    free(rows);
    return seconds;
}

double scheduler_estimate(store *records, const specification *wanted, const didi_plan *plan)
{
    double work[DIDI_STAGE_COUNT];
    plan_work(plan, work);
    return estimate(records, wanted->method, kind_of(wanted), work);
}

void pace_begin(pace *self, store *records, const specification *wanted, const didi_plan *plan)
{
    assert(strlen(wanted->method) < sizeof self->method);
    *self = (pace){.first = -1, .began_s = clock_seconds(), .ends_s = NAN};
    (void)snprintf(self->method, sizeof self->method, "%s", wanted->method);
    (void)snprintf(self->kind, sizeof self->kind, "%s", kind_of(wanted));
    plan_work(plan, self->work);
    self->whole = estimate(records, self->method, self->kind, self->work);
}

double pace_left(pace *self, double progress, double now_s)
{
    if (self->kind[0] == '\0')
        return NAN;
    if (self->first < 0) {
        self->first = progress;
        self->began_s = now_s;
    }
    const double moved = progress - self->first;
    const double left = 1 - progress;
    double measured = NAN;
    if (moved >= PACE_MEASURED_FROM)
        measured = (now_s - self->began_s) * left / moved;
    const double expected = self->whole * left;
    const double trust = isnan(expected) ? 1 : fmin(moved / PACE_TRUSTED_FROM, 1);
    const double found = isnan(measured)   ? expected
                         : isnan(expected) ? measured
                                           : trust * measured + (1 - trust) * expected;
    if (isnan(found))
        return NAN;
    const double ends = now_s + found;
    self->ends_s = isnan(self->ends_s) ? ends : self->ends_s + PACE_SMOOTH * (ends - self->ends_s);
    return fmax(self->ends_s - now_s, 0);
}

void pace_learn(const pace *self, store *records, const double seconds[DIDI_STAGE_COUNT])
{
    for (int stage = 0; stage < DIDI_STAGE_COUNT && self->kind[0] != '\0'; stage++) {
        store_pace row = {.work = self->work[stage], .seconds = seconds[stage]};
        (void)snprintf(row.stage, sizeof row.stage, "%s", didi_stage_name((didi_stage)stage));
        if (row.work > 0 && row.seconds > 0)
            store_pace_post(records, self->method, self->kind, &row);
    }
}
