/* SPDX-License-Identifier: Apache-2.0 */
/* Block updates by warm-started subspace iteration on residuals that are never formed. */
#include "src/layer/layer.h"

#include "src/base/base.h"
#include "src/layer/factors.h"
#include "src/math/math.h"
#include "src/package/package.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int create(size_t rows, size_t columns, size_t tasks, size_t dense_tasks, bool resident,
                  layer **ret_layer, didi_error *error)
{
    assert(rows > 0 && columns > 0 && tasks > 0);
    resident = resident && dense_tasks > 0;
    layer *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layer of %zu x %zu", rows, columns);
    self->rows = rows;
    self->columns = columns;
    self->tasks = tasks;
    self->dense_tasks = dense_tasks;
    if (resident) {
        self->tau = memory_aligned(dense_tasks, rows * columns * sizeof(float));
        self->mean = memory_aligned(rows * columns, sizeof(float));
    }
    self->weight = memory_zeroed(tasks, sizeof(double));
    self->energy = memory_zeroed(tasks, sizeof(double));
    self->blocks = memory_zeroed(tasks + 1, sizeof(block));
    if ((resident && (self->tau == NULL || self->mean == NULL)) || self->weight == NULL ||
        self->energy == NULL || self->blocks == NULL) {
        layer_free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layer of %zu task vectors of %zu x %zu",
                         tasks, rows, columns);
    }
    for (size_t t = 0; t < tasks; t++)
        self->weight[t] = 1.0;
    self->weight_sum = (double)tasks;
    self->gain = 1;
    *ret_layer = self;
    return DIDI_OK;
}

int layer_create(size_t rows, size_t columns, size_t tasks, layer **ret_layer, didi_error *error)
{
    return create(rows, columns, tasks, tasks, true, ret_layer, error);
}

int layer_create_streamed(size_t rows, size_t columns, size_t tasks, const layer_source *source,
                          layer **ret_layer, didi_error *error)
{
    assert(source->read_base != NULL && source->read_delta != NULL);
    int status = create(rows, columns, tasks, tasks, false, ret_layer, error);
    if (status == DIDI_OK)
        (*ret_layer)->source = *source;
    return status;
}

int layer_create_factored(size_t rows, size_t columns, size_t tasks, const size_t *rank,
                          const layer_source *source, layer **ret_layer, didi_error *error)
{
    size_t dense = 0;
    layer *self = NULL;
    for (size_t t = 0; t < tasks; t++)
        dense += rank[t] == LAYER_DENSE;
    int status = create(rows, columns, tasks, dense, source == NULL, &self, error);
    if (status == DIDI_OK)
        status = factors_create(self, rank, error);
    if (status != DIDI_OK) {
        layer_free(self);
        return status;
    }
    if (source != NULL)
        self->source = *source;
    *ret_layer = self;
    return DIDI_OK;
}

/* ---- where its factors live ---- */

void *layer_allocate(const layer *self, size_t count, size_t size)
{
    assert(!self->spilled || self->scratch_fd >= 0);
    errno = ENOMEM;
    return self->spilled ? spill_allocate(self->scratch_fd, count, size)
                         : memory_aligned(count, size);
}

int layer_fail_allocation(const layer *self, didi_error *error)
{
    bool full = self->spilled && (errno == ENOSPC || errno == EDQUOT);
    return didi_fail(error, full ? DIDI_DISK_FULL : DIDI_NO_MEMORY, NULL,
                     "factors of a matrix of %zu x %zu%s", self->rows, self->columns,
                     full ? " do not fit the disk of the work directory" : "");
}

size_t layer_rows_at_once(size_t length)
{
    return larger(LAYER_ELEMENTS / length, 1);
}

typedef struct copied {
    float *to;
    const float *from;
} copied;

static void copy_elements(void *argument, size_t first, size_t end)
{
    const copied *self = argument;
    memcpy(self->to + first, self->from + first, (end - first) * sizeof *self->to);
    spill_touched(2 * (end - first) * sizeof *self->to);
}

void layer_copy(const layer *self, float *to, const float *from, size_t count)
{
    copied work = {to, from};
    parallel_ranges(self->parallel, count, LAYER_ELEMENTS, copy_elements, &work);
}

/* ---- blocks ---- */

static void block_clear(block *self)
{
    spill_free(self->left);
    spill_free(self->right);
    free(self->sigma);
    *self = (block){0};
}

void layer_drop_block(layer *self, size_t index)
{
    assert(index <= self->tasks);
    block_clear(&self->blocks[index]);
}

void layer_free(layer *self)
{
    if (self == NULL)
        return;
    for (size_t j = 0; self->blocks != NULL && j <= self->tasks; j++)
        block_clear(&self->blocks[j]);
    free(self->blocks);
    free(self->energy);
    free(self->weight);
    free(self->mean);
    free(self->tau);
    factors_free(self->factors);
    if (self->offset != NULL)
        addition_clear(self->offset);
    free(self->offset);
    if (self->source.release != NULL)
        self->source.release(self->source.context);
    free(self);
}

size_t layer_full_rank(const layer *self)
{
    return self->rows < self->columns ? self->rows : self->columns;
}

int layer_resize_block(layer *self, size_t index, size_t basis, didi_error *error)
{
    assert(index <= self->tasks && basis > 0);
    block fresh = {
        .basis = basis,
        .left = layer_allocate(self, basis, self->rows * sizeof(float)),
        .right = layer_allocate(self, basis, self->columns * sizeof(float)),
        .sigma = memory_zeroed(basis, sizeof(double)),
    };
    if (fresh.left == NULL || fresh.right == NULL || fresh.sigma == NULL) {
        int status = layer_fail_allocation(self, error);
        assert(status != DIDI_OK);
        block_clear(&fresh);
        return status;
    }
    block_clear(&self->blocks[index]);
    self->blocks[index] = fresh;
    return DIDI_OK;
}

/* ---- the residual operator X of one block ---- */

/* `basis` rows, multiplied by a matrix of the layer or by its transpose. */
typedef struct multiplied {
    bool transpose;
    size_t basis;
    const float *in;
    float *out;
} multiplied;

/* out -= share * (in * from') * to, with from and to the two factors of block `index`. */
static int subtract_block(const layer *self, size_t index, double share, const multiplied *rows,
                          didi_error *error)
{
    const block *other = &self->blocks[index];
    size_t inner = rows->transpose ? self->columns : self->rows;
    size_t columns = rows->transpose ? self->rows : self->columns;
    assert(other->rank <= other->basis);
    if (other->rank == 0 || share == 0)
        return DIDI_OK;
    float *core = memory_aligned(rows->basis * other->rank, sizeof *core);
    if (core == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "product of %zu x %zu", rows->basis,
                         other->rank);
    const float *from = rows->transpose ? other->right : other->left;
    const float *to = rows->transpose ? other->left : other->right;
    layer_count_product(self, rows->basis, inner + columns, other->rank);
    linalg_gemm_shared(self->parallel, false, true, rows->basis, other->rank, inner, 1.0F, rows->in,
                       inner, from, inner, 0.0F, core, other->rank);
    linalg_gemm_shared(self->parallel, false, false, rows->basis, columns, other->rank,
                       -(float)share, core, other->rank, to, columns, 1.0F, rows->out, columns);
    free(core);
    return DIDI_OK;
}

typedef struct lengthened {
    float gain;
    float *out;
} lengthened;

static void lengthen(void *argument, size_t first, size_t end)
{
    const lengthened *self = argument;
    for (size_t i = first; i < end; i++)
        self->out[i] *= self->gain;
    spill_touched((end - first) * sizeof *self->out);
}

int layer_apply_residual(const layer *self, size_t index, bool transpose, size_t basis,
                         const float *in, float *out, didi_error *error)
{
    assert(index <= self->tasks && in != out);
    const multiplied rows = {transpose, basis, in, out};
    size_t count = basis * (transpose ? self->rows : self->columns);
    int status = layer_apply(self, index, transpose, basis, in, out, error);
    if (status == DIDI_OK && self->gain != 1)
        parallel_ranges(self->parallel, count, LAYER_ELEMENTS, lengthen,
                        &(lengthened){(float)self->gain, out});
    if (status == DIDI_OK && index > 0)
        return subtract_block(self, 0, 1.0, &rows, error);
    for (size_t t = 0; t < self->tasks && self->weight_sum > 0 && status == DIDI_OK; t++)
        status = subtract_block(self, t + 1, self->weight[t] / self->weight_sum, &rows, error);
    return status;
}

/* ---- steps of subspace iteration ---- */

typedef struct step {
    float *right; /* basis x n */
    float *left;  /* basis x m */
    float *spare; /* basis x max(m, n) */
    float *turn;  /* basis x basis: Ritz directions as rows */
    double *sigma;
} step;

static void step_free(step *self)
{
    spill_free(self->right);
    spill_free(self->left);
    spill_free(self->spare);
    free(self->turn);
    free(self->sigma);
}

static int step_create(const layer *self, size_t basis, step *ret_step, didi_error *error)
{
    size_t wide = self->rows > self->columns ? self->rows : self->columns;
    step fresh = {.right = layer_allocate(self, basis, self->columns * sizeof(float)),
                  .left = layer_allocate(self, basis, self->rows * sizeof(float)),
                  .spare = layer_allocate(self, basis, wide * sizeof(float)),
                  .turn = memory_aligned(basis * basis, sizeof(float)),
                  .sigma = memory_zeroed(basis, sizeof(double))};
    if (fresh.right == NULL || fresh.left == NULL || fresh.spare == NULL || fresh.turn == NULL ||
        fresh.sigma == NULL) {
        int status = layer_fail_allocation(self, error);
        assert(status != DIDI_OK);
        step_free(&fresh);
        return status;
    }
    *ret_step = fresh;
    return DIDI_OK;
}

typedef struct random_rows {
    uint64_t stream;
    float scale;
    float *out;
} random_rows;

static void fill_random(void *argument, size_t first, size_t end)
{
    const random_rows *self = argument;
    random_normal_from(self->stream, first, self->out + first, end - first, self->scale);
}

/* Rows of about length one. */
static void make_random(const layer *self, uint64_t stream, size_t rows, size_t length, float *out)
{
    random_rows work = {stream, (float)(1.0 / sqrt((double)length)), out};
    parallel_ranges(self->parallel, rows * length, LAYER_ELEMENTS, fill_random, &work);
}

typedef struct warm_rows {
    const float *from;
    float *to;
    size_t length;
} warm_rows;

static void take_warm(void *argument, size_t first, size_t end)
{
    const warm_rows *self = argument;
    for (size_t i = first; i < end; i++) {
        const float *from = self->from + i * self->length;
        float *row = self->to + i * self->length;
        double norm = sqrt(linalg_energy(from, self->length));
        float scale = norm > 0 ? (float)(1.0 / norm) : 0.0F;
        for (size_t j = 0; j < self->length; j++)
            row[j] = from[j] * scale;
        spill_touched(2 * self->length * sizeof *row);
    }
}

/* Warm rows of length one (so that no direction drowns the others), then random ones. */
static void make_start(const layer *self, size_t index, bool right, size_t basis, float *start)
{
    const block *old = &self->blocks[index];
    size_t length = right ? self->columns : self->rows;
    size_t warm = old->basis < basis ? old->basis : basis;
    warm_rows work = {right ? old->right : old->left, start, length};
    parallel_ranges(self->parallel, warm, layer_rows_at_once(length), take_warm, &work);
    uint64_t stream = random_mix(self->seed, (uint64_t)index * 1000003U + (uint64_t)old->basis);
    make_random(self, stream, basis - warm, length, start + warm * length);
}

/* Counts one Gram matrix and one triangular solve: the least it takes. */
static int orthonormalise(const layer *self, size_t rows, size_t length, float *values,
                          float *spare, size_t *ret_rows, didi_error *error)
{
    layer_count_product(self, rows, rows, length);
    return linalg_orthonormalise_rows(self->parallel, rows, length, values, spare, ret_rows, error);
}

/* The two sides of a step: the orthonormal rows it starts from, and their products. */
typedef struct sides {
    float *known, *fresh;
    size_t known_length, fresh_length;
} sides;

static sides step_sides(const layer *self, const step *work, bool to_left)
{
    return to_left ? (sides){work->right, work->left, self->columns, self->rows}
                   : (sides){work->left, work->right, self->rows, self->columns};
}

/* *side = scale[i] * (W side), with W the rows of `turn` and scale NULL for ones. The spare
 * rows are of the longer side's length, and become that side. */
static int rotate_side(const layer *self, step *work, size_t rows, const double *scale,
                       float **side, didi_error *error)
{
    size_t length = side == &work->left ? self->rows : self->columns;
    bool longer = length >= larger(self->rows, self->columns);
    int status = linalg_rotate_rows(self->parallel, rows, rows, length, work->turn, scale, *side,
                                    work->spare, error);
    if (status == DIDI_OK && !longer)
        layer_copy(self, *side, work->spare, rows * length);
    if (status == DIDI_OK && longer) {
        float *old = *side;
        *side = work->spare;
        work->spare = old;
    }
    return status;
}

/* Rotates both sides to the Ritz directions, F F' = W' diag(sigma^2) W of the fresh side, and moves
 * sigma to the right side: left rows become orthonormal, right row i has norm sigma_i. */
static int rotate_to_ritz(const layer *self, step *work, bool to_left, size_t rows,
                          didi_error *error)
{
    sides at = step_sides(self, work, to_left);
    double *inverse = NULL;
    int status = linalg_eigen_gram(self->parallel, rows, at.fresh_length, at.fresh, work->turn,
                                   work->sigma, error);
    if (status != DIDI_OK)
        return status;
    layer_count_product(self, rows, rows / 2, at.fresh_length);
    layer_count_product(self, rows, rows, at.fresh_length + at.known_length);
    for (size_t i = 0; i < rows; i++)
        work->sigma[i] = work->sigma[i] > 0 ? sqrt(work->sigma[i]) : 0;
    if (to_left) {
        inverse = memory_zeroed(rows, sizeof *inverse);
        if (inverse == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu singular values", rows);
        for (size_t i = 0; i < rows; i++)
            inverse[i] = work->sigma[i] > 0 ? 1 / work->sigma[i] : 0;
    }
    status = rotate_side(self, work, rows, inverse, to_left ? &work->left : &work->right, error);
    if (status == DIDI_OK) /* a side that is not longer leaves the spare rows as they are */
        status = rotate_side(self, work, rows, to_left ? work->sigma : NULL,
                             to_left ? &work->right : &work->left, error);
    free(inverse);
    return status;
}

static void adopt_step(layer *self, size_t index, step *work, size_t rows, bool left_is_fresh)
{
    assert(rows <= layer_full_rank(self));
    block *target = &self->blocks[index];
    size_t rank = target->rank < rows ? target->rank : rows;
    block_clear(target);
    *target = (block){.rank = rank,
                      .basis = rows,
                      .left = work->left,
                      .right = work->right,
                      .left_is_fresh = left_is_fresh,
                      .sigma = work->sigma};
    work->left = work->right = NULL;
    work->sigma = NULL;
}

int layer_update(layer *self, size_t index, size_t basis, didi_error *error)
{
    assert(index <= self->tasks && self->blocks[index].rank <= self->blocks[index].basis);
    if (layer_is_cancelled(self))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    if (basis > layer_full_rank(self))
        basis = layer_full_rank(self);
    if (basis == 0) {
        block_clear(&self->blocks[index]);
        return DIDI_OK;
    }
    step work = {0};
    size_t rows = 0;
    int status = step_create(self, basis, &work, error);
    if (status != DIDI_OK)
        return status;
    make_start(self, index, true, basis, work.right);
    status = layer_apply_residual(self, index, true, basis, work.right, work.left, error);
    if (status == DIDI_OK)
        status = orthonormalise(self, basis, self->rows, work.left, work.spare, &rows, error);
    if (status == DIDI_OK)
        status = layer_apply_residual(self, index, false, rows, work.left, work.right, error);
    if (status == DIDI_OK)
        status = rotate_to_ritz(self, &work, false, rows, error);
    if (status == DIDI_OK)
        adopt_step(self, index, &work, rows, false);
    step_free(&work);
    return status;
}

int layer_turn(layer *self, size_t index, size_t basis, didi_error *error)
{
    assert(index <= self->tasks && self->blocks[index].rank <= self->blocks[index].basis);
    if (layer_is_cancelled(self))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    if (basis > layer_full_rank(self))
        basis = layer_full_rank(self);
    if (basis == 0 || self->blocks[index].basis == 0)
        return layer_update(self, index, basis, error);
    bool to_left = !self->blocks[index].left_is_fresh;
    step work = {0};
    size_t rows = 0;
    int status = step_create(self, basis, &work, error);
    if (status != DIDI_OK)
        return status;
    sides at = step_sides(self, &work, to_left);
    make_start(self, index, to_left, basis, at.known);
    status = linalg_orthonormalise_rows(self->parallel, basis, at.known_length, at.known,
                                        work.spare, &rows, error);
    if (status == DIDI_OK)
        status = layer_apply_residual(self, index, to_left, rows, at.known, at.fresh, error);
    if (status == DIDI_OK)
        status = rotate_to_ritz(self, &work, to_left, rows, error);
    if (status == DIDI_OK)
        adopt_step(self, index, &work, rows, to_left);
    step_free(&work);
    return status;
}

int layer_make_singular(layer *self, size_t index, didi_error *error)
{
    assert(index <= self->tasks && self->blocks[index].rank <= self->blocks[index].basis);
    const block *old = &self->blocks[index];
    size_t rank = old->rank;
    size_t rows = 0;
    if (rank == 0)
        return DIDI_OK;
    step work = {0};
    int status = step_create(self, rank, &work, error);
    float *core = memory_aligned(rank * rank, sizeof *core);
    if (status == DIDI_OK && core == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "core of rank %zu", rank);
    if (status != DIDI_OK)
        goto out;
    layer_copy(self, work.left, old->left, rank * self->rows);
    status = linalg_orthonormalise_rows(self->parallel, rank, self->rows, work.left, work.spare,
                                        &rows, error);
    if (status != DIDI_OK)
        goto out;
    linalg_gemm_shared(self->parallel, false, true, rows, rank, self->rows, 1.0F, work.left,
                       self->rows, old->left, self->rows, 0.0F, core, rank);
    linalg_gemm_shared(self->parallel, false, false, rows, self->columns, rank, 1.0F, core, rank,
                       old->right, self->columns, 0.0F, work.right, self->columns);
    status = rotate_to_ritz(self, &work, false, rows, error);
    if (status != DIDI_OK)
        goto out;
    adopt_step(self, index, &work, rows, false);
    status = layer_pad_block(self, index, rank, error);
    self->blocks[index].rank = rank;
out:
    free(core);
    step_free(&work);
    return status;
}

int layer_pad_block(layer *self, size_t index, size_t rows, didi_error *error)
{
    assert(index <= self->tasks);
    block old = self->blocks[index];
    if (old.basis >= rows)
        return DIDI_OK;
    self->blocks[index] = (block){0};
    int status = layer_resize_block(self, index, rows, error);
    if (status != DIDI_OK) {
        self->blocks[index] = old;
        return status;
    }
    block *fresh = &self->blocks[index];
    for (size_t i = old.basis; i < rows; i++) {
        memset(fresh->left + i * self->rows, 0, self->rows * sizeof(float));
        spill_touched(self->rows * sizeof(float));
    }
    for (size_t i = 0; i < old.basis; i++)
        fresh->sigma[i] = old.sigma[i];
    if (old.basis > 0) {
        layer_copy(self, fresh->left, old.left, old.basis * self->rows);
        layer_copy(self, fresh->right, old.right, old.basis * self->columns);
    }
    /* Nothing is added to the matrix, but a half-step finds new directions to solve for. */
    uint64_t stream = random_mix(self->seed, (uint64_t)index * 1000003U + (uint64_t)rows);
    make_random(self, stream, rows - old.basis, self->columns,
                fresh->right + old.basis * self->columns);
    fresh->rank = old.rank;
    fresh->left_is_fresh = old.left_is_fresh;
    block_clear(&old);
    return DIDI_OK;
}

typedef struct experts_update {
    layer *layer;
    layer_step kind;
    const size_t *basis;
    size_t first; /* task */
} experts_update;

static int update_expert(void *argument, size_t lane, didi_error *error)
{
    const experts_update *work = argument;
    size_t task = work->first + lane;
    return work->kind == LAYER_UPDATE
               ? layer_update(work->layer, task + 1, work->basis[task], error)
               : layer_turn(work->layer, task + 1, work->basis[task], error);
}

int layer_update_experts(layer *self, layer_step kind, const size_t *basis, didi_error *error)
{
    assert(kind == LAYER_UPDATE || kind == LAYER_TURN);
    experts_update work = {.layer = self, .kind = kind, .basis = basis};
    size_t lanes = self->lanes > 0 ? self->lanes : self->tasks;
    int status = DIDI_OK;
    for (; work.first < self->tasks && status == DIDI_OK; work.first += lanes) {
        size_t count = smaller(self->tasks - work.first, lanes);
        status = parallel_try(self->parallel, count, update_expert, &work, error);
    }
    return status;
}

int layer_set_block(layer *self, size_t index, const float *matrix, size_t basis, didi_error *error)
{
    assert(index <= self->tasks && !layer_is_streamed(self) && self->factors == NULL);
    if (basis > layer_full_rank(self))
        basis = layer_full_rank(self);
    if (basis == 0) {
        block_clear(&self->blocks[index]);
        return DIDI_OK;
    }
    int status = layer_resize_block(self, index, basis, error);
    if (status != DIDI_OK)
        return status;
    block *target = &self->blocks[index];
    triplets leading = {basis, target->sigma, target->left, target->right, false};
    status = spectrum_leading(self->rows, self->columns, matrix, &leading, error);
    if (status != DIDI_OK)
        return status;
    for (size_t i = 0; i < basis; i++)
        for (size_t j = 0; j < self->columns; j++)
            target->right[i * self->columns + j] *= (float)target->sigma[i];
    target->rank = basis;
    return DIDI_OK;
}

enum { TAKEN_ELEMENTS = 1 << 17 };

static int take_piece(void *argument, size_t index, didi_error *error)
{
    layer *self = argument;
    uint64_t total = (uint64_t)self->rows * self->columns;
    size_t pieces = (size_t)((total + TAKEN_ELEMENTS - 1) / TAKEN_ELEMENTS);
    uint64_t first = (uint64_t)(index % pieces) * TAKEN_ELEMENTS;
    size_t count = total - first < TAKEN_ELEMENTS ? (size_t)(total - first) : TAKEN_ELEMENTS;
    if (layer_is_cancelled(self))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    return addition_subtract(self->offset, first, count, self->tau + index / pieces * total + first,
                             error);
}

int layer_take_away(layer *self, const addition *offset, didi_error *error)
{
    assert(self->offset == NULL);
    assert(offset->rows == self->rows && offset->columns == self->columns);
    uint64_t total = (uint64_t)self->rows * self->columns;
    size_t pieces = (size_t)((total + TAKEN_ELEMENTS - 1) / TAKEN_ELEMENTS);
    int status = DIDI_OK;
    addition own = *offset;
    self->offset = memory_zeroed(1, sizeof own);
    if (self->offset == NULL) {
        addition_clear(&own);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "shared part of a layer");
    }
    *self->offset = own;
    self->weighted = false;
    if (self->factors != NULL)
        status = factors_take_away(self, error);
    if (status == DIDI_OK && !layer_is_streamed(self))
        status = parallel_try(self->parallel, self->dense_tasks * pieces, take_piece, self, error);
    return status == DIDI_OK ? layer_measure(self, error) : status;
}
