/* SPDX-License-Identifier: Apache-2.0 */
/* Items: handed out by the owner, run by anyone, taken back by the owner. */
#include "src/merge/merge_internal.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>

/* Position in the order of service -> index of the item. */
static size_t service_order(const didi_merge *self, size_t position)
{
    return merge_is_of_layer(self->phase) && position < self->layer_count
               ? self->layer_order[position]
               : position;
}

static didi_next give_item(didi_merge *self, size_t index, bool helper, didi_item **ret_item)
{
    didi_item *item = memory_zeroed(1, sizeof *item);
    if (item == NULL) {
        didi_error error = {0};
        merge_fail(self, didi_fail(&error, DIDI_NO_MEMORY, NULL, "item"), &error);
        return self->items_running > 0 ? DIDI_NEXT_WAIT : DIDI_NEXT_FINISHED;
    }
    item->merge = self;
    item->phase = self->phase;
    item->index = index;
    item->helper = helper;
    item->epoch = parallel_epoch(self->parallel);
    item->memory = helper ? 0 : merge_item_memory(self, self->phase, index);
    if (!helper) {
        self->items[index] = ITEM_RUNNING;
        self->memory_running += item->memory;
        parallel_enter(self->parallel);
    }
    self->helpers_running += helper;
    self->items_running++;
    *ret_item = item;
    return DIDI_NEXT_ITEM;
}

didi_next didi_merge_next(didi_merge *self, uint64_t memory_available, bool helper,
                          didi_item **ret_item)
{
    bool stop = self->status != DIDI_OK || atomic_load(&self->cancelled);
    if (stop || self->finished)
        return self->items_running > 0 ? DIDI_NEXT_WAIT : DIDI_NEXT_FINISHED;
    uint64_t limit = self->options.memory_limit > 0 ? self->options.memory_limit : UINT64_MAX;
    uint64_t left = limit > self->memory_running ? limit - self->memory_running : 0;
    left = left < memory_available ? left : memory_available;
    for (size_t i = 0; i < self->item_count; i++) {
        size_t index = service_order(self, i);
        if (self->items[index] != ITEM_PENDING ||
            merge_item_memory(self, self->phase, index) > left)
            continue;
        return give_item(self, index, false, ret_item);
    }
    if (helper && self->items_running > self->helpers_running) {
        parallel_welcome(self->parallel);
        return give_item(self, 0, true, ret_item);
    }
    return DIDI_NEXT_WAIT;
}

uint64_t didi_item_memory(const didi_item *item)
{
    return item->memory;
}

didi_stage didi_item_stage(const didi_item *item)
{
    return merge_phase_stage(item->phase);
}

static int run_item(didi_merge *self, merge_phase phase, size_t index, didi_error *error)
{
    switch (phase) {
    case PHASE_DIGEST:
        return merge_digest_file(self, index, error);
    case PHASE_DECOMPOSE:
        return index < self->layer_count ? merge_decompose_layer(self, index, error)
                                         : merge_scan_dense(self, error);
    case PHASE_SCHEDULE:
        return merge_schedule(self, error);
    case PHASE_PURSUE:
        return merge_pursue_layer(self, index, error);
    case PHASE_RANKS:
        return merge_final_ranks(self, error);
    case PHASE_REFINE:
        return merge_refine_layer(self, index, error);
    case PHASE_WRITE:
        return merge_write_file(self, index, error);
    default:
        return merge_seal(self, error);
    }
}

/* Names the layer an item failed at, unless the error already names an input. */
static void add_context(const didi_merge *self, didi_item *item)
{
    if (item->status == DIDI_CANCELLED || item->error.subject[0] != '\0' ||
        !merge_is_of_layer(item->phase) || item->index >= self->layer_count)
        return;
    (void)didi_error_wrap(&item->error, "tensor '%s'", self->layers[item->index]->name);
}

static uint64_t thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static void help(didi_merge *self, const didi_item *item, stage_usage *usage)
{
    uint64_t began = thread_ns();
    parallel_help(self->parallel, item->epoch);
    atomic_fetch_add(&usage->cpu_ns, thread_ns() - began);
}

void didi_item_execute(didi_item *item)
{
    didi_merge *self = item->merge;
    stage_usage *usage = &self->stages[merge_phase_stage(item->phase)];
    if (item->helper) {
        help(self, item, usage);
        return;
    }
    uint64_t began = thread_ns();
    clock_gettime(CLOCK_MONOTONIC, &item->began);
    if (atomic_load(&self->cancelled))
        item->status = didi_fail(&item->error, DIDI_CANCELLED, NULL, "cancelled");
    else
        item->status = run_item(self, item->phase, item->index, &item->error);
    if (item->status != DIDI_OK)
        add_context(self, item);
    merge_sample_memory(self);
    atomic_fetch_add(&usage->cpu_ns, thread_ns() - began);
    clock_gettime(CLOCK_MONOTONIC, &item->ended);
    parallel_leave(self->parallel);
}

/* ---- completion ---- */

static void report_item(didi_merge *self, merge_phase phase)
{
    size_t done = 0;
    size_t total = 0;
    switch (phase) {
    case PHASE_PURSUE:
        merge_report_pursued(self);
        break;
    case PHASE_REFINE:
        merge_report_refined(self);
        break;
    case PHASE_SCHEDULE:
    case PHASE_RANKS:
        break; /* they report themselves */
    default:
        merge_stage_items(self, &done, &total);
        merge_point(self, merge_phase_stage(phase), done, NAN, NAN, NAN);
    }
}

static void complete_success(didi_merge *self, const didi_item *item)
{
    self->items[item->index] = ITEM_DONE;
    self->items_done++;
    report_item(self, item->phase);
    if (self->items_done == self->item_count)
        merge_enter_phase(self, item->phase + 1);
}

static bool is_before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static void clock_item(didi_merge *self, stage_usage *clock, const didi_item *item)
{
    uint64_t bytes = atomic_load(&self->bytes_read);
    clock->bytes_read += bytes - self->bytes_counted;
    self->bytes_counted = bytes;
    if (!clock->ran || is_before(&item->began, &clock->began))
        clock->began = item->began;
    if (!clock->ran || is_before(&clock->ended, &item->ended))
        clock->ended = item->ended;
    clock->ran = true;
}

void didi_merge_complete(didi_merge *self, didi_item *item)
{
    self->items_running--;
    self->helpers_running -= item->helper;
    if (!item->helper) {
        self->memory_running -= item->memory;
        clock_item(self, &self->stages[merge_phase_stage(item->phase)], item);
        if (item->status != DIDI_OK)
            merge_fail(self, item->status, &item->error);
        else
            complete_success(self, item);
    }
    free(item);
}

void didi_merge_recall_helpers(didi_merge *self)
{
    parallel_recall(self->parallel);
}

void didi_merge_cancel(didi_merge *self)
{
    atomic_store(&self->cancelled, true);
    parallel_recall(self->parallel);
}

int didi_merge_result(const didi_merge *self, didi_error *error)
{
    if (self->status != DIDI_OK) {
        if (error != NULL)
            *error = self->error;
        return self->status;
    }
    if (!self->finished)
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    return DIDI_OK;
}

/* Items done of the phase in force, as a share; steps inside its only item count. */
static double phase_progress(const didi_merge *self)
{
    size_t steps = atomic_load(&self->steps_wanted);
    if (self->phase == PHASE_SCHEDULE && steps > 0)
        return (double)atomic_load(&self->steps_done) / (double)steps;
    return self->item_count > 0 ? (double)self->items_done / (double)self->item_count : 0;
}

/* Nobody knows how many passes an error asked for takes: each gets half of what is left. */
static double pass_progress(const didi_merge *self)
{
    double ranks = merge_phase_share(PHASE_RANKS);
    double refine = merge_phase_share(PHASE_REFINE);
    double within = self->phase == PHASE_RANKS ? ranks * phase_progress(self)
                                               : ranks + refine * phase_progress(self);
    double left = ldexp(1, -(int)self->pass_count);
    return 1 - left + left / 2 * within / (ranks + refine);
}

/* Ranks are part of refinement once there was one. */
static didi_stage stage_in_force(const didi_merge *self)
{
    bool again = self->phase == PHASE_RANKS && self->pass_count > 0;
    return again ? DIDI_STAGE_REFINE : merge_phase_stage(self->phase);
}

double didi_merge_progress(const didi_merge *self, didi_stage *ret_stage)
{
    double done = 0;
    double total = 0;
    bool passing = self->options.budget_unit == DIDI_BUDGET_MAX_ERROR &&
                   (self->phase == PHASE_RANKS || self->phase == PHASE_REFINE);
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        double share = merge_phase_share((merge_phase)phase);
        if (merge_phase_items(self, (merge_phase)phase) == 0)
            continue;
        total += share;
        if (passing && (phase == PHASE_RANKS || phase == PHASE_REFINE))
            done += share * pass_progress(self);
        else if (phase < (int)self->phase)
            done += share;
        else if (phase == (int)self->phase)
            done += share * phase_progress(self);
    }
    if (ret_stage != NULL)
        *ret_stage = self->phase < PHASE_COUNT ? stage_in_force(self) : DIDI_STAGE_PUBLISH;
    return total > 0 ? done / total : 0;
}
