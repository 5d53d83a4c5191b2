/* SPDX-License-Identifier: Apache-2.0 */
/* Products with the dense matrices of a layer, in panels of rows. Whether a panel is held in memory
 * or read for the occasion, the same pieces are multiplied in the same order: no bit differs. */
#include "src/layer/matrix.h"

#include "src/base/base.h"
#include "src/layer/factors.h"
#include "src/math/math.h"
#include "src/package/package.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    PANEL_ELEMENTS = 1 << 22,
    PANEL_ROWS_MIN = 64,
    PANEL_ROWS_MAX = 2048,
    PIECE_ELEMENTS = 1 << 17, /* converted at once: stays in cache */
    TILE_COLUMNS = 512,
    TILE_BASIS = 512,
    PANELS_AHEAD = 2,
};

bool layer_is_cancelled(const layer *self)
{
    return self->cancelled != NULL && atomic_load_explicit(self->cancelled, memory_order_relaxed);
}

void layer_count_product(const layer *self, size_t m, size_t n, size_t k)
{
    if (self->flops != NULL)
        atomic_fetch_add_explicit(self->flops, 2 * (unsigned long long)m * n * k,
                                  memory_order_relaxed);
}

bool layer_is_streamed(const layer *self)
{
    return self->source.read_delta != NULL && self->dense_tasks > 0;
}

size_t layer_panel_rows(size_t rows, size_t columns)
{
    size_t wanted = PANEL_ELEMENTS / (columns > 0 ? columns : 1) / PANEL_ROWS_MIN * PANEL_ROWS_MIN;
    if (wanted < PANEL_ROWS_MIN)
        wanted = PANEL_ROWS_MIN;
    return smaller(smaller(wanted, PANEL_ROWS_MAX), rows);
}

/* ---- elements of tau_t and of the weighted mean ---- */

static void add_share(float *out, const float *values, float share, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] += share * values[i];
}

/* In the mean of the dense ones. */
static float share_of(const layer *self, size_t task)
{
    return layer_holds_factors(self, task) ? 0.0F : layer_share(self, task);
}

static const float *resident(const layer *self, size_t index)
{
    if (index == 0 || self->tau == NULL)
        return self->mean;
    return layer_tau(self, index - 1);
}

/* The same of tau_task; `base` is there already. */
static int read_task(const layer *self, size_t task, uint64_t first, size_t count,
                     const float *base, float *out, didi_error *error)
{
    const layer_source *from = &self->source;
    int status = from->read_delta(from->context, task, first, count, base, out, error);
    if (status == DIDI_OK && self->offset != NULL)
        status = addition_subtract(self->offset, first, count, out, error);
    return status;
}

/* Elements [first, first + count) of a streamed D_index; `count` is at most PIECE_ELEMENTS, `spare`
 * holds twice as many. */
static int read_piece(const layer *self, size_t index, uint64_t first, size_t count, float *out,
                      float *spare, didi_error *error)
{
    assert(count <= PIECE_ELEMENTS);
    const layer_source *from = &self->source;
    float *base = spare;
    int status = from->read_base(from->context, first, count, base, error);
    if (status != DIDI_OK || index > 0)
        return status != DIDI_OK ? status
                                 : read_task(self, index - 1, first, count, base, out, error);
    memset(out, 0, count * sizeof *out);
    for (size_t t = 0; t < self->tasks && status == DIDI_OK; t++) {
        float share = share_of(self, t);
        if (share == 0)
            continue;
        status = read_task(self, t, first, count, base, spare + PIECE_ELEMENTS, error);
        if (status == DIDI_OK)
            add_share(out, spare + PIECE_ELEMENTS, share, count);
    }
    return status;
}

/* What one thread reads of a panel. */
typedef struct load {
    const layer *layer;
    size_t index, first_row, rows;
    float *out;
} load;

static size_t load_pieces(const load *work)
{
    return (work->rows * work->layer->columns + PIECE_ELEMENTS - 1) / PIECE_ELEMENTS;
}

static int load_range(const load *work, size_t piece, size_t end, didi_error *error)
{
    const layer *self = work->layer;
    size_t total = work->rows * self->columns;
    uint64_t start = (uint64_t)work->first_row * self->columns;
    float *spare = memory_aligned(2, PIECE_ELEMENTS * sizeof *spare);
    if (spare == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "pieces of a panel");
    int status = DIDI_OK;
    for (; piece < end && status == DIDI_OK; piece++) {
        size_t first = piece * PIECE_ELEMENTS;
        status = layer_is_cancelled(self) ? didi_fail(error, DIDI_CANCELLED, NULL, "cancelled")
                                          : read_piece(self, work->index, start + first,
                                                       smaller(total - first, PIECE_ELEMENTS),
                                                       work->out + first, spare, error);
    }
    free(spare);
    return status;
}

/* Tells the system which rows come soon, so that they are read while others are multiplied. */
static void announce(const layer *self, size_t index, size_t first_row, size_t panel_rows)
{
    const layer_source *from = &self->source;
    if (from->will_need == NULL || first_row >= self->rows)
        return;
    uint64_t first = (uint64_t)first_row * self->columns;
    uint64_t count = (uint64_t)smaller(panel_rows, self->rows - first_row) * self->columns;
    from->will_need(from->context, 0, first, count);
    for (size_t t = 1; t <= self->tasks; t++)
        if (index == 0 ? share_of(self, t - 1) != 0 : t == index)
            from->will_need(from->context, t, first, count);
}

int layer_read_rows(const layer *self, size_t task, size_t first_row, size_t rows, float *out,
                    didi_error *error)
{
    assert(task < self->tasks && first_row <= self->rows && rows <= self->rows - first_row);
    if (layer_holds_factors(self, task)) {
        factors_read_rows(self, task, first_row, rows, out);
        return DIDI_OK;
    }
    if (!layer_is_streamed(self)) {
        memcpy(out, resident(self, task + 1) + first_row * self->columns,
               rows * self->columns * sizeof *out);
        return DIDI_OK;
    }
    load work = {self, task + 1, first_row, rows, out};
    announce(self, task + 1, first_row + rows, rows);
    return load_range(&work, 0, load_pieces(&work), error);
}

/* ---- energies and the mean ---- */

static int measure_task(void *argument, size_t task, didi_error *error)
{
    layer *self = argument;
    bool streamed = layer_is_streamed(self);
    if (layer_holds_factors(self, task))
        return factors_energy(self, task, &self->energy[task], error);
    uint64_t count = (uint64_t)self->rows * self->columns;
    float *piece = streamed ? memory_aligned(3, PIECE_ELEMENTS * sizeof *piece) : NULL;
    if (streamed && piece == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "pieces of a task vector");
    double energy = 0;
    int status = DIDI_OK;
    for (uint64_t first = 0; first < count && status == DIDI_OK; first += PIECE_ELEMENTS) {
        size_t part = smaller(count - first, PIECE_ELEMENTS);
        if (layer_is_cancelled(self))
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        else if (streamed)
            status = read_piece(self, task + 1, first, part, piece, piece + PIECE_ELEMENTS, error);
        if (status == DIDI_OK)
            energy += linalg_energy(streamed ? piece : resident(self, task + 1) + first, part);
    }
    free(piece);
    if (status == DIDI_OK)
        self->energy[task] = energy;
    return status;
}

int layer_measure(layer *self, didi_error *error)
{
    return parallel_try(self->parallel, self->tasks, measure_task, self, error);
}

static void mean_piece(void *argument, size_t piece)
{
    layer *self = argument;
    size_t first = piece * PIECE_ELEMENTS;
    size_t count = smaller(self->rows * self->columns - first, PIECE_ELEMENTS);
    memset(self->mean + first, 0, count * sizeof *self->mean);
    for (size_t t = 0; t < self->tasks; t++)
        if (share_of(self, t) != 0)
            add_share(self->mean + first, resident(self, t + 1) + first, share_of(self, t), count);
}

void layer_set_weights(layer *self, const double *weight)
{
    self->weighted = true;
    self->weight_sum = 0;
    for (size_t t = 0; t < self->tasks; t++) {
        assert(!(weight[t] < 0));
        self->weight[t] = weight[t];
        self->weight_sum += weight[t];
    }
    if (self->mean == NULL)
        return;
    size_t count = self->rows * self->columns;
    parallel_run(self->parallel, (count + PIECE_ELEMENTS - 1) / PIECE_ELEMENTS, mean_piece, self);
}

/* ---- products ---- */

typedef struct product {
    const layer *layer;
    size_t index, basis, panel_rows;
    const float *in;
    float *out;
} product;

static size_t rows_of(const product *work, size_t panel)
{
    return smaller(work->panel_rows, work->layer->rows - panel * work->panel_rows);
}

static size_t panel_count(const product *work)
{
    return (work->layer->rows + work->panel_rows - 1) / work->panel_rows;
}

static load load_of(const product *work, size_t panel, float *out)
{
    return (load){work->layer, work->index, panel * work->panel_rows, rows_of(work, panel), out};
}

static float *panel_create(const product *work, didi_error *error)
{
    float *fresh = memory_aligned(work->panel_rows, work->layer->columns * sizeof *fresh);
    if (fresh == NULL)
        (void)didi_fail(error, DIDI_NO_MEMORY, NULL, "panel of %zu x %zu", work->panel_rows,
                        work->layer->columns);
    return fresh;
}

/* Columns of out that belong to one panel: out[:, panel] = in panel'. */
static int transposed_panel(void *argument, size_t panel, didi_error *error)
{
    const product *work = argument;
    const layer *self = work->layer;
    size_t first = panel * work->panel_rows;
    const float *dense = resident(self, work->index);
    float *buffer = NULL;
    int status = DIDI_OK;
    if (layer_is_streamed(self)) {
        buffer = panel_create(work, error);
        if (buffer == NULL)
            return DIDI_NO_MEMORY;
        load all = load_of(work, panel, buffer);
        announce(self, work->index, first + PANELS_AHEAD * work->panel_rows, work->panel_rows);
        status = load_range(&all, 0, load_pieces(&all), error);
        dense = buffer;
    } else {
        dense += first * self->columns;
    }
    if (status == DIDI_OK)
        linalg_gemm_shared(self->parallel, false, true, work->basis, rows_of(work, panel),
                           self->columns, 1.0F, work->in, self->columns, dense, self->columns, 0.0F,
                           work->out + first, self->rows);
    free(buffer);
    return status;
}

/* Columns and rows of out that are computed together. */
static size_t tile_columns(const product *work)
{
    return parallel_width(work->layer->columns, TILE_COLUMNS);
}

static size_t tile_basis(const product *work)
{
    return parallel_width(work->basis, TILE_BASIS);
}

static size_t tiles_across(const product *work)
{
    return (work->layer->columns + tile_columns(work) - 1) / tile_columns(work);
}

static size_t tile_count(const product *work)
{
    return tiles_across(work) * ((work->basis + tile_basis(work) - 1) / tile_basis(work));
}

/* out[tile] += in[:, panel] panel[:, tile]; the first panel sets it. */
static void multiply_tile(const product *work, size_t tile, size_t panel, const float *dense)
{
    const layer *self = work->layer;
    size_t across = tiles_across(work);
    size_t column = tile % across * tile_columns(work);
    size_t row = tile / across * tile_basis(work);
    linalg_gemm(false, false, smaller(work->basis - row, tile_basis(work)),
                smaller(self->columns - column, tile_columns(work)), rows_of(work, panel), 1.0F,
                work->in + row * self->rows + panel * work->panel_rows, self->rows, dense + column,
                self->columns, panel == 0 ? 0.0F : 1.0F, work->out + row * self->columns + column,
                self->columns);
}

static void resident_tile(void *argument, size_t tile)
{
    const product *work = argument;
    const float *dense = resident(work->layer, work->index);
    size_t panels = panel_count(work);
    for (size_t p = 0; p < panels; p++)
        multiply_tile(work, tile, p, dense + p * work->panel_rows * work->layer->columns);
}

/* One panel is multiplied while the next is read. */
typedef struct stream {
    const product *product;
    size_t panel; /* multiplied; not yet any when there are no tiles */
    size_t tiles;
    const float *now;
    load next;
} stream;

static int stream_part(void *argument, size_t part, didi_error *error)
{
    const stream *work = argument;
    if (part >= work->tiles)
        return load_range(&work->next, part - work->tiles, part - work->tiles + 1, error);
    multiply_tile(work->product, part, work->panel, work->now);
    return DIDI_OK;
}

static int stream_panels(const product *work, float *buffers[2], didi_error *error)
{
    const layer *self = work->layer;
    size_t panels = panel_count(work);
    int status = DIDI_OK;
    /* Step s multiplies panel s - 1 and reads panel s. */
    for (size_t s = 0; s <= panels && status == DIDI_OK; s++) {
        stream step = {.product = work};
        size_t loads = 0;
        if (s < panels) {
            step.next = load_of(work, s, buffers[s % 2]);
            loads = load_pieces(&step.next);
            announce(self, work->index, (s + 1) * work->panel_rows, work->panel_rows);
        }
        if (s > 0) {
            step.panel = s - 1;
            step.now = buffers[(s - 1) % 2];
            step.tiles = tile_count(work);
        }
        status = parallel_try(self->parallel, step.tiles + loads, stream_part, &step, error);
    }
    return status;
}

static int apply_dense(product *work, bool transpose, didi_error *error)
{
    const layer *self = work->layer;
    layer_count_product(self, work->basis, self->rows, self->columns);
    if (transpose)
        return parallel_try(self->parallel, panel_count(work), transposed_panel, work, error);
    if (!layer_is_streamed(self)) {
        parallel_run(self->parallel, tile_count(work), resident_tile, work);
        return DIDI_OK;
    }
    float *buffers[2] = {panel_create(work, error), panel_create(work, error)};
    int status = buffers[0] != NULL && buffers[1] != NULL ? stream_panels(work, buffers, error)
                                                          : DIDI_NO_MEMORY;
    free(buffers[0]);
    free(buffers[1]);
    return status;
}

int layer_apply(const layer *self, size_t index, bool transpose, size_t basis, const float *in,
                float *out, didi_error *error)
{
    assert(index <= self->tasks && in != out &&
           (index > 0 || self->weighted || layer_is_streamed(self)));
    product work = {.layer = self,
                    .index = index,
                    .basis = basis,
                    .panel_rows = layer_panel_rows(self->rows, self->columns),
                    .in = in,
                    .out = out};
    if (basis == 0 || self->rows == 0 || self->columns == 0)
        return DIDI_OK;
    bool dense = index == 0 ? self->dense_tasks > 0 : !layer_holds_factors(self, index - 1);
    int status = dense ? apply_dense(&work, transpose, error) : DIDI_OK;
    return status == DIDI_OK && self->factors != NULL && (index == 0 || !dense)
               ? factors_apply(self, index, &(factors_product){transpose, dense, basis, in, out},
                               error)
               : status;
}
