/* SPDX-License-Identifier: Apache-2.0 */
/* Half-sweeps: one side of all blocks solved for at once, the other one known. With known rows Q_s
 * and Q_t, orthonormal, the least-squares answer eliminates the experts: with shares s_t of the
 * weights, C_t = Q_s Q_t' and Y_t = Q_t X_t (X_t is tau_t or its transpose),
 *
 *     [sum_t s_t (I - C_t C_t')] G_s = sum_t s_t (Q_s X_t - C_t Y_t),   G_t = Y_t - C_t' G_s. */
#include "src/layer/layer.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* Of the system's diagonal, at most 1: in directions that every expert holds too the shared block
 * stays where it is. */
#define RIDGE 1e-3

enum { PANEL_COLUMNS = 1024 };

/* One block under way. */
typedef struct side {
    size_t rank, rows; /* wanted; orthonormal ones found */
    float *known;      /* rows x known_length: Q */
    float *fresh;      /* rows x fresh_length: Y */
    float *spare;      /* scratch, then the fresh side it replaces, over Q */
} side;

typedef struct sweep {
    layer *layer;
    bool from_left, joined; /* a shared block is solved for too */
    double relax;
    size_t known_length, fresh_length;
    side shared;       /* fresh: right-hand sides, then G_s */
    side *experts;     /* T; arrays of those in flight alone */
    float **cross;     /* T: C_t, shared rows x rows of the expert */
    float *system;     /* shared rows squared */
    double *captured;  /* T: |Y_t|^2 */
    size_t first, end; /* tasks in flight */
} sweep;

static void side_clear(side *self)
{
    spill_free(self->known);
    spill_free(self->fresh);
    spill_free(self->spare);
    *self = (side){.rank = self->rank, .rows = self->rows};
}

static void sweep_clear(sweep *self)
{
    side_clear(&self->shared);
    for (size_t t = 0; t < self->layer->tasks; t++) {
        if (self->experts != NULL)
            side_clear(&self->experts[t]);
        if (self->cross != NULL)
            spill_free(self->cross[t]);
    }
    free(self->experts);
    free(self->cross);
    free(self->captured);
    free(self->system);
}

static const float *fresh_of(const sweep *self, const block *from)
{
    return self->from_left ? from->right : from->left;
}

static const float *known_of(const sweep *self, const block *from)
{
    return self->from_left ? from->left : from->right;
}

/* Q and Y of one block, and its present fresh side in terms of Q. */
static int side_begin(const sweep *self, size_t index, side *out, didi_error *error)
{
    const layer *of = self->layer;
    assert(of->blocks[index].rank <= of->blocks[index].basis);
    const block *old = &of->blocks[index];
    size_t wide = of->rows > of->columns ? of->rows : of->columns;
    out->rank = old->rank;
    out->rows = 0;
    if (old->rank == 0)
        return DIDI_OK;
    if (layer_is_cancelled(of))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    out->known = layer_allocate(of, old->rank, self->known_length * sizeof(float));
    out->fresh = layer_allocate(of, old->rank, self->fresh_length * sizeof(float));
    out->spare = layer_allocate(of, old->rank, wide * sizeof(float));
    if (out->known == NULL || out->fresh == NULL || out->spare == NULL)
        return layer_fail_allocation(of, error);
    layer_copy(of, out->known, known_of(self, old), old->rank * self->known_length);
    layer_count_product(of, old->rank, old->rank, self->known_length);
    int status = linalg_orthonormalise_rows(of->parallel, old->rank, self->known_length, out->known,
                                            out->spare, &out->rows, error);
    if (status != DIDI_OK)
        return status;
    status = self->joined ? layer_apply(of, index, !self->from_left, out->rows, out->known,
                                        out->fresh, error)
                          : layer_apply_residual(of, index, !self->from_left, out->rows, out->known,
                                                 out->fresh, error);
    if (status != DIDI_OK || (self->relax == 1 && index > 0))
        return status;
    float *core = memory_aligned(out->rows * old->rank, sizeof *core);
    if (core == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "product of %zu rows", old->rank);
    layer_count_product(of, out->rows, old->rank, self->known_length + self->fresh_length);
    linalg_gemm_shared(of->parallel, false, true, out->rows, old->rank, self->known_length, 1.0F,
                       out->known, self->known_length, known_of(self, old), self->known_length,
                       0.0F, core, old->rank);
    linalg_gemm_shared(of->parallel, false, false, out->rows, self->fresh_length, old->rank, 1.0F,
                       core, old->rank, fresh_of(self, old), self->fresh_length, 0.0F, out->spare,
                       self->fresh_length);
    free(core);
    return DIDI_OK;
}

typedef struct relaxed {
    float relax;
    float *fresh;
    const float *before;
} relaxed;

static void go_beyond(void *argument, size_t first, size_t end)
{
    const relaxed *self = argument;
    for (size_t i = first; i < end; i++)
        self->fresh[i] = self->relax * self->fresh[i] + (1 - self->relax) * self->before[i];
    spill_touched(2 * (end - first) * sizeof *self->fresh);
}

/* The sides become the block's: Y, or as far beyond it as `relax` says. */
static int side_adopt(const sweep *self, size_t index, side *from, didi_error *error)
{
    block *out = &self->layer->blocks[index];
    double *sigma = memory_zeroed(from->rows, sizeof *sigma);
    relaxed going = {(float)self->relax, from->fresh, from->spare};
    if (sigma == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "lengths of %zu rows", from->rows);
    if (self->relax != 1)
        parallel_ranges(self->layer->parallel, from->rows * self->fresh_length, LAYER_ELEMENTS,
                        go_beyond, &going);
    layer_drop_block(self->layer, index);
    *out = (block){.rank = from->rows,
                   .basis = from->rows,
                   .left = self->from_left ? from->known : from->fresh,
                   .right = self->from_left ? from->fresh : from->known,
                   .left_is_fresh = !self->from_left,
                   .sigma = sigma};
    from->known = from->fresh = NULL;
    side_clear(from);
    return DIDI_OK;
}

static int begin_expert(void *argument, size_t lane, didi_error *error)
{
    sweep *self = argument;
    size_t task = self->first + lane;
    side *own = &self->experts[task];
    int status = side_begin(self, task + 1, own, error);
    if (status != DIDI_OK || own->rows == 0)
        return status;
    self->captured[task] = linalg_energy(own->fresh, own->rows * self->fresh_length);
    if (!self->joined)
        return DIDI_OK;
    size_t rows = self->shared.rows;
    self->cross[task] = layer_allocate(self->layer, rows, own->rows * sizeof(float));
    if (self->cross[task] == NULL)
        return layer_fail_allocation(self->layer, error);
    layer_count_product(self->layer, rows, own->rows, self->known_length);
    linalg_gemm_shared(self->layer->parallel, false, true, rows, own->rows, self->known_length,
                       1.0F, self->shared.known, self->known_length, own->known, self->known_length,
                       0.0F, self->cross[task], own->rows);
    return DIDI_OK;
}

static size_t panel_count(const sweep *self)
{
    return (self->fresh_length + PANEL_COLUMNS - 1) / PANEL_COLUMNS;
}

/* Takes the experts in flight off the shared system (the last index) or a panel of its right-hand
 * sides, one after the other. */
static void eliminate(void *argument, size_t panel)
{
    sweep *self = argument;
    const layer *of = self->layer;
    size_t rows = self->shared.rows;
    size_t first = panel * PANEL_COLUMNS;
    size_t left = panel < panel_count(self) ? self->fresh_length - first : 0;
    size_t columns = left < PANEL_COLUMNS ? left : PANEL_COLUMNS;
    for (size_t t = self->first; t < self->end; t++) {
        const side *own = &self->experts[t];
        float share = (float)(of->weight[t] / of->weight_sum);
        if (own->rows == 0 || share == 0)
            continue;
        if (columns > 0)
            linalg_gemm(false, false, rows, columns, own->rows, -share, self->cross[t], own->rows,
                        own->fresh + first, self->fresh_length, 1.0F, self->shared.fresh + first,
                        self->fresh_length);
        else
            linalg_gemm_shared(of->parallel, false, true, rows, rows, own->rows, -share,
                               self->cross[t], own->rows, self->cross[t], own->rows, 1.0F,
                               self->system, rows);
        layer_count_product(of, rows, columns > 0 ? columns : rows, own->rows);
    }
}

static int adopt_expert(void *argument, size_t lane, didi_error *error)
{
    sweep *self = argument;
    size_t task = self->first + lane;
    side *own = &self->experts[task];
    return own->rank > 0 ? side_adopt(self, task + 1, own, error) : DIDI_OK;
}

/* As many experts at once as the layer has lanes. */
static int take_experts(sweep *self, didi_error *error)
{
    layer *of = self->layer;
    size_t lanes = of->lanes > 0 && of->lanes < of->tasks ? of->lanes : of->tasks;
    int status = DIDI_OK;
    for (self->first = 0; self->first < of->tasks && status == DIDI_OK; self->first = self->end) {
        size_t count = smaller(of->tasks - self->first, lanes);
        self->end = self->first + count;
        status = parallel_try(of->parallel, count, begin_expert, self, error);
        if (status == DIDI_OK && self->joined)
            parallel_run(of->parallel, panel_count(self) + 1, eliminate, self);
        if (status == DIDI_OK)
            status = parallel_try(of->parallel, count, adopt_expert, self, error);
    }
    return status;
}

static void pull_back(void *argument, size_t first, size_t end)
{
    const side *shared = argument;
    for (size_t i = first; i < end; i++)
        shared->fresh[i] += (float)RIDGE * shared->spare[i];
    spill_touched(2 * (end - first) * sizeof(float));
}

/* G_s in place of its right-hand sides, and the share of the weighted energy it accounts for. */
static int solve_shared(sweep *self, double *ret_captured, didi_error *error)
{
    side *own = &self->shared;
    size_t rows = own->rows;
    size_t count = rows * self->fresh_length;
    double *system = memory_aligned(rows * rows, sizeof *system);
    float *wanted = layer_allocate(self->layer, rows, self->fresh_length * sizeof *wanted);
    int status = DIDI_OK;
    if (system == NULL || wanted == NULL) {
        status = layer_fail_allocation(self->layer, error);
        goto out;
    }
    for (size_t i = 0; i < rows * rows; i++)
        system[i] = (double)self->system[i];
    for (size_t i = 0; i < rows; i++)
        system[i * rows + i] += 1 + RIDGE;
    layer_copy(self->layer, wanted, own->fresh, count);
    parallel_ranges(self->layer->parallel, count, LAYER_ELEMENTS, pull_back, own);
    layer_count_product(self->layer, rows, rows, self->fresh_length);
    status = linalg_solve_spd(self->layer->parallel, rows, system, self->fresh_length, own->fresh,
                              error);
    if (status == DIDI_OK)
        *ret_captured =
            linalg_dot(wanted, own->fresh, count) +
            RIDGE * (linalg_energy(own->fresh, count) - linalg_dot(own->fresh, own->spare, count));
out:
    free(system);
    spill_free(wanted);
    return status;
}

typedef struct measured {
    const float *rows;
    size_t length;
    double *lengths;
} measured;

static void measure_rows(void *argument, size_t first, size_t end)
{
    const measured *self = argument;
    for (size_t i = first; i < end; i++)
        self->lengths[i] = sqrt(linalg_energy(self->rows + i * self->length, self->length));
}

/* Lengths of a block's new rows, and its rank as it was. */
static int end_block(sweep *self, size_t index, const side *from, didi_error *error)
{
    block *out = &self->layer->blocks[index];
    size_t length = self->fresh_length;
    measured work = {fresh_of(self, out), length, out->sigma};
    parallel_ranges(self->layer->parallel, from->rows, layer_rows_at_once(length), measure_rows,
                    &work);
    int status = layer_pad_block(self->layer, index, from->rank, error);
    if (status == DIDI_OK)
        out->rank = from->rank;
    return status;
}

static int end_expert(void *argument, size_t task, didi_error *error)
{
    sweep *self = argument;
    const side *own = &self->experts[task];
    const block *out = &self->layer->blocks[task + 1];
    size_t length = self->fresh_length;
    if (own->rank == 0)
        return DIDI_OK;
    if (self->joined && own->rows > 0) {
        layer_count_product(self->layer, self->shared.rows, own->rows, length);
        linalg_gemm_shared(self->layer->parallel, true, false, own->rows, length, self->shared.rows,
                           -(float)self->relax, self->cross[task], own->rows, self->shared.fresh,
                           length, 1.0F, self->from_left ? out->right : out->left, length);
    }
    return end_block(self, task + 1, own, error);
}

static int end_shared(sweep *self, didi_error *error)
{
    int status = side_adopt(self, 0, &self->shared, error);
    return status == DIDI_OK ? end_block(self, 0, &self->shared, error) : status;
}

/* Which side of the first block that has rows was solved for last. */
static bool left_is_known(const layer *of)
{
    size_t j = 0;
    while (j < of->tasks && of->blocks[j].rank == 0)
        j++;
    return of->blocks[j].left_is_fresh;
}

static int sweep_create(layer *of, double relax, sweep *ret_sweep, didi_error *error)
{
    bool from_left = left_is_known(of);
    size_t rows = of->blocks[0].rank;
    *ret_sweep = (sweep){.layer = of,
                         .from_left = from_left,
                         .joined = of->weight_sum > 0 && rows > 0,
                         .relax = relax,
                         .known_length = from_left ? of->rows : of->columns,
                         .fresh_length = from_left ? of->columns : of->rows,
                         .experts = memory_zeroed(of->tasks, sizeof(side)),
                         .cross = memory_zeroed(of->tasks, sizeof(float *)),
                         .captured = memory_zeroed(of->tasks, sizeof(double)),
                         .system = memory_zeroed(rows * rows, sizeof(float))};
    if (ret_sweep->experts != NULL && ret_sweep->cross != NULL && ret_sweep->captured != NULL &&
        ret_sweep->system != NULL)
        return DIDI_OK;
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "blocks of %zu tasks", of->tasks);
}

int layer_half_sweep(layer *self, double relax, double *ret_loss, didi_error *error)
{
    assert(self->gain == 1 && relax > 0 && relax < 2); /* not after solve_restore */
    sweep work;
    double shared = 0;
    int status = sweep_create(self, relax, &work, error);
    if (status == DIDI_OK && work.joined)
        status = side_begin(&work, 0, &work.shared, error);
    if (status == DIDI_OK)
        status = take_experts(&work, error);
    if (status == DIDI_OK && work.joined)
        status = solve_shared(&work, &shared, error);
    if (status == DIDI_OK)
        status = parallel_try(self->parallel, self->tasks, end_expert, &work, error);
    if (status == DIDI_OK && work.joined)
        status = end_shared(&work, error);
    if (status == DIDI_OK) {
        double loss = -self->weight_sum * shared;
        for (size_t t = 0; t < self->tasks; t++)
            loss += self->weight[t] * (self->energy[t] - work.captured[t]);
        *ret_loss = loss > 0 ? loss : 0;
    }
    sweep_clear(&work);
    return status;
}
