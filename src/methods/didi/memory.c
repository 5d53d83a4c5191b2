/* SPDX-License-Identifier: Apache-2.0 */
/* How many rows the blocks of a layer may hold, and the memory that each stage takes for them. */
#include "src/methods/didi/pursuit.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <math.h>

static double uniform_rank(double rows, double columns, double tasks, double ratio)
{
    return ratio * rows * columns / ((rows + columns) * tasks);
}

static size_t clamp_rows(double wanted, uint64_t rows, uint64_t columns)
{
    uint64_t limit = smaller(rows, columns);
    return wanted < (double)limit ? (size_t)wanted : (size_t)limit;
}

size_t solve_sketch_rows(size_t rows, size_t columns, size_t tasks, double ratio)
{
    double uniform = uniform_rank((double)rows, (double)columns, (double)tasks, ratio);
    return clamp_rows(ceil(1.3 * uniform) + 10, rows, columns);
}

solve_limits solve_limits_for(uint64_t rows, uint64_t columns, uint64_t tasks, double ratio)
{
    double uniform = uniform_rank((double)rows, (double)columns, (double)tasks, ratio);
    return (solve_limits){
        .expert = clamp_rows(ceil(2.25 * uniform) + 32, rows, columns),
        .shared = clamp_rows(ceil((double)tasks * uniform) + 32, rows, columns),
    };
}

solve_rows solve_rows_at_most(const solve_shape *shape)
{
    const solve_limits *limits = &shape->limits;
    uint64_t experts = memory_multiply(limits->expert, shape->tasks);
    return (solve_rows){memory_add(experts, limits->shared), limits->expert, limits->shared, 0};
}

/* Gram matrices, the cores of what is subtracted, and the eigensolver's work in double. */
static uint64_t square_memory(uint64_t basis)
{
    return memory_multiply(memory_multiply(basis, basis), 26);
}

/* Two sides and a spare one. */
static uint64_t side_memory(const solve_shape *shape, uint64_t basis)
{
    uint64_t wide = larger(shape->rows, shape->columns);
    uint64_t numbers =
        memory_multiply(basis, memory_add(memory_add(shape->rows, shape->columns), wide));
    return memory_multiply(numbers, sizeof(float));
}

/* What one block update holds beside the block. */
static uint64_t step_memory(const solve_shape *shape, const work_mode *mode, uint64_t basis)
{
    return memory_add(mode->spilled ? 0 : side_memory(shape, basis), square_memory(basis));
}

static uint64_t row_bytes(const solve_shape *shape, uint64_t rows)
{
    return memory_multiply(memory_multiply(rows, memory_add(shape->rows, shape->columns)),
                           sizeof(float));
}

static uint64_t row_memory(const solve_shape *shape, const work_mode *mode, uint64_t rows)
{
    return mode->spilled ? 0 : row_bytes(shape, rows);
}

/* What of the spilled factors is in the process: touched since the last time they were dropped, and
 * up to three pieces for each thread. */
static uint64_t window_memory(const solve_shape *shape, const work_mode *mode)
{
    uint64_t pieces = memory_multiply(shape->workers, 3 * (uint64_t)SPILL_PIECE_BYTES);
    return mode->spilled ? memory_add(pieces, SPILL_TOUCHED_BYTES_MAX) : 0;
}

/* The task vectors that are dense: all of them, or the panels of those products that may run at
 * once.
 */
static uint64_t dense_memory(const solve_shape *shape, const work_mode *mode)
{
    enum { PIECES_BYTES = 2 << 20, OVERHEAD_BYTES = 1 << 20 };
    uint64_t row = memory_multiply(shape->columns, sizeof(float));
    uint64_t dense = shape->tasks - shape->factored;
    if (dense == 0)
        return memory_add(window_memory(shape, mode), OVERHEAD_BYTES);
    if (!mode->streamed)
        return memory_add(memory_multiply(memory_multiply(row, shape->rows), dense + 1),
                          OVERHEAD_BYTES);
    uint64_t panels = 2 * (mode->lanes - 1) + larger(shape->workers, 2);
    uint64_t panel = memory_multiply(row, layer_panel_rows(shape->rows, shape->columns));
    uint64_t pieces = memory_add(memory_multiply(shape->workers, PIECES_BYTES), OVERHEAD_BYTES);
    return memory_add(memory_add(memory_multiply(panels, panel), pieces),
                      window_memory(shape, mode));
}

/* All task vectors. Factors are read through a copy. */
static uint64_t vectors_memory(const solve_shape *shape, const work_mode *mode)
{
    return memory_add(dense_memory(shape, mode),
                      memory_multiply(row_bytes(shape, shape->factor_rows), 2));
}

static uint64_t updates_memory(const solve_shape *shape, const work_mode *mode, uint64_t expert,
                               uint64_t shared)
{
    uint64_t experts = memory_multiply(step_memory(shape, mode, expert), mode->lanes);
    return larger(experts, step_memory(shape, mode, shared));
}

static uint64_t matrix_memory(const solve_shape *shape)
{
    return memory_multiply(memory_multiply(shape->rows, shape->columns), sizeof(float));
}

uint64_t solve_memory_decompose(const solve_shape *shape, const work_mode *mode)
{
    uint64_t total = vectors_memory(shape, mode);
    if (!shape->exact) {
        uint64_t rows = memory_multiply(shape->sketch_rows, shape->tasks);
        total = memory_add(total, row_memory(shape, mode, rows));
        return memory_add(total, updates_memory(shape, mode, shape->sketch_rows, 0));
    }
    uint64_t sides = memory_add(shape->rows, shape->columns);
    uint64_t vectors = memory_multiply(smaller(shape->rows, shape->columns), sides);
    total = memory_add(total, spectrum_memory(shape->rows, shape->columns));
    return memory_add(total, memory_multiply(vectors, 8));
}

uint64_t solve_memory_pursue(const solve_shape *shape, const work_mode *mode)
{
    const solve_limits *limits = &shape->limits;
    uint64_t total = memory_add(vectors_memory(shape, mode),
                                row_memory(shape, mode, solve_rows_at_most(shape).all));
    return memory_add(total, updates_memory(shape, mode, limits->expert, limits->shared));
}

/* Copies of both sides of a block that is quantised, and its Gram matrix. */
static uint64_t copies_memory(const solve_shape *shape, const work_mode *mode, uint64_t rows)
{
    return memory_add(row_memory(shape, mode, memory_multiply(rows, 2)),
                      memory_multiply(memory_multiply(rows, rows), 8));
}

/* Quantising: copies of each block under way, beside its factors; the shared block besides its
 * factors; and the packed bytes, at most 8 bits and scales. */
static uint64_t quantise_memory(const solve_shape *shape, const work_mode *mode,
                                const solve_rows *held)
{
    uint64_t experts = memory_multiply(copies_memory(shape, mode, held->expert), mode->lanes);
    uint64_t steps = larger(experts, copies_memory(shape, mode, held->shared));
    uint64_t stored =
        memory_add(row_bytes(shape, held->all) / 4,
                   memory_multiply(memory_multiply(shape->rows, shape->columns), held->dense));
    steps = memory_add(steps, row_memory(shape, mode, held->shared));
    return memory_add(steps, memory_add(stored, stored / 32));
}

/* A half-sweep: the shared block under way beside the experts, or its answer; and all its products
 * with them. */
static uint64_t sweep_memory(const solve_shape *shape, const work_mode *mode,
                             const solve_rows *held)
{
    uint64_t experts = memory_multiply(step_memory(shape, mode, held->expert), mode->lanes);
    uint64_t answer = row_memory(shape, mode, held->shared);
    uint64_t products = memory_multiply(memory_multiply(held->shared, held->all), sizeof(float));
    uint64_t steps = memory_add(step_memory(shape, mode, held->shared), larger(experts, answer));
    return memory_add(steps, mode->spilled ? 0 : products);
}

/* Panels that measure what is stored, one for each thread; two where an expert is kept dense. */
static uint64_t measure_memory(const solve_shape *shape, const solve_rows *held)
{
    enum { PANEL_ROWS = 256 };
    uint64_t panel = memory_multiply(smaller(shape->rows, PANEL_ROWS), shape->columns);
    return memory_multiply(memory_multiply(panel, shape->workers),
                           (held->dense > 0 ? 2 : 1) * sizeof(float));
}

uint64_t solve_memory_refine(const solve_shape *shape, const work_mode *mode,
                             const solve_rows *held)
{
    uint64_t factors = row_memory(shape, mode, held->all);
    uint64_t total = memory_add(vectors_memory(shape, mode), factors);
    uint64_t steps = shape->adam ? updates_memory(shape, mode, held->expert, held->shared)
                                 : sweep_memory(shape, mode, held);
    if (shape->adam) /* values, gradients, two moments and the best */
        steps = memory_add(steps, memory_multiply(row_bytes(shape, held->all), 5));
    /* Then what is published, one block of it twice. */
    uint64_t deltas = mode->spilled ? 0 : memory_multiply(matrix_memory(shape), held->dense);
    uint64_t published =
        shape->packed
            ? quantise_memory(shape, mode, held)
            : memory_add(row_memory(shape, mode, larger(held->expert, held->shared)), deltas);
    published = memory_add(published, measure_memory(shape, held));
    total = memory_add(total, larger(steps, published));
    return shape->exact ? memory_add(total, spectrum_memory(shape->rows, shape->columns)) : total;
}

uint64_t solve_spill_bytes(const solve_shape *shape, const work_mode *mode)
{
    const solve_limits *limits = &shape->limits;
    uint64_t rows = solve_rows_at_most(shape).all;
    uint64_t experts = memory_multiply(side_memory(shape, limits->expert), mode->lanes);
    uint64_t shared = side_memory(shape, limits->shared);
    uint64_t products = memory_multiply(memory_multiply(limits->shared, rows), sizeof(float));
    uint64_t steps = memory_add(shared, larger(experts, shared));
    return memory_add(memory_add(row_bytes(shape, rows), steps), products);
}
