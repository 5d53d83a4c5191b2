/* SPDX-License-Identifier: Apache-2.0 */
/* Lagrangian allocation of ranks and bits. */
#include "src/budget/ranks_and_widths.h"

#include "src/base/base.h"
#include "src/budget/ranks.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One width on the upper hull of energy kept against bytes: worth taking (instead of the one
 * before) for components whose weighted energy is above `above` times the price. */
typedef struct hull_point {
    double above;
    double kept;
    double bytes;
    unsigned width; /* index */
} hull_point;

typedef struct prepared {
    double *energy; /* of each component, known or guessed, never rising */
    double *prefix; /* sums of the first i of them; count + 1 */
    size_t count;
    double left; /* energy in no component */
    hull_point hull[PRECISION_WIDTHS];
    size_t hull_count;
    uint64_t dense_bytes[PRECISION_WIDTHS]; /* overhead included; 0 where not allowed */
} prepared;

struct precision_table {
    precision_block *blocks;
    prepared *prepared;
    size_t count;
    double *numbers;
    double kept_factors[PRECISION_WIDTHS], kept_dense[PRECISION_WIDTHS];
};

size_t precision_block_rank(const precision_block *self)
{
    size_t rank = 0;
    for (size_t i = 0; i < PRECISION_WIDTHS; i++)
        rank += self->components[i];
    return rank;
}

/* Lines kept * energy - price * bytes: those that are highest somewhere, by rising bytes. */
static void make_hull(const precision_block *source, prepared *out)
{
    assert(source->factors >> PRECISION_WIDTHS == 0 && source->rows > 0 && source->columns > 0);
    for (unsigned i = 0; i < PRECISION_WIDTHS; i++) {
        unsigned bits = precision_width_bits[i];
        if ((source->factors >> i & 1U) == 0)
            continue;
        double kept = precision_kept_factors(bits);
        double bytes = (double)precision_component_bytes(source->rows, source->columns, bits);
        double above = 0;
        for (;;) {
            const hull_point *last = out->hull_count > 0 ? &out->hull[out->hull_count - 1] : NULL;
            above = last == NULL ? bytes / kept : (bytes - last->bytes) / (kept - last->kept);
            if (last == NULL || (kept > last->kept && above > last->above))
                break;
            out->hull_count--;
        }
        out->hull[out->hull_count++] = (hull_point){above, kept, bytes, i};
    }
}

static void make_dense(const precision_block *source, prepared *out)
{
    assert(source->dense >> PRECISION_WIDTHS == 0);
    for (unsigned i = 0; i < PRECISION_WIDTHS; i++)
        if ((source->dense >> i & 1U) != 0)
            out->dense_bytes[i] =
                source->overhead +
                precision_dense_bytes(source->rows, source->columns, precision_width_bits[i]);
}

static void fill_energies(const precision_block *source, prepared *out)
{
    assert(source->sigma != NULL || source->count == 0);
    double lowest = INFINITY;
    double tail = source->tail > 0 ? source->tail : 0;
    for (size_t i = 0; i < source->limit; i++) {
        double value = 0;
        if (i < source->count) {
            value = source->sigma[i] * source->sigma[i];
        } else {
            value = isfinite(lowest) ? lowest * (1 - 1.0 / ALLOCATE_GUESSED_FALL) : 0;
            value = value < tail ? value : tail;
            tail -= value;
        }
        value = value < lowest ? value : lowest;
        if (!(value > 0))
            break;
        lowest = value;
        out->energy[out->count] = value;
        out->prefix[out->count + 1] = out->prefix[out->count] + value;
        out->count++;
    }
    for (size_t i = source->limit; i < source->count; i++)
        tail += source->sigma[i] * source->sigma[i];
    out->left = tail;
}

int precision_table_create(precision_block *blocks, size_t count, precision_table **ret_table,
                           didi_error *error)
{
    size_t numbers = 0;
    for (size_t i = 0; i < count; i++)
        numbers += 2 * blocks[i].limit + 1;
    precision_table *self = memory_zeroed(1, sizeof *self);
    if (self != NULL) {
        self->prepared = memory_zeroed(count, sizeof *self->prepared);
        self->numbers = memory_zeroed(numbers, sizeof *self->numbers);
    }
    if (self == NULL || self->prepared == NULL || self->numbers == NULL) {
        precision_table_free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu components", numbers);
    }
    self->blocks = blocks;
    self->count = count;
    for (unsigned i = 0; i < PRECISION_WIDTHS; i++) {
        self->kept_factors[i] = precision_kept_factors(precision_width_bits[i]);
        self->kept_dense[i] = precision_kept_dense(precision_width_bits[i]);
    }
    double *next = self->numbers;
    for (size_t i = 0; i < count; i++) {
        prepared *out = &self->prepared[i];
        out->energy = next;
        out->prefix = next + blocks[i].limit;
        next += 2 * blocks[i].limit + 1;
        fill_energies(&blocks[i], out);
        make_hull(&blocks[i], out);
        make_dense(&blocks[i], out);
    }
    *ret_table = self;
    return DIDI_OK;
}

void precision_table_free(precision_table *self)
{
    if (self == NULL)
        return;
    free(self->prepared);
    free(self->numbers);
    free(self);
}

/* How many components have more energy than `least`. */
static size_t count_above(const prepared *self, double least)
{
    size_t low = 0;
    size_t high = self->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (self->energy[middle] > least)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Energy a block's choice keeps. */
static double kept_energy(const precision_table *self, size_t index)
{
    const precision_block *block = &self->blocks[index];
    const prepared *source = &self->prepared[index];
    double kept = 0;
    size_t first = 0;
    if (block->bytes == 0)
        return 0;
    if (block->dense_bits > 0)
        return block->dense_energy * self->kept_dense[precision_width_index(block->dense_bits)];
    for (size_t i = PRECISION_WIDTHS; i-- > 0;) {
        size_t end = first + block->components[i];
        kept += self->kept_factors[i] * (source->prefix[end] - source->prefix[first]);
        first = end;
    }
    return kept;
}

static double value_of(const precision_table *self, size_t index, double price)
{
    const precision_block *block = &self->blocks[index];
    return block->weight * kept_energy(self, index) - price * (double)block->bytes;
}

static double all_energy(const precision_block *block, const prepared *source)
{
    if (block->rivals > 0)
        return 0; /* counted by its rivals */
    return block->sigma == NULL ? block->dense_energy
                                : source->prefix[source->count] + source->left;
}

static void take_nothing(precision_block *block)
{
    memset(block->components, 0, sizeof block->components);
    block->dense_bits = 0;
    block->bytes = 0;
}

static void choose_factors(precision_block *block, const prepared *source, double price)
{
    size_t beyond = 0; /* components at wider widths */
    double bytes = 0;
    for (size_t h = source->hull_count; h-- > 0;) {
        const hull_point *point = &source->hull[h];
        double least = block->weight > 0 ? price * point->above / block->weight : INFINITY;
        size_t reached = count_above(source, least);
        block->components[point->width] = reached - beyond;
        bytes += (double)(reached - beyond) * point->bytes;
        beyond = reached;
    }
    block->bytes = beyond > 0 ? (uint64_t)bytes + block->overhead : 0;
}

/* Takes the dense form where its value less its price is higher than that of the choice so far. */
static void choose_dense(precision_table *self, size_t index, double price)
{
    precision_block *block = &self->blocks[index];
    double best = value_of(self, index, price);
    bool none = block->bytes == 0;
    for (unsigned i = 0; i < PRECISION_WIDTHS; i++) {
        uint64_t bytes = self->prepared[index].dense_bytes[i];
        if (bytes == 0)
            continue;
        double value =
            block->weight * block->dense_energy * self->kept_dense[i] - price * (double)bytes;
        if (!(value > best) && !(none && block->required))
            continue;
        none = false;
        best = value;
        memset(block->components, 0, sizeof block->components);
        block->dense_bits = precision_width_bits[i];
        block->bytes = bytes;
    }
}

static void choose_block(precision_table *self, size_t index, double price)
{
    precision_block *block = &self->blocks[index];
    take_nothing(block);
    if (block->sigma != NULL)
        choose_factors(block, &self->prepared[index], price);
    if (block->bytes > 0 && value_of(self, index, price) <= 0)
        take_nothing(block);
    if (block->dense != 0 && block->dense_energy > 0)
        choose_dense(self, index, price);
}

/* Leaves one block or its rivals, whichever is worth more. */
static void settle(precision_table *self, size_t index, double price)
{
    assert(index + self->blocks[index].rivals < self->count);
    precision_block *block = &self->blocks[index];
    double theirs = 0;
    for (size_t i = 1; i <= block->rivals; i++)
        theirs += value_of(self, index + i, price);
    if (value_of(self, index, price) < theirs) {
        take_nothing(block);
        return;
    }
    for (size_t i = 1; i <= block->rivals; i++)
        take_nothing(&self->blocks[index + i]);
}

double precision_lost(const precision_table *self, size_t index)
{
    assert(index < self->count);
    const precision_block *block = &self->blocks[index];
    const prepared *source = &self->prepared[index];
    return all_energy(block, source) - kept_energy(self, index);
}

static void add_up(const precision_table *self, precision_choice *sums)
{
    sums->bytes = 0;
    sums->loss = sums->error = 0;
    for (size_t i = 0; i < self->count; i++) {
        const precision_block *block = &self->blocks[i];
        double lost = precision_lost(self, i);
        sums->bytes = memory_add(sums->bytes, block->bytes);
        sums->loss += block->weight * lost;
        sums->error += block->tasks * lost;
    }
}

void precision_at_price(precision_table *self, double price, precision_choice *ret_choice)
{
    assert(price >= 0);
    for (size_t i = 0; i < self->count; i++)
        choose_block(self, i, price);
    for (size_t i = 0; i < self->count; i++)
        if (self->blocks[i].rivals > 0)
            settle(self, i, price);
    ret_choice->price = price;
    add_up(self, ret_choice);
}

double precision_matrix_loss(const precision_table *self)
{
    double loss = 0;
    for (size_t i = 0; i < self->count; i++) {
        const precision_block *block = &self->blocks[i];
        if (block->sigma != NULL)
            loss += block->weight * precision_lost(self, i);
    }
    return loss;
}

/* The next component of a block at its narrowest width; 0 bytes when it has none to take. */
static uint64_t next_component(const precision_block *block, const prepared *source, double *gain)
{
    size_t rank = precision_block_rank(block);
    if (block->sigma == NULL || block->dense_bits > 0 || rank >= source->count ||
        source->hull_count == 0)
        return 0;
    const hull_point *point = &source->hull[0];
    uint64_t bytes = (uint64_t)point->bytes + (rank == 0 ? block->overhead : 0);
    *gain = block->weight * point->kept * source->energy[rank] / (double)bytes;
    return bytes;
}

/* Spends the rest of the budget on the components that gain most for a byte. */
static void fill_up(precision_table *self, uint64_t budget, precision_choice *choice)
{
    for (;;) {
        double best = 0;
        size_t at = self->count;
        uint64_t cost = 0;
        for (size_t i = 0; i < self->count; i++) {
            double gain = 0;
            uint64_t bytes = next_component(&self->blocks[i], &self->prepared[i], &gain);
            if (bytes == 0 || choice->bytes + bytes > budget || !(gain > best))
                continue;
            best = gain;
            at = i;
            cost = bytes;
        }
        if (at == self->count)
            break;
        self->blocks[at].components[self->prepared[at].hull[0].width]++;
        self->blocks[at].bytes += cost;
        choice->bytes += cost;
    }
    add_up(self, choice);
}

/* More than any component is worth. */
static double highest_price(const precision_table *self)
{
    double highest = 1e-300;
    for (size_t i = 0; i < self->count; i++) {
        double value = self->blocks[i].weight * all_energy(&self->blocks[i], &self->prepared[i]);
        highest = value > highest ? value : highest;
    }
    return 2 * highest;
}

enum { SEARCH_STEPS = 56 }; /* halvings of 92 in the logarithm: more than a double tells apart */

typedef struct wish {
    uint64_t bytes; /* at least */
    double error;   /* at most */
} wish;

/* Halves the range between a price at which `wanted` is met and a higher one at which it is not. */
static void narrow(precision_table *self, wish wanted, int steps, double *low, double *high)
{
    assert(0 <= *low && *low <= *high);
    for (int step = 0; step < steps; step++) {
        precision_choice at;
        double middle = sqrt(*low) * sqrt(*high);
        precision_at_price(self, middle, &at);
        if (at.bytes >= wanted.bytes && at.error <= wanted.error)
            *low = middle;
        else
            *high = middle;
    }
}

double precision_price_near(precision_table *self, uint64_t bytes)
{
    enum { NEAR_STEPS = 14 };
    double high = highest_price(self);
    double low = high * 1e-16; /* a double holds no smaller loss beside the whole */
    narrow(self, (wish){memory_add(bytes, 1), INFINITY}, NEAR_STEPS, &low, &high);
    return high;
}

void precision_within_bytes(precision_table *self, uint64_t bytes, precision_choice *ret_choice)
{
    double high = highest_price(self);
    double low = high * 1e-40;
    precision_at_price(self, low, ret_choice);
    if (ret_choice->bytes <= bytes) { /* everything fits: at the highest price that takes it all */
        narrow(self, (wish){ret_choice->bytes, INFINITY}, SEARCH_STEPS, &low, &high);
        precision_at_price(self, low, ret_choice);
        return;
    }
    narrow(self, (wish){bytes + 1, INFINITY}, SEARCH_STEPS, &low, &high);
    precision_at_price(self, high, ret_choice);
    fill_up(self, bytes, ret_choice);
}

void precision_within_error(precision_table *self, double most, precision_choice *ret_choice)
{
    assert(most >= 0);
    double high = highest_price(self);
    double low = high * 1e-40;
    precision_at_price(self, high, ret_choice);
    if (ret_choice->error <= most)
        return;
    narrow(self, (wish){0, most}, SEARCH_STEPS, &low, &high);
    precision_at_price(self, low, ret_choice);
}
