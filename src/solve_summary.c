/* SPDX-License-Identifier: Apache-2.0 */
/* Layer summaries, weights and the memory a layer takes. */
#include "src/solve.h"

#include "src/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int summary_create(layer_summary *self, size_t tasks, didi_error *error)
{
    layer_summary fresh = {
        .tasks = tasks,
        .energy = memory_zeroed(tasks, sizeof(double)),
        .weight = memory_zeroed(tasks, sizeof(double)),
        .count = memory_zeroed(tasks + 1, sizeof(size_t)),
        .sigma = memory_zeroed(tasks + 1, sizeof(double *)),
        .tail = memory_zeroed(tasks + 1, sizeof(double)),
        .rank = memory_zeroed(tasks + 1, sizeof(size_t)),
        .dense = memory_zeroed(tasks + 1, sizeof(bool)),
        .error = memory_zeroed(tasks, sizeof(double)),
    };
    *self = fresh;
    if (fresh.energy == NULL || fresh.weight == NULL || fresh.count == NULL ||
        fresh.sigma == NULL || fresh.tail == NULL || fresh.rank == NULL || fresh.dense == NULL ||
        fresh.error == NULL) {
        summary_clear(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "summary of %zu tasks", tasks);
    }
    return DIDI_OK;
}

void summary_clear(layer_summary *self)
{
    for (size_t j = 0; self->sigma != NULL && j <= self->tasks; j++)
        free(self->sigma[j]);
    free(self->energy);
    free(self->weight);
    free(self->count);
    free(self->sigma);
    free(self->tail);
    free(self->rank);
    free(self->dense);
    free(self->error);
    *self = (layer_summary){0};
}

int summary_set_sigma(layer_summary *self, size_t index, const double *sigma, size_t count,
                      double tail, didi_error *error)
{
    double *copy = memory_zeroed(count, sizeof *copy);
    if (copy == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu singular values", count);
    if (count > 0)
        memcpy(copy, sigma, count * sizeof *copy);
    free(self->sigma[index]);
    self->sigma[index] = copy;
    self->count[index] = count;
    self->tail[index] = tail > 0 ? tail : 0;
    return DIDI_OK;
}

void solve_weights(didi_weighting weighting, const double *task_weight, const double *energy,
                   size_t tasks, double *ret_weight)
{
    double mean = 0;
    for (size_t t = 0; t < tasks; t++)
        mean += energy[t] / (double)tasks;
    double scale = weighting == DIDI_WEIGHTING_BALANCED && mean > 0 ? 1 / sqrt(mean) : 1;
    for (size_t t = 0; t < tasks; t++)
        ret_weight[t] = energy[t] > 0 ? task_weight[t] * scale : 0;
}

static double uniform_rank(double rows, double columns, double tasks, double ratio)
{
    return ratio * rows * columns / ((rows + columns) * tasks);
}

size_t solve_sketch_rows(size_t rows, size_t columns, size_t tasks, double ratio)
{
    double wanted =
        ceil(1.3 * uniform_rank((double)rows, (double)columns, (double)tasks, ratio)) + 10;
    size_t limit = rows < columns ? rows : columns;
    return wanted < (double)limit ? (size_t)wanted : limit;
}

static size_t clamp_rows(double wanted, uint64_t rows, uint64_t columns)
{
    uint64_t limit = rows < columns ? rows : columns;
    return wanted < (double)limit ? (size_t)wanted : (size_t)limit;
}

solve_limits solve_limits_for(uint64_t rows, uint64_t columns, uint64_t tasks, double ratio)
{
    double uniform = uniform_rank((double)rows, (double)columns, (double)tasks, ratio);
    return (solve_limits){
        .expert = clamp_rows(ceil(2.25 * uniform) + 32, rows, columns),
        .shared = clamp_rows(ceil((double)tasks * uniform) + 32, rows, columns),
    };
}

/* What one block update holds beside the block. */
static uint64_t step_memory(uint64_t rows, uint64_t columns, uint64_t basis)
{
    uint64_t wide = rows > columns ? rows : columns;
    uint64_t numbers = memory_multiply(basis, memory_add(memory_add(rows, columns), 2 * wide));
    return memory_add(memory_multiply(numbers, sizeof(float)),
                      memory_multiply(memory_multiply(basis, basis), 40));
}

uint64_t solve_memory(uint64_t rows, uint64_t columns, uint64_t tasks, const solve_limits *limits,
                      bool exact, uint64_t workers)
{
    uint64_t matrix = memory_multiply(memory_multiply(rows, columns), sizeof(float));
    uint64_t sides = memory_add(rows, columns);
    uint64_t shorter = rows < columns ? rows : columns;
    uint64_t total = memory_multiply(matrix, tasks + 1);
    uint64_t all_rows = memory_add(memory_multiply(limits->expert, tasks), limits->shared);
    uint64_t factors = memory_multiply(memory_multiply(all_rows, sides), sizeof(float));
    total = memory_add(total, memory_multiply(factors, 2)); /* blocks, and what is published */
    uint64_t at_once = workers < tasks ? workers : tasks; /* experts; the shared block goes alone */
    uint64_t experts = memory_multiply(step_memory(rows, columns, limits->expert), at_once);
    uint64_t shared = step_memory(rows, columns, limits->shared);
    total = memory_add(total, experts > shared ? experts : shared);
    if (exact) {
        uint64_t square = memory_multiply(shorter, shorter);
        uint64_t gram = memory_multiply(matrix, shorter <= 256 ? 4 : 2);
        total = memory_add(total, memory_add(gram, memory_multiply(square, 40)));
        total = memory_add(total, memory_multiply(memory_multiply(shorter, sides), 8));
    }
    return memory_add(total, 1 << 20);
}
