/* SPDX-License-Identifier: Apache-2.0 */
/* Greedy allocation over one sorted list of components. */
#include "src/budget/ranks.h"

#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

typedef struct component {
    double gain;  /* of the loss, per parameter */
    double value; /* of the loss */
    uint64_t cost;
    uint32_t block;
    bool dense;
} component;

/* Higher gain first; equal gains in the order of blocks, then of ranks (the sort is made total). */
static int compare_components(const void *left, const void *right)
{
    const component *a = left;
    const component *b = right;
    if (a->gain != b->gain)
        return a->gain > b->gain ? -1 : 1;
    if (a->block != b->block)
        return a->block < b->block ? -1 : 1;
    return (int)a->dense - (int)b->dense;
}

/* Components beyond the known ones, of gain never above `*lowest`; takes them from `*tail`. */
static size_t guess_components(const allocate_block *source, uint32_t index, double *tail,
                               double *lowest, component *out)
{
    size_t used = 0;
    double last = source->count > 0 ? source->sigma[source->count - 1] : 0;
    double energy = last * last;
    for (size_t i = source->count; i < source->limit; i++) {
        energy *= 1 - 1.0 / ALLOCATE_GUESSED_FALL;
        double part = energy < *tail ? energy : *tail;
        double value = source->weight * part;
        double gain = value / (double)source->cost;
        if (!(gain > 0))
            break;
        *lowest = gain < *lowest ? gain : *lowest;
        out[used++] = (component){*lowest, value, source->cost, index, false};
        *tail -= part;
    }
    return used;
}

static size_t fill_block(const allocate_block *source, uint32_t index, component *out)
{
    assert(!(source->weight < 0) && (source->cost > 0 || source->limit + source->count == 0));
    assert(source->sigma != NULL || source->count == 0);
    size_t used = 0;
    double lowest = INFINITY;
    double tail = source->tail;
    for (size_t i = 0; i < source->count; i++) {
        double value = source->weight * source->sigma[i] * source->sigma[i];
        double gain = value / (double)source->cost;
        if (!(gain > 0))
            return used;
        lowest = gain < lowest ? gain : lowest;
        out[used++] = (component){lowest, value, source->cost, index, false};
    }
    used += guess_components(source, index, &tail, &lowest, out + used);
    uint64_t factors = used * source->cost;
    if (source->dense_cost > factors && used >= source->limit && tail > 0) {
        double gain = source->weight * tail / (double)(source->dense_cost - factors);
        gain = gain < lowest ? gain : lowest;
        out[used++] =
            (component){gain, source->weight * tail, source->dense_cost - factors, index, true};
    }
    return used;
}

static int sorted_components(const allocate_block *blocks, size_t count, component **ret_list,
                             size_t *ret_count, didi_error *error)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += (blocks[i].limit > blocks[i].count ? blocks[i].limit : blocks[i].count) + 1;
    component *list = memory_zeroed(total, sizeof *list);
    if (list == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu components", total);
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += fill_block(&blocks[i], (uint32_t)i, list + used);
    qsort(list, used, sizeof *list, compare_components);
    *ret_list = list;
    *ret_count = used;
    return DIDI_OK;
}

int allocate_exact(allocate_block *blocks, size_t count, uint64_t budget,
                   allocate_result *ret_result, didi_error *error)
{
    component *list = NULL;
    size_t used = 0;
    int status = sorted_components(blocks, count, &list, &used, error);
    bool *closed = memory_zeroed(count, sizeof *closed);
    if (status == DIDI_OK && closed == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "ranks of %zu blocks", count);
    if (status != DIDI_OK)
        goto out;
    allocate_result result = {0};
    for (size_t i = 0; i < count; i++) {
        blocks[i].rank = 0;
        blocks[i].dense = false;
    }
    for (size_t i = 0; i < used; i++) {
        const component *next = &list[i];
        if (closed[next->block])
            continue;
        assert(result.parameters <= budget);
        if (next->cost > budget - result.parameters) {
            closed[next->block] = true;
            continue;
        }
        result.parameters += next->cost;
        result.threshold = next->gain;
        blocks[next->block].rank = next->dense ? 0 : blocks[next->block].rank + 1;
        blocks[next->block].dense = next->dense;
    }
    *ret_result = result;
out:
    free(closed);
    free(list);
    return status;
}

int allocate_schedule(const allocate_block *blocks, size_t count, uint64_t budget, size_t steps,
                      double *ret_thresholds, didi_error *error)
{
    assert(steps > 0);
    component *list = NULL;
    size_t used = 0;
    int status = sorted_components(blocks, count, &list, &used, error);
    if (status != DIDI_OK)
        return status;
    uint64_t spent = 0;
    size_t next = 0;
    for (size_t step = 1; step <= steps; step++) {
        double ceiling = (double)budget * (double)step / (double)steps;
        while (next < used && (double)(spent + list[next].cost) <= ceiling)
            spent += list[next++].cost;
        ret_thresholds[step - 1] = next > 0 ? list[next - 1].gain : INFINITY;
    }
    free(list);
    return DIDI_OK;
}

typedef struct remainder {
    double fraction;
    size_t index;
} remainder_entry;

static int compare_remainders(const void *left, const void *right)
{
    const remainder_entry *a = left;
    const remainder_entry *b = right;
    if (a->fraction != b->fraction)
        return a->fraction > b->fraction ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Parameters of the ranks that `scale` gives. */
static uint64_t round_at(double scale, const double *real, allocate_block *blocks, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        double wanted = floor(real[i] * scale);
        size_t limit = blocks[i].count;
        blocks[i].dense = false;
        blocks[i].rank = wanted >= (double)limit ? limit : (size_t)(wanted > 0 ? wanted : 0);
        sum = memory_add(sum, memory_multiply(blocks[i].rank, blocks[i].cost));
    }
    return sum;
}

int allocate_round(allocate_block *blocks, size_t count, const double *real, uint64_t budget,
                   didi_error *error)
{
    remainder_entry *order = memory_zeroed(count, sizeof *order);
    if (order == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "ranks of %zu blocks", count);
    double low = 0;
    double high = 1;
    while (high < 1e9 && round_at(high, real, blocks, count) <= budget)
        high *= 2;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (round_at(middle, real, blocks, count) <= budget)
            low = middle;
        else
            high = middle;
    }
    uint64_t spent = round_at(low, real, blocks, count);
    assert(spent <= budget);
    uint64_t left = budget - spent;
    for (size_t i = 0; i < count; i++)
        order[i] = (remainder_entry){real[i] * low - (double)blocks[i].rank, i};
    qsort(order, count, sizeof *order, compare_remainders);
    for (int again = 1; again != 0;) {
        again = 0;
        for (size_t i = 0; i < count; i++) {
            allocate_block *block = &blocks[order[i].index];
            if (block->rank < block->count && block->cost <= left && real[order[i].index] > 0) {
                block->rank++;
                left -= block->cost;
                again = 1;
            }
        }
    }
    free(order);
    return DIDI_OK;
}

int allocate_frontier(const allocate_block *blocks, size_t count, size_t points,
                      allocate_point *ret_points, didi_error *error)
{
    assert(points > 0);
    component *list = NULL;
    size_t used = 0;
    int status = sorted_components(blocks, count, &list, &used, error);
    if (status != DIDI_OK)
        return status;
    double loss = 0;
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        double energy = blocks[i].tail; /* components that are guessed are part of it */
        for (size_t j = 0; j < blocks[i].count; j++)
            energy += blocks[i].sigma[j] * blocks[i].sigma[j];
        loss += blocks[i].weight * energy;
    }
    for (size_t i = 0; i < used; i++)
        total += list[i].cost;
    uint64_t spent = 0;
    for (size_t i = 0, point = 0; point < points; point++) {
        double ceiling = (double)total * (double)point / (double)(points > 1 ? points - 1 : 1);
        for (; i < used && (double)(spent + list[i].cost) <= ceiling + 0.5; i++) {
            spent += list[i].cost;
            loss -= list[i].value;
        }
        ret_points[point] = (allocate_point){spent, loss > 0 ? loss : 0};
    }
    free(list);
    return DIDI_OK;
}
