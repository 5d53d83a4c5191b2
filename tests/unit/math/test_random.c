/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers: fixed for a seed, independent of how many are asked for, near to normal. */
#include "src/math/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void mixing_is_splitmix(void **state)
{
    (void)state;
    /* the published first outputs of splitmix64 with seed 0 */
    assert_true(random_mix(0, 0) == 0xe220a8397b1dcdafU);
    assert_true(random_mix(0, 1) == 0x6e789e6aa1b965f4U);
    assert_true(random_mix(0, 2) == 0x06c45d188009454fU);
}

static void a_seed_gives_the_same_numbers(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    float some[COUNT];
    float again[COUNT];
    float fewer[COUNT / 2];
    random_normal(7, some, COUNT, 1);
    random_normal(7, again, COUNT, 1);
    random_normal(7, fewer, COUNT / 2, 1);
    assert_memory_equal(some, again, sizeof some);
    assert_memory_equal(some, fewer, sizeof fewer);
    random_normal_from(7, 3, fewer, COUNT / 2, 1);
    assert_memory_equal(some + 3, fewer, sizeof fewer);
    random_normal(8, again, COUNT, 1);
    assert_memory_not_equal(some, again, sizeof some);
    random_normal(7, again, 0, 1);
    random_normal(7, again, COUNT, 0);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(again[i] == 0);
}

static void numbers_have_mean_zero_and_the_deviation_asked_for(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    float *values = support_allocate(COUNT * sizeof *values);
    random_normal(3, values, COUNT, 2.5F);
    double sum = 0;
    double squares = 0;
    double fourth = 0;
    for (size_t i = 0; i < COUNT; i++) {
        double value = (double)values[i] / 2.5;
        sum += value;
        squares += value * value;
        fourth += value * value * value * value;
    }
    sample_assert_near(sum / COUNT, 0, 0.01);
    sample_assert_near(squares / COUNT, 1, 0.01);
    /* of a sum of four uniform numbers: 3 - 6/5/4 */
    sample_assert_near(fourth / COUNT, 2.7, 0.05);
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixing_is_splitmix),
        cmocka_unit_test(a_seed_gives_the_same_numbers),
        cmocka_unit_test(numbers_have_mean_zero_and_the_deviation_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
