/* SPDX-License-Identifier: Apache-2.0 */
/* How each layer is opened under the memory limit, and what the plan says of memory. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"

#include <stdlib.h>

/* Exact spectra are of matrices, and what a package shares may be one. */
static family_ranks ranks_of(const didi *self, size_t index)
{
    const family_tensor *tensor = self->work->layers[index];
    if (didi_needs_spectra(self) || extension_shares(self->work->extension, tensor))
        return (family_ranks){0};
    return family_sum_ranks(self->work->family, tensor);
}

size_t didi_most_rows(const didi *self, size_t index, bool of_one)
{
    family_ranks found = ranks_of(self, index);
    if (found.tasks < self->work->options.task_count || found.tasks == 0)
        return SIZE_MAX;
    return larger(of_one ? found.most : found.sum, 1);
}

size_t didi_sketch_rows(const didi *self, size_t index)
{
    const family_tensor *tensor = self->work->layers[index];
    size_t rows = solve_sketch_rows(tensor->rows, tensor->columns, self->work->options.task_count,
                                    didi_sketch_ratio(self));
    return smaller(rows, didi_most_rows(self, index, true));
}

static solve_shape shape_of(const didi *self, size_t index)
{
    const family_tensor *tensor = self->work->layers[index];
    family_ranks ranks = ranks_of(self, index);
    return (solve_shape){
        .rows = tensor->rows,
        .columns = tensor->columns,
        .tasks = self->work->options.task_count,
        .workers = self->work->options.workers > 0 ? self->work->options.workers : 1,
        .limits = self->limits[index],
        .sketch_rows = didi_sketch_rows(self, index),
        .factored = ranks.tasks,
        .factor_rows = ranks.sum,
        .exact = didi_needs_spectra(self),
        .adam = self->work->options.optimizer == DIDI_OPTIMIZER_ADAM,
        .packed = !precision_is_plain(self->work->options.precision, NULL),
    };
}

/* What refinement holds, once the ranks are known. */
static solve_rows rows_known(const didi *self, size_t index)
{
    const layer_summary *summary = &self->work->summaries[index];
    bool listed = didi_pursues(self); /* else the list is the whole spectrum */
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
static uint64_t need(const didi *self, didi_row row, size_t index, bool ranks_known,
                     const work_mode *mode)
{
    enum { COUNTED_PARTS = 15 };
    solve_shape shape = shape_of(self, index);
    solve_rows held = ranks_known ? rows_known(self, index) : solve_rows_at_most(&shape);
    uint64_t counted = row == DIDI_ROW_DECOMPOSE ? solve_memory_decompose(&shape, mode)
                       : row == DIDI_ROW_PURSUE  ? solve_memory_pursue(&shape, mode)
                                                 : solve_memory_refine(&shape, mode, &held);
    return memory_add(counted, counted / COUNTED_PARTS);
}

/* In memory if one expert at a time fits, else streamed, else factors spilled too; then as many
 * experts at once as fit. */
static didi_mode choose(const didi *self, didi_row row, size_t index, bool ranks_known)
{
    uint64_t limit =
        self->work->options.memory_limit > 0 ? self->work->options.memory_limit : UINT64_MAX;
    uint64_t lanes = self->work->options.workers < self->work->options.task_count
                         ? self->work->options.workers
                         : self->work->options.task_count;
    didi_mode found = {.how = {.lanes = 1}};
    found.bytes = need(self, row, index, ranks_known, &found.how);
    if (found.bytes > limit && !didi_needs_spectra(self)) {
        found.how.streamed = true;
        found.bytes = need(self, row, index, ranks_known, &found.how);
    }
    if (found.bytes > limit && found.how.streamed) {
        work_mode spilled = {.streamed = true, .spilled = true, .lanes = 1};
        uint64_t bytes = need(self, row, index, ranks_known, &spilled);
        if (bytes < found.bytes)
            found = (didi_mode){spilled, bytes};
    }
    for (; lanes > 1; lanes--) {
        work_mode wider = found.how;
        wider.lanes = lanes;
        uint64_t bytes = need(self, row, index, ranks_known, &wider);
        if (bytes <= limit)
            return (didi_mode){wider, bytes};
    }
    return found;
}

didi_mode didi_mode_of(const didi *self, didi_row row, size_t index)
{
    didi_mode found = choose(self, row, index, row == DIDI_ROW_REFINE);
    found.how.whole = didi_needs_spectra(self);
    return found;
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

static layer_plan plan_layer(const didi *self, size_t index)
{
    static const didi_row rows[] = {DIDI_ROW_DECOMPOSE, DIDI_ROW_PURSUE, DIDI_ROW_REFINE};
    bool exact = didi_needs_spectra(self);
    solve_shape shape = shape_of(self, index);
    layer_plan found = {0};
    for (size_t p = 0; p < sizeof rows / sizeof *rows; p++) {
        if (rows[p] == DIDI_ROW_PURSUE && !didi_pursues(self))
            continue;
        didi_mode mode = choose(self, rows[p], index, false);
        uint64_t least = UINT64_MAX;
        for (unsigned way = 0; way < (exact ? 1 : 3); way++) {
            work_mode frugal = {.streamed = way > 0, .spilled = way > 1, .lanes = 1};
            uint64_t bytes = need(self, rows[p], index, false, &frugal);
            least = bytes < least ? bytes : least;
        }
        found.least = larger(found.least, least);
        found.taken = larger(found.taken, mode.bytes);
        found.streamed = found.streamed || mode.how.streamed;
        if (mode.how.spilled)
            found.spilled = larger(found.spilled, solve_spill_bytes(&shape, &mode.how));
    }
    return found;
}

int didi_plan_memory(didi *self, didi_error *error)
{
    enum { FLOOR_BYTES = 8 << 20 }; /* dense scan, copies, digests */
    didi_plan *plan = &self->work->plan;
    uint64_t *sizes = memory_zeroed(self->work->layer_count, sizeof *sizes);
    if (sizes == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "plan of %zu layers",
                         self->work->layer_count);
    uint64_t largest = 0;
    uint64_t spilled = 0;
    plan->memory_minimum_bytes = FLOOR_BYTES;
    for (size_t i = 0; i < self->work->layer_count; i++) {
        layer_plan of = plan_layer(self, i);
        sizes[i] = of.taken;
        plan->memory_minimum_bytes = larger(plan->memory_minimum_bytes, of.least);
        plan->streamed_count += of.streamed;
        if (of.streamed)
            plan->streamed_bytes =
                memory_add(plan->streamed_bytes, self->work->layers[i]->base->tensor->bytes);
        largest = larger(largest, of.spilled);
        spilled += of.spilled > 0;
    }
    uint64_t at_once =
        spilled < self->work->options.workers ? spilled : self->work->options.workers;
    plan->spilled_bytes = memory_multiply(largest, at_once);
    qsort(sizes, self->work->layer_count, sizeof *sizes, compare_sizes);
    plan->memory_peak_bytes = 0;
    for (size_t i = 0; i < self->work->layer_count && i < self->work->options.workers; i++)
        plan->memory_peak_bytes = memory_add(plan->memory_peak_bytes, sizes[i]);
    plan->memory_peak_bytes = larger(plan->memory_peak_bytes, FLOOR_BYTES);
    uint64_t limit = self->work->options.memory_limit;
    if (limit > 0 && plan->memory_peak_bytes > limit && limit >= plan->memory_minimum_bytes)
        plan->memory_peak_bytes = limit;
    free(sizes);
    if (limit > 0 && limit < plan->memory_minimum_bytes)
        return didi_fail(error, DIDI_MEMORY_LIMIT, "memory_limit",
                         "memory_limit is %llu bytes; the largest layer needs %llu",
                         (unsigned long long)limit, (unsigned long long)plan->memory_minimum_bytes);
    return DIDI_OK;
}
