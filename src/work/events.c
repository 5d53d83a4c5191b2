/* SPDX-License-Identifier: Apache-2.0 */
/* What a merge tells of itself while it runs: stages, points, notes, seconds, memory. */
#include "src/merge/merge_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    didi_stage stage;
    double share;
} phases[PHASE_COUNT] = {
#define PHASE_ROW(id, stage, share) [PHASE_##id] = {DIDI_STAGE_##stage, (share)},
    MERGE_PHASE_TABLE(PHASE_ROW)
#undef PHASE_ROW
};

didi_stage merge_phase_stage(merge_phase phase)
{
    return phases[phase].stage;
}

double merge_phase_share(merge_phase phase)
{
    return phases[phase].share;
}

const char *didi_stage_name(didi_stage stage)
{
    static const char *const names[] = {
#define STAGE_NAME(id, name) [DIDI_STAGE_##id] = (name),
        DIDI_STAGE_TABLE(STAGE_NAME)
#undef STAGE_NAME
    };
    return (size_t)stage < DIDI_STAGE_COUNT ? names[stage] : "unknown";
}

size_t merge_phase_items(const didi_merge *self, merge_phase phase)
{
    switch (phase) {
    case PHASE_DIGEST:
        return self->digest_count +
               (self->extension != NULL ? extension_file_count(self->extension) : 0);
    case PHASE_DECOMPOSE:
        return self->layer_count + 1; /* the last one scans the dense tensors */
    case PHASE_PURSUE:
        return merge_pursues(self) ? self->layer_count : 0;
    case PHASE_RANKS:
        return merge_pursues(self) || merge_counts_bytes(self) ? 1 : 0;
    case PHASE_REFINE:
        return self->layer_count;
    case PHASE_WRITE:
        return self->options.task_count + 1;
    default:
        return 1;
    }
}

void merge_stage_items(const didi_merge *self, size_t *ret_done, size_t *ret_total)
{
    size_t steps = atomic_load(&self->steps_wanted);
    size_t done = 0;
    size_t total = 0;
    for (int phase = 0; self->phase < PHASE_COUNT && phase < PHASE_COUNT; phase++) {
        if (phases[phase].stage != phases[self->phase].stage)
            continue;
        size_t items = merge_phase_items(self, (merge_phase)phase);
        total += items;
        done += phase < (int)self->phase ? items : 0;
    }
    done += self->items_done;
    bool stepping = self->phase == PHASE_SCHEDULE && steps > 0;
    *ret_done = stepping ? atomic_load(&self->steps_done) : done;
    *ret_total = stepping ? steps : total;
}

/* ---- time and memory ---- */

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
    const stage_usage *clock = &self->stages[stage];
    struct timespec now;
    if (self->phase < PHASE_COUNT && phases[self->phase].stage == stage) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        return clock->ran ? seconds_between(&clock->began, &now) : 0;
    }
    return clock->ran ? seconds_between(&clock->began, &clock->ended) : 0;
}

static void raise_peak(atomic_ullong *peak, unsigned long long now)
{
    unsigned long long known = atomic_load(peak);
    while (now > known && !atomic_compare_exchange_weak(peak, &known, now))
        continue;
}

void merge_sample_memory(didi_merge *self)
{
    unsigned long long kilobytes = 0;
    char line[128];
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1)
            break;
    (void)fclose(file);
    raise_peak(&self->peak_memory, kilobytes * 1024);
    if (self->phase < PHASE_COUNT)
        raise_peak(&self->stages[phases[self->phase].stage].peak_memory, kilobytes * 1024);
}

/* ---- events ---- */

void merge_emit(didi_merge *self, const didi_event *event)
{
    if (self->hooks.event == NULL)
        return;
    didi_event full = *event;
    full.ratio_target = merge_ratio_target(self);
    merge_stage_items(self, &full.items_done, &full.items_total);
    full.seconds = merge_seconds(self);
    full.bytes_read = atomic_load(&self->bytes_read);
    self->hooks.event(self->hooks.context, &full);
}

void merge_announce(didi_merge *self, didi_stage stage)
{
    if (self->stage_announced >= (int)stage) /* another pass tells nothing new */
        return;
    self->stage_announced = (int)stage;
    didi_event event = {
        .kind = DIDI_EVENT_STAGE, .stage = stage, .loss = NAN, .relative_error = NAN, .ratio = NAN};
    merge_emit(self, &event);
}

void merge_point(didi_merge *self, didi_stage stage, uint64_t step, double loss,
                 double relative_error, double ratio)
{
    didi_event event = {.kind = DIDI_EVENT_POINT,
                        .stage = stage,
                        .step = step,
                        .loss = loss,
                        .relative_error = relative_error,
                        .ratio = ratio};
    merge_emit(self, &event);
}

void merge_note(didi_merge *self, didi_stage stage, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    didi_event event = {.kind = DIDI_EVENT_NOTE,
                        .stage = stage,
                        .loss = NAN,
                        .relative_error = NAN,
                        .ratio = NAN,
                        .text = text};
    merge_emit(self, &event);
}

/* ---- points over the layers done so far ---- */

typedef struct progress_sums {
    double loss, weighted, error, energy, parameters;
} progress_sums;

static void add_energies(progress_sums *sums, const layer_summary *summary)
{
    for (size_t t = 0; t < summary->tasks; t++) {
        sums->energy += summary->energy[t];
        sums->weighted += summary->weight[t] * summary->energy[t];
    }
}

static void emit_sums(didi_merge *self, didi_stage stage, const progress_sums *sums)
{
    size_t done = 0;
    size_t total = 0;
    merge_stage_items(self, &done, &total);
    merge_point(self, stage, done, sums->weighted > 0 ? sums->loss / sums->weighted : 0,
                sums->energy > 0 ? sums->error / sums->energy : 0,
                merge_ratio(self, sums->parameters));
}

void merge_report_pursued(didi_merge *self)
{
    progress_sums sums = {0};
    for (size_t l = 0; l < self->layer_count; l++) {
        if (self->items[l] != ITEM_DONE)
            continue;
        sums.loss += self->pursued[l].loss;
        sums.error += self->pursued[l].error;
        sums.parameters += self->pursued[l].parameters;
        add_energies(&sums, &self->summaries[l]);
    }
    emit_sums(self, DIDI_STAGE_PURSUE, &sums);
}

void merge_report_refined(didi_merge *self)
{
    progress_sums sums = {.parameters = (double)self->factor_parameters};
    for (size_t l = 0; l < self->layer_count; l++) {
        const layer_summary *summary = &self->summaries[l];
        if (self->items[l] != ITEM_DONE)
            continue;
        sums.loss += summary->loss;
        for (size_t t = 0; t < summary->tasks; t++)
            sums.error += summary->error[t];
        add_energies(&sums, summary);
    }
    emit_sums(self, DIDI_STAGE_REFINE, &sums);
}
