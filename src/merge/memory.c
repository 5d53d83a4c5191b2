/* SPDX-License-Identifier: Apache-2.0 */
/* How each layer is visited under the memory limit, and what the plan says of memory. */
#include "src/merge/merge_internal.h"

#include "src/base/base.h"

#include <stdlib.h>

bool merge_needs_spectra(const didi_merge *self)
{
    return self->options.allocator != DIDI_ALLOCATOR_PURSUIT;
}

bool merge_pursues(const didi_merge *self)
{
    return self->options.allocator == DIDI_ALLOCATOR_PURSUIT ||
           self->options.allocator == DIDI_ALLOCATOR_JOINT;
}

bool merge_counts_bytes(const didi_merge *self)
{
    didi_allocator allocator = self->options.allocator;
    bool greedy = allocator == DIDI_ALLOCATOR_PURSUIT || allocator == DIDI_ALLOCATOR_EXACT ||
                  allocator == DIDI_ALLOCATOR_JOINT;
    return greedy && (self->options.budget_unit != DIDI_BUDGET_PARAMETERS ||
                      self->options.precision == DIDI_PRECISION_AUTO);
}

bool merge_is_of_layer(merge_phase phase)
{
    return phase == PHASE_DECOMPOSE || phase == PHASE_PURSUE || phase == PHASE_REFINE;
}

static solve_shape shape_of(const didi_merge *self, size_t index)
{
    const family_tensor *tensor = self->layers[index];
    double ratio = merge_sketch_ratio(self);
    return (solve_shape){
        .rows = tensor->rows,
        .columns = tensor->columns,
        .tasks = self->options.task_count,
        .workers = self->options.workers > 0 ? self->options.workers : 1,
        .limits = self->limits[index],
        .sketch_rows =
            solve_sketch_rows(tensor->rows, tensor->columns, self->options.task_count, ratio),
        .exact = merge_needs_spectra(self),
        .adam = self->options.optimizer == DIDI_OPTIMIZER_ADAM,
        .packed = !precision_is_plain(self->options.precision, NULL),
    };
}

/* The most that refinement may have to hold. */
static solve_rows rows_at_most(const solve_shape *shape)
{
    const solve_limits *limits = &shape->limits;
    uint64_t experts = memory_multiply(limits->expert, shape->tasks);
    return (solve_rows){memory_add(experts, limits->shared), limits->expert, limits->shared, 0};
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What it holds, once the ranks are known. */
static solve_rows rows_known(const didi_merge *self, size_t index)
{
    const layer_summary *summary = &self->summaries[index];
    bool listed = merge_pursues(self); /* else the list is the whole spectrum */
    solve_rows held = {0};
    for (size_t j = 0; j <= summary->tasks; j++) {
        uint64_t rows = larger(summary->rank[j], listed ? summary->count[j] : 0);
        held.all += rows;
        held.dense += summary->dense[j];
        if (j == 0)
            held.shared = rows;
        else
            held.expert = larger(held.expert, rows);
    }
    return held;
}

/* A sixteenth of the memory goes to what is not counted: BLAS's buffers, gaps of the heap, code. */
static uint64_t need(const didi_merge *self, merge_phase phase, size_t index, bool ranks_known,
                     const solve_visit *visit)
{
    enum { COUNTED_PARTS = 15 };
    solve_shape shape = shape_of(self, index);
    solve_rows held = ranks_known ? rows_known(self, index) : rows_at_most(&shape);
    uint64_t counted = phase == PHASE_DECOMPOSE ? solve_memory_decompose(&shape, visit)
                       : phase == PHASE_PURSUE  ? solve_memory_pursue(&shape, visit)
                                                : solve_memory_refine(&shape, visit, &held);
    return memory_add(counted, counted / COUNTED_PARTS);
}

/* In memory if one expert at a time fits, else streamed, else factors spilled too; then as many
 * experts at once as fit. */
static merge_visit choose(const didi_merge *self, merge_phase phase, size_t index, bool ranks_known)
{
    uint64_t limit = self->options.memory_limit > 0 ? self->options.memory_limit : UINT64_MAX;
    uint64_t lanes = self->options.workers < self->options.task_count ? self->options.workers
                                                                      : self->options.task_count;
    merge_visit found = {.how = {.lanes = 1}};
    found.bytes = need(self, phase, index, ranks_known, &found.how);
    if (found.bytes > limit && !merge_needs_spectra(self)) {
        found.how.streamed = true;
        found.bytes = need(self, phase, index, ranks_known, &found.how);
    }
    if (found.bytes > limit && found.how.streamed) {
        solve_visit spilled = {true, true, 1};
        uint64_t bytes = need(self, phase, index, ranks_known, &spilled);
        if (bytes < found.bytes)
            found = (merge_visit){spilled, bytes};
    }
    for (; lanes > 1; lanes--) {
        solve_visit wider = {found.how.streamed, found.how.spilled, lanes};
        uint64_t bytes = need(self, phase, index, ranks_known, &wider);
        if (bytes <= limit)
            return (merge_visit){wider, bytes};
    }
    return found;
}

merge_visit merge_visit_of(const didi_merge *self, merge_phase phase, size_t index)
{
    return choose(self, phase, index, phase == PHASE_REFINE);
}

uint64_t merge_item_memory(const didi_merge *self, merge_phase phase, size_t index)
{
    enum { SMALL_BYTES = 4 << 20 };
    if (!merge_is_of_layer(phase) || index >= self->layer_count)
        return SMALL_BYTES;
    uint64_t bytes = merge_visit_of(self, phase, index).bytes;
    /* An item that was promised to fit is never held back for good. */
    uint64_t limit = self->options.memory_limit;
    return limit > 0 && bytes > limit ? limit : bytes;
}

static int compare_sizes(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a > b ? -1 : a < b;
}

/* Over all stages: the memory a layer takes at least and will take, and its spilled bytes. */
typedef struct layer_plan {
    uint64_t least, taken, spilled;
    bool streamed;
} layer_plan;

static layer_plan plan_layer(const didi_merge *self, size_t index)
{
    static const merge_phase phases[] = {PHASE_DECOMPOSE, PHASE_PURSUE, PHASE_REFINE};
    bool exact = merge_needs_spectra(self);
    solve_shape shape = shape_of(self, index);
    layer_plan found = {0};
    for (size_t p = 0; p < sizeof phases / sizeof *phases; p++) {
        if (phases[p] == PHASE_PURSUE && !merge_pursues(self))
            continue;
        merge_visit visit = choose(self, phases[p], index, false);
        uint64_t least = UINT64_MAX;
        for (unsigned way = 0; way < (exact ? 1 : 3); way++) {
            solve_visit frugal = {way > 0, way > 1, 1};
            uint64_t bytes = need(self, phases[p], index, false, &frugal);
            least = bytes < least ? bytes : least;
        }
        found.least = larger(found.least, least);
        found.taken = larger(found.taken, visit.bytes);
        found.streamed = found.streamed || visit.how.streamed;
        if (visit.how.spilled)
            found.spilled = larger(found.spilled, solve_spill_bytes(&shape, &visit.how));
    }
    return found;
}

int merge_plan_memory(didi_merge *self, didi_error *error)
{
    enum { FLOOR_BYTES = 8 << 20 }; /* dense scan, copies, digests */
    didi_plan *plan = &self->plan;
    uint64_t *sizes = memory_zeroed(self->layer_count, sizeof *sizes);
    if (sizes == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "plan of %zu layers", self->layer_count);
    uint64_t largest = 0;
    uint64_t spilled = 0;
    plan->memory_minimum_bytes = FLOOR_BYTES;
    for (size_t i = 0; i < self->layer_count; i++) {
        layer_plan of = plan_layer(self, i);
        sizes[i] = of.taken;
        plan->memory_minimum_bytes = larger(plan->memory_minimum_bytes, of.least);
        plan->streamed_count += of.streamed;
        if (of.streamed)
            plan->streamed_bytes =
                memory_add(plan->streamed_bytes, self->layers[i]->base->tensor->bytes);
        largest = larger(largest, of.spilled);
        spilled += of.spilled > 0;
    }
    uint64_t at_once = spilled < self->options.workers ? spilled : self->options.workers;
    plan->spilled_bytes = memory_multiply(largest, at_once);
    qsort(sizes, self->layer_count, sizeof *sizes, compare_sizes);
    plan->memory_peak_bytes = 0;
    for (size_t i = 0; i < self->layer_count && i < self->options.workers; i++)
        plan->memory_peak_bytes = memory_add(plan->memory_peak_bytes, sizes[i]);
    plan->memory_peak_bytes = larger(plan->memory_peak_bytes, FLOOR_BYTES);
    uint64_t limit = self->options.memory_limit;
    if (limit > 0 && plan->memory_peak_bytes > limit && limit >= plan->memory_minimum_bytes)
        plan->memory_peak_bytes = limit;
    free(sizes);
    if (limit > 0 && limit < plan->memory_minimum_bytes)
        return didi_fail(error, DIDI_MEMORY_LIMIT, "memory_limit",
                         "memory_limit is %llu bytes; the largest layer needs %llu",
                         (unsigned long long)limit, (unsigned long long)plan->memory_minimum_bytes);
    return DIDI_OK;
}
