/* SPDX-License-Identifier: Apache-2.0 */
/* Items: handed out by the owner, run by anyone, taken back by the owner. */
#include "src/merge/merge.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>

size_t merge_service_order(const didi_merge *self, size_t position)
{
    return self->rows[self->row].kind == ROW_EACH && position < self->work.layer_count
               ? self->work.layer_order[position]
               : position;
}

didi_next merge_give_item(didi_merge *self, size_t index, item_kind kind, didi_item **ret_item)
{
    didi_item *item = memory_zeroed(1, sizeof *item);
    if (item == NULL) {
        didi_error error = {0};
        merge_fail(self, didi_fail(&error, DIDI_NO_MEMORY, NULL, "item"), &error);
        return self->items_running > 0 ? DIDI_NEXT_WAIT : DIDI_NEXT_FINISHED;
    }
    item->merge = self;
    item->row = self->row;
    item->index = index;
    item->helper = kind == ITEM_HELPER;
    item->away = kind == ITEM_AWAY;
    item->epoch = parallel_epoch(self->work.parallel);
    item->memory = kind == ITEM_HELPER ? 0 : merge_item_memory(self, self->row, index);
    if (kind != ITEM_HELPER)
        self->work.items[index] = ITEM_RUNNING;
    if (kind == ITEM_HERE) {
        self->memory_running += item->memory;
        parallel_enter(self->work.parallel);
    }
    if (kind == ITEM_AWAY)
        clock_gettime(CLOCK_MONOTONIC, &item->began);
    self->helpers_running += kind == ITEM_HELPER;
    self->away_running += kind == ITEM_AWAY;
    self->items_running++;
    *ret_item = item;
    return DIDI_NEXT_ITEM;
}

bool didi_merge_is_over(const didi_merge *self)
{
    return self->status != DIDI_OK || atomic_load(&self->work.cancelled) || self->finished;
}

uint64_t merge_memory_left(const didi_merge *self, uint64_t memory_available)
{
    uint64_t limit =
        self->work.options.memory_limit > 0 ? self->work.options.memory_limit : UINT64_MAX;
    return smaller(limit - smaller(limit, self->memory_running), memory_available);
}

didi_next didi_merge_next(didi_merge *self, uint64_t memory_available, bool helper,
                          didi_item **ret_item)
{
    if (didi_merge_is_over(self))
        return self->items_running > 0 ? DIDI_NEXT_WAIT : DIDI_NEXT_FINISHED;
    bool shared = self->work.options.elsewhere || self->work.options.worker;
    uint64_t left = merge_memory_left(self, memory_available);
    for (size_t i = 0; i < self->item_count; i++) {
        size_t index = merge_service_order(self, i);
        if (self->work.items[index] != ITEM_PENDING ||
            (shared && merge_leaves_state(self, self->row, index)) ||
            merge_item_memory(self, self->row, index) > left)
            continue;
        return merge_give_item(self, index, ITEM_HERE, ret_item);
    }
    if (helper && self->items_running > self->helpers_running + self->away_running) {
        parallel_welcome(self->work.parallel);
        return merge_give_item(self, 0, ITEM_HELPER, ret_item);
    }
    return DIDI_NEXT_WAIT;
}

uint64_t didi_item_memory(const didi_item *item)
{
    return item->memory;
}

/* Names the layer an item failed at, unless the error already names an input. */
static void add_context(const didi_merge *self, didi_item *item)
{
    if (item->status == DIDI_CANCELLED || item->error.subject[0] != '\0' ||
        self->rows[item->row].kind != ROW_EACH || item->index >= self->work.layer_count)
        return;
    (void)didi_error_wrap(&item->error, "tensor '%s'", self->work.layers[item->index]->name);
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
    parallel_help(self->work.parallel, item->epoch);
    atomic_fetch_add(&usage->cpu_ns, thread_ns() - began);
}

void didi_item_execute(didi_item *item)
{
    didi_merge *self = item->merge;
    stage_usage *usage = &self->work.usage[self->rows[item->row].told_as];
    if (item->helper) {
        help(self, item, usage);
        return;
    }
    uint64_t began = thread_ns();
    clock_gettime(CLOCK_MONOTONIC, &item->began);
    if (atomic_load(&self->work.cancelled))
        item->status = didi_fail(&item->error, DIDI_CANCELLED, NULL, "cancelled");
    else
        item->status = merge_run_item(self, item->row, item->index, &item->error);
    if (item->status != DIDI_OK)
        add_context(self, item);
    work_sample_memory(&self->work);
    atomic_fetch_add(&usage->cpu_ns, thread_ns() - began);
    clock_gettime(CLOCK_MONOTONIC, &item->ended);
    parallel_leave(self->work.parallel);
}

/* ---- completion ---- */

static void report_item(didi_merge *self, const engine_row *row)
{
    size_t done = 0;
    size_t total = 0;
    if (row->kind == ROW_ONCE)
        return; /* it reports itself */
    if (row->stage != NULL && row->stage->report != NULL) {
        row->stage->report(self->self);
        return;
    }
    merge_stage_items(self, &done, &total);
    work_point(&self->work, row->told_as, done, NAN, NAN, NAN);
}

static void complete_success(didi_merge *self, const didi_item *item)
{
    self->work.items[item->index] = ITEM_DONE;
    self->work.items_done++;
    report_item(self, &self->rows[item->row]);
    if (self->work.items_done == self->item_count)
        merge_enter_row(self, item->row + 1);
}

static bool is_before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static void clock_item(didi_merge *self, stage_usage *clock, const didi_item *item)
{
    uint64_t bytes = atomic_load(&self->work.bytes_read);
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
    self->away_running -= item->away;
    if (!item->helper) {
        self->memory_running -= item->away ? 0 : item->memory;
        clock_item(self, &self->work.usage[self->rows[item->row].told_as], item);
        if (item->status != DIDI_OK)
            merge_fail(self, item->status, &item->error);
        else
            complete_success(self, item);
    }
    free(item);
}

void didi_merge_recall_helpers(didi_merge *self)
{
    parallel_recall(self->work.parallel);
}

void didi_merge_cancel(didi_merge *self)
{
    atomic_store(&self->work.cancelled, true);
    parallel_recall(self->work.parallel);
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

/* Items done of the row in force, as a share; steps inside its only item count. */
static double row_progress(const didi_merge *self)
{
    size_t steps = atomic_load(&self->work.steps_wanted);
    if (steps > 0)
        return (double)atomic_load(&self->work.steps_done) / (double)steps;
    return self->item_count > 0 ? (double)self->work.items_done / (double)self->item_count : 0;
}

/* A method that goes back to a row knows better than the shares. */
static double done_of(const didi_merge *self, size_t row)
{
    const engine_row *at = &self->rows[row];
    double within = row < self->row ? 1 : row == self->row ? row_progress(self) : 0;
    const engine_row *now = self->row < self->row_count ? &self->rows[self->row] : NULL;
    if (at->stage == NULL || self->method->progress == NULL || now == NULL || now->stage == NULL)
        return within;
    return self->method->progress(self->self, at->number, now->number, row_progress(self));
}

double didi_merge_progress(const didi_merge *self, didi_stage *ret_stage)
{
    double done = 0;
    double total = 0;
    for (size_t row = 0; row < self->row_count; row++) {
        if (merge_row_items(self, row) == 0)
            continue;
        total += self->rows[row].share;
        done += self->rows[row].share * done_of(self, row);
    }
    if (ret_stage != NULL) {
        const engine_row *now = self->row < self->row_count ? &self->rows[self->row] : NULL;
        *ret_stage = now != NULL ? now->told_as : DIDI_STAGE_PUBLISH;
        if (now != NULL && now->stage != NULL && self->method->told_as != NULL)
            *ret_stage = self->method->told_as(self->self, now->number);
    }
    return total > 0 ? done / total : 0;
}
