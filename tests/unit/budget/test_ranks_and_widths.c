/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks and widths together: against every choice there is, within what was asked for. */
#include "src/budget/ranks_and_widths.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <string.h>

enum { BLOCKS = 4, VALUES = 3, GRID = TRELLIS_BITS_MAX, NARROW = 0xff << GRID /* 1 to 8 bits */ };

typedef struct sample_blocks {
    double sigma[BLOCKS][VALUES];
    precision_block blocks[BLOCKS];
} sample_blocks;

static double random_share(uint64_t *sequence)
{
    return (double)(support_random(sequence) % 1000) / 1000;
}

/* Blocks of one to three components; some have a dense form too. */
static void make_blocks(uint64_t *sequence, precision_widths widths, sample_blocks *out)
{
    for (size_t b = 0; b < BLOCKS; b++) {
        double value = 1 + 10 * random_share(sequence);
        double energy = random_share(sequence);
        for (size_t i = 0; i < VALUES; i++) {
            out->sigma[b][i] = value;
            energy += value * value;
            value *= 0.2 + 0.8 * random_share(sequence);
        }
        bool dense = support_random(sequence) % 2 == 0;
        out->blocks[b] = (precision_block){.sigma = out->sigma[b],
                                           .count = VALUES,
                                           .limit = VALUES,
                                           .weight = 0.25 + 2 * random_share(sequence),
                                           .tasks = 1,
                                           .rows = 4 + support_random(sequence) % 90,
                                           .columns = 4 + support_random(sequence) % 90,
                                           .overhead = support_random(sequence) % 60,
                                           .factors = widths,
                                           .dense = dense ? widths & 15U << GRID : 0,
                                           .dense_energy = energy};
        for (size_t i = 0; i < VALUES; i++)
            energy -= out->sigma[b][i] * out->sigma[b][i];
        out->blocks[b].tail = energy;
    }
}

static precision_table *table_of(precision_block *blocks, size_t count)
{
    precision_table *table = NULL;
    didi_error error = {0};
    sample_must(precision_table_create(blocks, count, &table, &error), &error);
    return table;
}

/* One component at a width index, or none with PRECISION_WIDTHS. */
static double component_value(const precision_block *from, size_t i, unsigned width, double price)
{
    if (width == PRECISION_WIDTHS)
        return 0;
    unsigned bits = precision_width_bits[width];
    double bytes = (double)precision_component_bytes(from->rows, from->columns, bits);
    return from->weight * precision_kept_factors(bits) * from->sigma[i] * from->sigma[i] -
           price * bytes;
}

/* The most a block can be worth at a price, over every combination of widths. */
static double best_value(const precision_block *from, double price)
{
    double best = 0;
    enum { CHOICES = PRECISION_WIDTHS + 1 };
    for (unsigned code = 0; code < CHOICES * CHOICES * CHOICES; code++) {
        unsigned rest = code;
        double value = -price * (double)from->overhead;
        bool allowed = true;
        for (size_t i = 0; i < VALUES; i++, rest /= CHOICES) {
            unsigned width = rest % CHOICES;
            allowed = allowed && (width == PRECISION_WIDTHS || (from->factors >> width & 1U) != 0);
            value += component_value(from, i, width, price);
        }
        best = allowed && value > best ? value : best;
    }
    for (unsigned width = 0; width < PRECISION_WIDTHS; width++) {
        unsigned bits = precision_width_bits[width];
        uint64_t bytes = precision_dense_bytes(from->rows, from->columns, bits) + from->overhead;
        double value =
            from->weight * from->dense_energy * precision_kept_dense(bits) - price * (double)bytes;
        best = (from->dense >> width & 1U) != 0 && value > best ? value : best;
    }
    return best;
}

static double weighted_energy(const precision_block *blocks, size_t count)
{
    double sum = 0;
    for (size_t b = 0; b < count; b++) {
        double energy = blocks[b].tail;
        for (size_t i = 0; i < blocks[b].count; i++)
            energy += blocks[b].sigma[i] * blocks[b].sigma[i];
        sum += blocks[b].weight * energy;
    }
    return sum;
}

static uint64_t bytes_of(const precision_block *from)
{
    uint64_t bytes = from->overhead;
    if (from->dense_bits > 0)
        return bytes + precision_dense_bytes(from->rows, from->columns, from->dense_bits);
    for (size_t i = 0; i < PRECISION_WIDTHS; i++)
        bytes += from->components[i] *
                 precision_component_bytes(from->rows, from->columns, precision_width_bits[i]);
    return precision_block_rank(from) > 0 ? bytes : 0;
}

static void a_price_takes_the_best_of_all_choices(void **state)
{
    (void)state;
    const precision_widths sets[] = {0x2a << GRID, NARROW,
                                     precision_of_factors(DIDI_PRECISION_AUTO)};
    uint64_t sequence = 3;
    for (int round = 0; round < 60; round++) {
        sample_blocks made;
        precision_choice choice = {0};
        make_blocks(&sequence, sets[round % 3], &made);
        precision_table *table = table_of(made.blocks, BLOCKS);
        double price = pow(10, -4 + 5 * random_share(&sequence));
        precision_at_price(table, price, &choice);
        double energy = weighted_energy(made.blocks, BLOCKS);
        uint64_t bytes = 0;
        double best = 0;
        for (size_t b = 0; b < BLOCKS; b++) {
            best += best_value(&made.blocks[b], price);
            assert_int_equal(made.blocks[b].bytes, bytes_of(&made.blocks[b]));
            bytes += made.blocks[b].bytes;
        }
        assert_int_equal(choice.bytes, bytes);
        sample_assert_near(energy - choice.loss - price * (double)bytes, best, 1e-9 * energy);
        sample_assert_near(precision_matrix_loss(table), choice.loss, 1e-9 * energy);
        precision_table_free(table);
    }
}

/* What one more component at the narrowest width would cost an open block; 0 = none is left. */
static uint64_t next_bytes(const precision_block *from)
{
    size_t rank = precision_block_rank(from);
    double least = INFINITY;
    if (from->dense_bits > 0 || rank == VALUES)
        return 0;
    for (unsigned width = 0; width < PRECISION_WIDTHS; width++) {
        unsigned bits = precision_width_bits[width];
        double bytes = (double)precision_component_bytes(from->rows, from->columns, bits);
        if ((from->factors >> width & 1U) == 0)
            continue;
        if (bytes / precision_kept_factors(bits) < least)
            least = bytes / precision_kept_factors(bits);
    }
    for (unsigned width = 0; width < PRECISION_WIDTHS; width++) {
        unsigned bits = precision_width_bits[width];
        uint64_t bytes = precision_component_bytes(from->rows, from->columns, bits);
        if ((from->factors >> width & 1U) != 0 &&
            (double)bytes / precision_kept_factors(bits) <= least)
            return bytes + (rank == 0 ? from->overhead : 0);
    }
    return 0;
}

static void budgets_of_bytes_are_kept_and_spent(void **state)
{
    (void)state;
    uint64_t sequence = 5;
    for (int round = 0; round < 200; round++) {
        sample_blocks made;
        precision_choice choice = {0};
        precision_choice priced = {0};
        make_blocks(&sequence, round % 2 == 0 ? NARROW : 1U << (3 + GRID), &made);
        precision_table *table = table_of(made.blocks, BLOCKS);
        uint64_t budget = support_random(&sequence) % 2000;
        precision_within_bytes(table, budget, &choice);
        assert_true(choice.bytes <= budget);
        bool all = true;
        for (size_t b = 0; b < BLOCKS; b++) {
            uint64_t bytes = next_bytes(&made.blocks[b]);
            assert_true(bytes == 0 || budget - choice.bytes < bytes);
            all = all && bytes == 0;
        }
        /* No choice within the budget loses less than its dual says. */
        precision_at_price(table, choice.price, &priced);
        assert_true(choice.loss <= priced.loss + 1e-9);
        assert_true(all || priced.bytes <= budget);
        precision_table_free(table);
    }
}

static void more_bytes_never_lose_more(void **state)
{
    (void)state;
    uint64_t sequence = 7;
    sample_blocks made;
    make_blocks(&sequence, NARROW, &made);
    precision_table *table = table_of(made.blocks, BLOCKS);
    double last = INFINITY;
    for (double price = 10; price > 1e-6; price *= 0.7) {
        precision_choice choice = {0};
        precision_at_price(table, price, &choice);
        assert_true(choice.loss <= last);
        last = choice.loss;
    }
    precision_choice all = {0};
    precision_within_bytes(table, UINT64_MAX, &all);
    assert_true(all.loss <= last);
    for (size_t b = 0; b < BLOCKS; b++) /* everything at the widest */
        assert_true(made.blocks[b].dense_bits == 4 ||
                    made.blocks[b].components[7 + GRID] == VALUES);
    precision_table_free(table);
}

static void stronger_components_are_wider(void **state)
{
    (void)state;
    static const double sigma[] = {64, 16, 8, 4, 2, 1};
    precision_block one = {.sigma = sigma,
                           .count = 6,
                           .limit = 6,
                           .weight = 1,
                           .tasks = 1,
                           .rows = 640,
                           .columns = 640,
                           .factors = NARROW};
    precision_table *table = table_of(&one, 1);
    precision_choice choice = {0};
    precision_within_bytes(table, 2500, &choice);
    size_t widths = 0;
    for (size_t i = 0; i < PRECISION_WIDTHS; i++)
        widths += one.components[i] > 0;
    assert_true(widths >= 2);
    assert_int_equal(one.components[GRID], 0); /* one bit never pays for factors */
    assert_true(one.bytes <= 2500 && precision_block_rank(&one) >= 4);
    precision_table_free(table);
}

static void errors_asked_for_are_met_with_little(void **state)
{
    (void)state;
    uint64_t sequence = 9;
    for (int round = 0; round < 100; round++) {
        sample_blocks made;
        precision_choice nothing = {0};
        precision_choice choice = {0};
        precision_choice less = {0};
        make_blocks(&sequence, NARROW, &made);
        precision_table *table = table_of(made.blocks, BLOCKS);
        precision_at_price(table, 1e9, &nothing);
        double most = nothing.error * (0.05 + 0.9 * random_share(&sequence));
        precision_within_error(table, most, &choice);
        assert_true(choice.error <= most);
        precision_at_price(table, choice.price * (1 + 1e-9), &less);
        assert_true(less.bytes <= choice.bytes);
        precision_at_price(table, choice.price * (1 + 1e-3), &less);
        assert_true(less.error > most || less.bytes == choice.bytes);
        precision_within_error(table, 2 * nothing.error, &choice);
        assert_int_equal(choice.bytes, 0);
        precision_within_error(table, 0, &choice); /* out of reach: the lowest there is */
        precision_within_bytes(table, UINT64_MAX, &less);
        sample_assert_near(choice.error, less.error, 1e-9 * nothing.error);
        precision_table_free(table);
    }
}

static void unknown_components_are_guessed_within_the_tail(void **state)
{
    (void)state;
    static const double sigma[] = {3, 2};
    precision_block one = {.sigma = sigma,
                           .count = 2,
                           .limit = 40,
                           .tail = 30,
                           .weight = 1,
                           .tasks = 1,
                           .rows = 64,
                           .columns = 64,
                           .factors = 1U << (8 + GRID)};
    precision_table *table = table_of(&one, 1);
    precision_choice choice = {0};
    precision_within_bytes(table, UINT64_MAX, &choice);
    assert_true(precision_block_rank(&one) > 8 && precision_block_rank(&one) <= 40);
    sample_assert_near(choice.loss, 0, 1e-9);
    precision_at_price(table, 1e9, &choice);
    sample_assert_near(choice.loss, 43, 1e-9);
    precision_table_free(table);
    one.limit = 1; /* what may not be taken is lost */
    table = table_of(&one, 1);
    precision_within_bytes(table, UINT64_MAX, &choice);
    sample_assert_near(choice.loss, 34, 1e-9);
    precision_table_free(table);
}

/* A mean and two deltas for one tensor: it, or they, never both. */
static void rivals_exclude_each_other(void **state)
{
    (void)state;
    precision_block blocks[3];
    precision_choice choice = {0};
    for (size_t i = 0; i < 3; i++)
        blocks[i] = (precision_block){.weight = 1,
                                      .rows = 1,
                                      .columns = 640,
                                      .overhead = 50,
                                      .dense = NARROW,
                                      .dense_energy = i == 0 ? 10 : 8};
    blocks[0].rivals = 2;
    precision_table *table = table_of(blocks, 3);
    for (uint64_t budget = 0; budget < 2000; budget += 10) {
        precision_within_bytes(table, budget, &choice);
        bool mean = blocks[0].dense_bits > 0;
        bool own = blocks[1].dense_bits > 0 || blocks[2].dense_bits > 0;
        assert_true(choice.bytes <= budget && !(mean && own));
        assert_true(choice.loss <= 16 + 1e-9);
        if (budget < 130)
            assert_true(!mean && !own);
    }
    assert_true(blocks[1].dense_bits == 8 && blocks[2].dense_bits == 8);
    precision_within_bytes(table, 250, &choice);
    assert_true(blocks[0].dense_bits > 0);
    precision_table_free(table);
}

static void required_tensors_are_stored_at_any_price(void **state)
{
    (void)state;
    precision_choice choice = {0};
    precision_block blocks[2] = {
        {.rows = 10, .columns = 64, .dense = 1U << (7 + GRID), .dense_energy = 1, .required = true},
        {.rows = 10,
         .columns = 64,
         .dense = 1U << (7 + GRID),
         .dense_energy = 0,
         .required = true}};
    precision_table *table = table_of(blocks, 2);
    precision_within_bytes(table, 0, &choice);
    assert_int_equal(choice.bytes, precision_dense_bytes(10, 64, 8));
    assert_true(blocks[0].dense_bits == 8 && blocks[1].dense_bits == 0); /* it did not change */
    precision_table_free(table);
}

static void entries_cost_least_at_two_bits(void **state)
{
    (void)state;
    double entry = precision_entry_bytes(NARROW);
    for (unsigned bits = 1; bits <= 8; bits++) {
        double own = precision_entry_bytes(1U << (bits - 1 + GRID));
        assert_true(bits == 2 ? own == entry : own > entry);
    }
    assert_true(precision_entry_bytes(1U << (8 + GRID)) == 2);
    assert_int_equal(precision_of_matrices(DIDI_PRECISION_AUTO), NARROW);
    assert_int_equal(precision_bits(precision_of_dense(DIDI_PRECISION_INT3)), 8);
    assert_int_equal(precision_bits(precision_of_matrices(DIDI_PRECISION_INT3)), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_price_takes_the_best_of_all_choices),
        cmocka_unit_test(budgets_of_bytes_are_kept_and_spent),
        cmocka_unit_test(more_bytes_never_lose_more),
        cmocka_unit_test(stronger_components_are_wider),
        cmocka_unit_test(errors_asked_for_are_met_with_little),
        cmocka_unit_test(unknown_components_are_guessed_within_the_tail),
        cmocka_unit_test(rivals_exclude_each_other),
        cmocka_unit_test(required_tensors_are_stored_at_any_price),
        cmocka_unit_test(entries_cost_least_at_two_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
