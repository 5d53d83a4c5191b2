/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of a given rank, against sorting; in parts, with zeros that are only counted. */
#include "src/math/random.h"
#include "src/math/selection.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 5000, ZEROS = 700 };

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Counts in two parts of different lengths, as two items would. */
static float select_from(const float *values, uint64_t rank, bool magnitudes)
{
    selection self;
    didi_error error = {0};
    uint64_t *bins = support_allocate(SELECTION_BINS * sizeof *bins);
    assert_int_equal(selection_create(&self, rank, magnitudes, &error), DIDI_OK);
    for (int pass = 0; pass < 2; pass++) {
        memset(bins, 0, SELECTION_BINS * sizeof *bins);
        selection_count(&self, values + 1234, COUNT - 1234, bins);
        selection_add(&self, bins);
        memset(bins, 0, SELECTION_BINS * sizeof *bins);
        selection_count(&self, values, 1234, bins);
        selection_add(&self, bins);
        selection_add_zeros(&self, ZEROS);
        selection_end_pass(&self);
    }
    float value = selection_value(&self);
    selection_clear(&self);
    free(bins);
    return value;
}

static void check_all(const float *values, bool magnitudes)
{
    float *sorted = support_allocate((COUNT + ZEROS) * sizeof *sorted);
    for (size_t i = 0; i < COUNT + ZEROS; i++)
        sorted[i] = i >= COUNT ? 0 : magnitudes ? fabsf(values[i]) : values[i];
    qsort(sorted, COUNT + ZEROS, sizeof *sorted, descending);
    for (size_t rank = 0; rank < COUNT + ZEROS; rank += rank < 3 ? 1 : 171)
        assert_true(select_from(values, rank, magnitudes) == sorted[rank]);
    assert_true(select_from(values, COUNT + ZEROS - 1, magnitudes) == sorted[COUNT + ZEROS - 1]);
    free(sorted);
}

static void numbers_are_found_by_rank(void **state)
{
    (void)state;
    float *values = support_allocate(COUNT * sizeof *values);
    random_normal(1, values, COUNT, 1.0F);
    check_all(values, true);
    check_all(values, false);
    free(values);
}

/* Few values, both zeros, the ends of the range. */
static void equal_numbers_and_extremes_are_found(void **state)
{
    static const float some[] = {0.0F, -0.0F, 1.0F, -1.0F, 3e38F, -3e38F, 1e-45F, -1e-45F, 1.5F};
    (void)state;
    float *values = support_allocate(COUNT * sizeof *values);
    for (size_t i = 0; i < COUNT; i++)
        values[i] = some[random_mix(7, i) % (sizeof some / sizeof *some)];
    check_all(values, true);
    check_all(values, false);
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_found_by_rank),
        cmocka_unit_test(equal_numbers_and_extremes_are_found),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
