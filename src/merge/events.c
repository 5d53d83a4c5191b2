/* SPDX-License-Identifier: Apache-2.0 */
/* What a merge tells of itself while it runs: stages, points, items, seconds. */
#include "src/merge/merge.h"

#include <math.h>

const char *didi_stage_name(didi_stage stage)
{
    static const char *const names[] = {DIDI_STAGE_TABLE(TEXT_WORD)};
    return (size_t)stage < DIDI_STAGE_COUNT ? names[stage] : "unknown";
}

void merge_stage_items(const didi_merge *self, size_t *ret_done, size_t *ret_total)
{
    size_t steps = atomic_load(&self->work.steps_wanted);
    size_t done = 0;
    size_t total = 0;
    for (size_t row = 0; self->row < self->row_count && row < self->row_count; row++) {
        if (self->rows[row].told_as != self->rows[self->row].told_as)
            continue;
        size_t items = merge_row_items(self, row);
        total += items;
        done += row < self->row ? items : 0;
    }
    done += self->work.items_done;
    *ret_done = steps > 0 ? atomic_load(&self->work.steps_done) : done;
    *ret_total = steps > 0 ? steps : total;
}

static double seconds_between(const struct timespec *from, const struct timespec *to)
{
    return (double)(to->tv_sec - from->tv_sec) + 1e-9 * (double)(to->tv_nsec - from->tv_nsec);
}

double merge_seconds(const didi_merge *self)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return seconds_between(&self->began, &now);
}

/* The stage in force lasts until now. */
double merge_stage_seconds(const didi_merge *self, didi_stage stage)
{
    const stage_usage *clock = &self->work.usage[stage];
    struct timespec now;
    if (self->row < self->row_count && self->rows[self->row].told_as == stage) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        return clock->ran ? seconds_between(&clock->began, &now) : 0;
    }
    return clock->ran ? seconds_between(&clock->began, &clock->ended) : 0;
}

void merge_emit(void *merge, const didi_event *event)
{
    didi_merge *self = merge;
    if (self->hooks.event == NULL)
        return;
    didi_event full = *event;
    full.ratio_target = self->work.ratio_target;
    merge_stage_items(self, &full.items_done, &full.items_total);
    full.seconds = merge_seconds(self);
    full.bytes_read = atomic_load(&self->work.bytes_read);
    self->hooks.event(self->hooks.context, &full);
}

void merge_announce(didi_merge *self, didi_stage stage)
{
    if (self->stage_announced >= (int)stage) /* another pass tells nothing new */
        return;
    self->stage_announced = (int)stage;
    merge_emit(self, &(didi_event){.kind = DIDI_EVENT_STAGE,
                                   .stage = stage,
                                   .loss = NAN,
                                   .relative_error = NAN,
                                   .ratio = NAN});
}
