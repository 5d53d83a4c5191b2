/* SPDX-License-Identifier: Apache-2.0 */
/* Whole ranks under a budget: known answers, brute force on small cases, what is left over. */
#include "src/base/fault.h"
#include "src/budget/ranks.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>

enum { BLOCKS = 4, VALUES = 3 };

static void greedy_takes_the_largest_gains(void **state)
{
    (void)state;
    static const double a[] = {4, 2, 1};
    static const double b[] = {3, 0.5};
    allocate_block blocks[] = {{.sigma = a, .count = 3, .weight = 1, .cost = 10},
                               {.sigma = b, .count = 2, .weight = 2, .cost = 10}};
    allocate_result result = {0};
    didi_error error = {0};
    /* gains: 1.6, 0.4, 0.1 and 1.8, 0.05 */
    assert_int_equal(allocate_exact(blocks, 2, 35, &result, &error), DIDI_OK);
    assert_int_equal(blocks[0].rank, 2);
    assert_int_equal(blocks[1].rank, 1);
    assert_int_equal(result.parameters, 30);
    sample_assert_near(result.threshold, 0.4, 1e-15);
    assert_int_equal(allocate_exact(blocks, 2, 9, &result, &error), DIDI_OK);
    assert_int_equal(blocks[0].rank + blocks[1].rank, 0);
    assert_true(result.parameters == 0 && result.threshold == 0);
    assert_int_equal(allocate_exact(blocks, 2, 1000, &result, &error), DIDI_OK);
    assert_int_equal(result.parameters, 50);
}

static void equal_gains_go_to_the_first_block(void **state)
{
    (void)state;
    static const double same[] = {1, 1};
    allocate_block blocks[] = {{.sigma = same, .count = 2, .weight = 1, .cost = 1},
                               {.sigma = same, .count = 2, .weight = 1, .cost = 1}};
    allocate_result result = {0};
    didi_error error = {0};
    assert_int_equal(allocate_exact(blocks, 2, 3, &result, &error), DIDI_OK);
    assert_int_equal(blocks[0].rank, 2);
    assert_int_equal(blocks[1].rank, 1);
}

static void a_full_block_becomes_dense_when_that_is_worth_it(void **state)
{
    (void)state;
    static const double sigma[] = {3, 2};
    allocate_block blocks[] = {
        {.sigma = sigma, .count = 2, .weight = 1, .cost = 8, .dense_cost = 20, .tail = 1}};
    allocate_result result = {0};
    didi_error error = {0};
    assert_int_equal(allocate_exact(blocks, 1, 19, &result, &error), DIDI_OK);
    assert_true(blocks[0].rank == 2 && !blocks[0].dense && result.parameters == 16);
    assert_int_equal(allocate_exact(blocks, 1, 20, &result, &error), DIDI_OK);
    assert_true(blocks[0].rank == 0 && blocks[0].dense && result.parameters == 20);
    blocks[0].tail = 0; /* nothing to gain */
    assert_int_equal(allocate_exact(blocks, 1, 100, &result, &error), DIDI_OK);
    assert_true(blocks[0].rank == 2 && !blocks[0].dense);
}

static void a_block_of_weight_zero_gets_nothing(void **state)
{
    (void)state;
    static const double sigma[] = {3, 2};
    allocate_block blocks[] = {{.sigma = sigma, .count = 2, .weight = 0, .cost = 1},
                               {.sigma = sigma, .count = 0, .weight = 1, .cost = 1}};
    allocate_result result = {0};
    didi_error error = {0};
    assert_int_equal(allocate_exact(blocks, 2, 100, &result, &error), DIDI_OK);
    assert_int_equal(blocks[0].rank + blocks[1].rank, 0);
}

static double value_of(const allocate_block *from, size_t i)
{
    return from->weight * from->sigma[i] * from->sigma[i];
}

/* The most any choice of ranks removes within the budget. */
static double best_removed(const allocate_block *blocks, uint64_t budget)
{
    double best = 0;
    for (size_t code = 0; code < 256; code++) {
        uint64_t spent = 0;
        double removed = 0;
        for (size_t b = 0; b < BLOCKS; b++)
            for (size_t i = 0; i < (code >> (2 * b) & 3); i++) {
                spent += blocks[b].cost;
                removed += value_of(&blocks[b], i);
            }
        if (spent <= budget && removed > best)
            best = removed;
    }
    return best;
}

static void make_blocks(uint64_t *sequence, bool same_cost, double sigma[BLOCKS][VALUES],
                        allocate_block *blocks)
{
    for (size_t b = 0; b < BLOCKS; b++) {
        double value = 1 + (double)(support_random(sequence) % 1000) / 100;
        for (size_t i = 0; i < VALUES; i++) {
            sigma[b][i] = value;
            value *= (double)(support_random(sequence) % 1000) / 1000;
        }
        blocks[b] = (allocate_block){.sigma = sigma[b],
                                     .count = VALUES,
                                     .weight = 0.5 + (double)(support_random(sequence) % 4),
                                     .cost = same_cost ? 7 : 3 + support_random(sequence) % 9};
    }
}

/* The loss of greedy is the optimum for equal costs, and at most one component from it otherwise.
 */
static void check_random_case(uint64_t *sequence, bool same_cost)
{
    double sigma[BLOCKS][VALUES];
    allocate_block blocks[BLOCKS];
    make_blocks(sequence, same_cost, sigma, blocks);
    uint64_t budget = support_random(sequence) % 90;
    allocate_result result = {0};
    didi_error error = {0};
    assert_int_equal(allocate_exact(blocks, BLOCKS, budget, &result, &error), DIDI_OK);
    uint64_t spent = 0;
    double removed = 0;
    double largest = 0;
    for (size_t b = 0; b < BLOCKS; b++) {
        spent += blocks[b].rank * blocks[b].cost;
        largest = fmax(largest, value_of(&blocks[b], 0));
        for (size_t i = 0; i < blocks[b].rank; i++) {
            removed += value_of(&blocks[b], i);
            assert_true(value_of(&blocks[b], i) / (double)blocks[b].cost >= result.threshold);
        }
    }
    assert_true(spent == result.parameters && spent <= budget);
    for (size_t b = 0; b < BLOCKS; b++)
        if (blocks[b].rank < VALUES && value_of(&blocks[b], blocks[b].rank) > 0)
            assert_true(budget - spent < blocks[b].cost);
    double best = best_removed(blocks, budget);
    assert_true(removed >= best - (same_cost ? 1e-9 : largest));
}

static void greedy_against_brute_force(void **state)
{
    (void)state;
    uint64_t sequence = 11;
    for (int i = 0; i < 300; i++) {
        check_random_case(&sequence, true);
        check_random_case(&sequence, false);
    }
}

static void the_schedule_falls_to_the_last_threshold(void **state)
{
    (void)state;
    enum { STEPS = 6 };
    uint64_t sequence = 5;
    double sigma[BLOCKS][VALUES];
    double thresholds[STEPS];
    allocate_block blocks[BLOCKS];
    didi_error error = {0};
    for (int i = 0; i < 50; i++) {
        make_blocks(&sequence, true, sigma, blocks);
        allocate_result result = {0};
        assert_int_equal(allocate_exact(blocks, BLOCKS, 70, &result, &error), DIDI_OK);
        assert_int_equal(allocate_schedule(blocks, BLOCKS, 70, STEPS, thresholds, &error), DIDI_OK);
        for (size_t j = 1; j < STEPS; j++)
            assert_true(thresholds[j] <= thresholds[j - 1]);
        assert_true(thresholds[STEPS - 1] == result.threshold);
    }
    assert_int_equal(allocate_schedule(blocks, BLOCKS, 3, STEPS, thresholds, &error), DIDI_OK);
    assert_true(isinf(thresholds[STEPS - 1])); /* not even one component fits */
}

static void rounding_known_answers(void **state)
{
    (void)state;
    static const double real[] = {4, 2, 1};
    allocate_block blocks[3];
    didi_error error = {0};
    for (size_t j = 0; j < 3; j++)
        blocks[j] = (allocate_block){.count = 100, .cost = 1, .dense = true};
    static const uint64_t budgets[] = {0, 7, 8, 14, 1000};
    static const size_t wanted[][3] = {{0, 0, 0}, {4, 2, 1}, {5, 2, 1}, {8, 4, 2}, {100, 100, 100}};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(allocate_round(blocks, 3, real, budgets[i], &error), DIDI_OK);
        for (size_t j = 0; j < 3; j++)
            assert_true(blocks[j].rank == wanted[i][j] && !blocks[j].dense);
    }
    static const double none[] = {0, 3, 0};
    assert_int_equal(allocate_round(blocks, 3, none, 50, &error), DIDI_OK);
    assert_true(blocks[0].rank == 0 && blocks[1].rank == 50 && blocks[2].rank == 0);
}

static void rounding_stays_within_the_budget(void **state)
{
    (void)state;
    enum { COUNT = 9 };
    uint64_t sequence = 17;
    for (int round = 0; round < 500; round++) {
        double real[COUNT];
        allocate_block blocks[COUNT] = {0};
        didi_error error = {0};
        for (size_t i = 0; i < COUNT; i++) {
            real[i] = (double)(support_random(&sequence) % 5000) / 100;
            real[i] = support_random(&sequence) % 5 == 0 ? 0 : real[i];
            blocks[i].count = support_random(&sequence) % 40;
            blocks[i].cost = 1 + support_random(&sequence) % 30;
        }
        uint64_t budget = support_random(&sequence) % 6000;
        assert_int_equal(allocate_round(blocks, COUNT, real, budget, &error), DIDI_OK);
        uint64_t spent = 0;
        for (size_t i = 0; i < COUNT; i++) {
            assert_true(blocks[i].rank <= blocks[i].count && (real[i] > 0 || blocks[i].rank == 0));
            spent += blocks[i].rank * blocks[i].cost;
        }
        assert_true(spent <= budget);
        for (size_t i = 0; i < COUNT; i++)
            assert_true(real[i] <= 0 || blocks[i].rank == blocks[i].count ||
                        budget - spent < blocks[i].cost);
    }
}

static void the_frontier_falls_from_all_to_the_tails(void **state)
{
    (void)state;
    enum { POINTS = 13 };
    static const double a[] = {4, 2, 1};
    static const double b[] = {3, 0.5};
    allocate_block blocks[] = {
        {.sigma = a, .count = 3, .weight = 1, .cost = 10, .tail = 0.25, .rank = 1},
        {.sigma = b, .count = 2, .weight = 2, .cost = 5, .rank = 2}};
    allocate_point points[POINTS];
    didi_error error = {0};
    assert_int_equal(allocate_frontier(blocks, 2, POINTS, points, &error), DIDI_OK);
    assert_int_equal(points[0].parameters, 0);
    sample_assert_near(points[0].loss, 16 + 4 + 1 + 0.25 + 2 * 9.25, 1e-12);
    assert_int_equal(points[POINTS - 1].parameters, 40);
    sample_assert_near(points[POINTS - 1].loss, 0.25, 1e-12);
    for (size_t i = 1; i < POINTS; i++)
        assert_true(points[i].loss <= points[i - 1].loss &&
                    points[i].parameters >= points[i - 1].parameters);
    assert_true(blocks[0].rank == 1 && blocks[1].rank == 2); /* ranks are left alone */
    blocks[0].limit = 8; /* what is guessed is part of the tail */
    assert_int_equal(allocate_frontier(blocks, 2, POINTS, points, &error), DIDI_OK);
    sample_assert_near(points[0].loss, 16 + 4 + 1 + 0.25 + 2 * 9.25, 1e-12);
    sample_assert_near(points[POINTS - 1].loss, 0, 1e-12);
}

static void no_memory_is_told(void **state)
{
    (void)state;
    static const double sigma[] = {1};
    allocate_block blocks[] = {{.sigma = sigma, .count = 1, .weight = 1, .cost = 1}};
    allocate_result result = {0};
    allocate_point point;
    double real = 1;
    double threshold = 0;
    didi_error error = {0};
    for (int nth = 1; nth <= 2; nth++) {
        assert_int_equal(fault_arm(nth == 1 ? "alloc:1" : "alloc:2"), 0);
        assert_int_equal(allocate_exact(blocks, 1, 1, &result, &error), DIDI_NO_MEMORY);
    }
    assert_int_equal(fault_arm("alloc:1+"), 0);
    assert_int_equal(allocate_schedule(blocks, 1, 1, 1, &threshold, &error), DIDI_NO_MEMORY);
    assert_int_equal(allocate_frontier(blocks, 1, 1, &point, &error), DIDI_NO_MEMORY);
    assert_int_equal(allocate_round(blocks, 1, &real, 1, &error), DIDI_NO_MEMORY);
    assert_int_equal(fault_arm(NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest_gains),
        cmocka_unit_test(equal_gains_go_to_the_first_block),
        cmocka_unit_test(a_full_block_becomes_dense_when_that_is_worth_it),
        cmocka_unit_test(a_block_of_weight_zero_gets_nothing),
        cmocka_unit_test(greedy_against_brute_force),
        cmocka_unit_test(the_schedule_falls_to_the_last_threshold),
        cmocka_unit_test(rounding_known_answers),
        cmocka_unit_test(rounding_stays_within_the_budget),
        cmocka_unit_test(the_frontier_falls_from_all_to_the_tails),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
