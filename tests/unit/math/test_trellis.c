/* SPDX-License-Identifier: Apache-2.0 */
/* Trellis-coded rows: known bytes, the noise of normal numbers, every length, hostile bytes. */
#include "src/math/linalg.h"
#include "src/math/quantise.h"
#include "src/math/random.h"
#include "src/math/trellis.h"
#include "tests/unit/sample_rows.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 700 };

/* |x - x^|^2 / |x|^2, measured in a buffer that ends where the row does. */
static double error_of(const float *values, size_t count, unsigned bits)
{
    float back[COUNT_MAX];
    int exponent = quantise_exponent(values, count);
    uint8_t *row = support_allocate(trellis_row_bytes(count, bits));
    trellis_row(values, count, bits, exponent, row);
    trellis_values(row, count, bits, exponent, back);
    free(row);
    return linalg_squared_distance(values, back, count) / linalg_energy(values, count);
}

static void bytes_are_the_documented_ones(void **state)
{
    (void)state;
    /* 1 bit: the sequence 1 1 0 1 0 goes through the subsets 2, 3, 2, 3, 0 of -156 -36 36 156 */
    static const uint8_t narrow[] = {0x0B, 0x80};
    static const float narrow_values[] = {36, 156, 36, 156, -156};
    /* 2 bits: the codes 1 3 0 1 2 have the lowest bits 1 1 0 1 0 and the upper ones 0 1 0 0 1 */
    static const uint8_t wide[] = {0x4D, 0x02, 0x80};
    static const float wide_values[] = {-74, 244, -74, -26, 26};
    float back[5];
    assert_int_equal(trellis_row_bytes(5, 1), sizeof narrow);
    trellis_values(narrow, 5, 1, 19, back); /* level 16 2^(8 - 20 + 19) = 2048 = 16 steps of 128 */
    for (size_t i = 0; i < 5; i++)
        assert_true(back[i] == 16 * narrow_values[i]);
    assert_int_equal(trellis_row_bytes(5, 2), sizeof wide);
    trellis_values(wide, 5, 2, 15, back);
    for (size_t i = 0; i < 5; i++)
        assert_true(back[i] == wide_values[i]);
}

static void noise_is_as_measured_and_lower_than_a_grids(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= TRELLIS_BITS_MAX; bits++) {
        double sum = 0;
        for (uint64_t seed = 1; seed <= 40; seed++) {
            float values[COUNT_MAX];
            sample_row(seed, values, 256);
            sum += error_of(values, 256, bits) / 40;
        }
        assert_true(fabs(sum / trellis_noise(bits) - 1) < 0.06);
        assert_true(trellis_noise(bits) < 0.82 * quantise_noise(bits));
        assert_true(trellis_noise(bits) > pow(4, -(double)bits)); /* no code does better */
    }
}

static void every_length_is_coded(void **state)
{
    (void)state;
    float values[COUNT_MAX];
    sample_row(5, values, COUNT_MAX);
    for (size_t count = 1; count <= COUNT_MAX; count += count < 20 || count % 256 > 250 ? 1 : 37)
        for (unsigned bits = 1; bits <= TRELLIS_BITS_MAX; bits++)
            assert_true(error_of(values, count, bits) < 1);
}

/* Where a piece of the row ends is not to be seen in its error. */
static void long_rows_are_no_worse(void **state)
{
    (void)state;
    double whole = 0;
    double middle = 0; /* 32 numbers around the end of the first piece */
    for (uint64_t seed = 1; seed <= 60; seed++) {
        float values[COUNT_MAX];
        float back[COUNT_MAX];
        uint8_t row[COUNT_MAX];
        sample_row(seed, values, 600);
        int exponent = quantise_exponent(values, 600);
        trellis_row(values, 600, 2, exponent, row);
        trellis_values(row, 600, 2, exponent, back);
        whole += linalg_squared_distance(values, back, 600) / 600;
        middle += linalg_squared_distance(values + 240, back + 240, 32) / 32;
    }
    assert_true(middle < 1.1 * whole);
}

static void sizes_do_not_matter(void **state)
{
    (void)state;
    float values[100];
    sample_row(9, values, 100);
    for (int power = -90; power <= 110; power += 20) {
        float scaled[100];
        for (size_t i = 0; i < 100; i++)
            scaled[i] = ldexpf(values[i], power);
        assert_true(error_of(scaled, 100, 2) < 0.12);
    }
}

static void zeros_and_single_numbers_are_zeros_and_finite(void **state)
{
    (void)state;
    float values[300] = {0};
    float back[300];
    uint8_t row[300];
    trellis_row(values, 300, 1, -100, row);
    trellis_values(row, 300, 1, -100, back);
    for (size_t i = 0; i < 300; i++)
        assert_true(back[i] == 0);
    values[7] = 1e-38F;
    trellis_row(values, 300, 3, quantise_exponent(values, 300), row);
    trellis_values(row, 300, 3, -100, back);
    for (size_t i = 0; i < 300; i++)
        assert_true(isfinite(back[i]));
    values[7] = 1e30F;
    assert_true(error_of(values, 300, 3) < 1.001);
}

static void all_bytes_give_finite_values(void **state)
{
    (void)state;
    float back[64];
    uint8_t row[64];
    memset(row, 0xFF, sizeof row);
    for (unsigned bits = 1; bits <= TRELLIS_BITS_MAX; bits++)
        for (int exponent = -128; exponent <= 127; exponent++) {
            trellis_values(row, 64, bits, exponent, back);
            for (size_t i = 0; i < 64; i++)
                assert_true(isfinite(back[i]));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_the_documented_ones),
        cmocka_unit_test(noise_is_as_measured_and_lower_than_a_grids),
        cmocka_unit_test(every_length_is_coded),
        cmocka_unit_test(long_rows_are_no_worse),
        cmocka_unit_test(sizes_do_not_matter),
        cmocka_unit_test(zeros_and_single_numbers_are_zeros_and_finite),
        cmocka_unit_test(all_bytes_give_finite_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
