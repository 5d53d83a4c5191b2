/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised rows: known bytes, round trips, errors near the best possible, every length. */
#include "src/base/memory.h"
#include "src/math/linalg.h"
#include "src/math/quantise.h"
#include "src/math/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_rows.h"
#include "tests/unit/support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 300 };

/* |x - x^|^2, measured in a buffer that ends where the packed row does. */
static double error_of(const float *values, size_t count, unsigned bits)
{
    float back[COUNT_MAX];
    uint8_t *packed = support_allocate(quantise_row_bytes(count, bits));
    quantise_row(values, count, bits, packed);
    dequantise_row(packed, count, bits, back);
    free(packed);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += pow((double)values[i] - (double)back[i], 2);
    return sum;
}

static void sizes_are_codes_and_levels(void **state)
{
    (void)state;
    assert_int_equal(quantise_groups_bytes(0, 4), 0);
    assert_int_equal(quantise_groups_bytes(1, 1), 1 + 1);
    assert_int_equal(quantise_groups_bytes(64, 3), 24 + 1);
    assert_int_equal(quantise_groups_bytes(65, 3), 25 + 2);
    assert_int_equal(quantise_row_bytes(768, 8), 1 + 768 + 12);
}

static void bytes_are_the_documented_ones(void **state)
{
    (void)state;
    /* exponent 3; codes 5 0 7 2 4: bits 101 000 111 010 100, low first; level 7 = 28 / 32 of 8 */
    static const uint8_t row[] = {0x03, 0xC5, 0x45, 0xFC};
    static const float values[] = {3, -7, 7, -3, 1};
    float back[5];
    uint8_t again[sizeof row];
    assert_int_equal(quantise_row_bytes(5, 3), sizeof row);
    dequantise_row(row, 5, 3, back);
    assert_memory_equal(back, values, sizeof values);
    quantise_row(values, 5, 3, again);
    assert_memory_equal(again, row, sizeof row);
}

static void values_on_the_grid_come_back(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        float values[COUNT_MAX];
        float half = (float)((1U << bits) - 1) / 2;
        float step = 0.75F / half;
        uint64_t sequence = bits;
        for (size_t i = 0; i < COUNT_MAX; i++)
            values[i] = ((float)(support_random(&sequence) % (1U << bits)) - half) * step;
        for (size_t first = 0; first < COUNT_MAX; first += QUANTISE_GROUP)
            values[first] = half * step;
        assert_true(error_of(values, COUNT_MAX, bits) == 0);
    }
}

static void exponents_cover_the_largest_magnitude(void **state)
{
    (void)state;
    static const struct {
        float largest;
        int exponent;
    } cases[] = {{1.0F, 1},      {1.9375F, 1}, {1.9376F, 2}, {0.5F, 0},      {0.0F, -100},
                 {1e-38F, -100}, {3e38F, 127}, {1e38F, 127}, {6e-31F, -100}, {FLT_MAX, 127}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float values[] = {0, -cases[i].largest, cases[i].largest / 3};
        assert_int_equal(quantise_exponent(values, 3), cases[i].exponent);
    }
}

static void noise_is_as_measured_and_falls_with_bits(void **state)
{
    (void)state;
    enum { ROWS = 400, COUNT = 256 };
    double before = 1;
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        double sum = 0;
        for (uint64_t row = 0; row < ROWS; row++) {
            float values[COUNT_MAX];
            sample_row(row, values, COUNT);
            sum += error_of(values, COUNT, bits) / linalg_energy(values, COUNT);
        }
        sample_assert_near(sum / ROWS / quantise_noise(bits), 1, 0.04);
        assert_true(quantise_noise(bits) < before / 2);
        before = quantise_noise(bits);
    }
}

static double error_at(const float *values, size_t count, unsigned bits, double level)
{
    double half = (double)((1U << bits) - 1) / 2;
    double step = level / half;
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double code = floor((double)values[i] / step + half + 0.5);
        double value = (fmin(fmax(code, 0), 2 * half) - half) * step;
        sum += pow((double)values[i] - value, 2);
    }
    return sum;
}

/* The lowest error of all levels, and of those that can be stored. */
static void least_errors(const float *values, unsigned bits, double *ret_all, double *ret_stored)
{
    *ret_all = *ret_stored = INFINITY;
    for (double level = 30; level > 0.02; level *= 0.998)
        *ret_all = fmin(*ret_all, error_at(values, QUANTISE_GROUP, bits, level));
    for (int exponent = -9; exponent <= 0; exponent++)
        for (int mantissa = 16; mantissa < 32; mantissa++)
            *ret_stored = fmin(*ret_stored,
                               error_at(values, QUANTISE_GROUP, bits, ldexp(mantissa, exponent)));
}

static void levels_are_near_the_best(void **state)
{
    (void)state;
    enum { GROUPS = 60 };
    /* What 64 numbers happen to allow to levels of any precision is left at 5 bits and more. */
    static const double limit[] = {0, 1.002, 1.005, 1.01, 1.02, 1.05, 1.12, 1.2, 1.3};
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits += SUPPORT_SANITIZED ? 3 : 1) {
        double found = 0;
        double least = 0;
        for (uint64_t group = 0; group < GROUPS; group++) {
            float values[QUANTISE_GROUP];
            double all;
            double stored;
            sample_row(1000 + group, values, QUANTISE_GROUP);
            if (group % 3 == 0)
                values[group] *= 4; /* outliers ask for a clip */
            least_errors(values, bits, &all, &stored);
            double reached = error_of(values, QUANTISE_GROUP, bits);
            assert_true(bits > 4 || reached <= 1.02 * stored);
            found += reached;
            least += all;
        }
        assert_true(found <= limit[bits] * least);
    }
}

static void zeros_and_what_is_near_give_zeros(void **state)
{
    (void)state;
    float values[100] = {0};
    float back[100];
    uint8_t packed[128];
    values[70] = 1e-35F;
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        quantise_row(values, 100, bits, packed);
        dequantise_row(packed, 100, bits, back);
        for (size_t i = 0; i < 100; i++)
            assert_true(fabsf(back[i]) <= 1e-34F);
    }
}

/* Powers of two change the exponent and nothing else, over most of float32's range. */
static void magnitude_does_not_change_the_codes(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    float values[COUNT];
    uint8_t row[128];
    uint8_t other[128];
    sample_row(5, values, COUNT);
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        quantise_row(values, COUNT, bits, row);
        for (int exponent = -90; exponent <= 120; exponent += 30) {
            float moved[COUNT];
            for (size_t i = 0; i < COUNT; i++)
                moved[i] = ldexpf(values[i], exponent);
            quantise_row(moved, COUNT, bits, other);
            assert_memory_equal(other + 1, row + 1, quantise_groups_bytes(COUNT, bits));
            assert_int_equal((int8_t)other[0], (int8_t)row[0] + exponent);
        }
    }
}

static void higher_exponents_give_the_same_values(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    float values[COUNT];
    float back[COUNT];
    float wanted[COUNT];
    uint8_t row[128];
    sample_row(6, values, COUNT);
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        quantise_row(values, COUNT, bits, row);
        dequantise_row(row, COUNT, bits, wanted);
        for (int more = 0; more < 8; more++) {
            int exponent = quantise_exponent(values, COUNT) + more;
            quantise_groups(values, COUNT, bits, exponent, row);
            dequantise_groups(row, COUNT, bits, exponent, back);
            assert_memory_equal(back, wanted, sizeof back);
        }
    }
}

static void the_ends_of_the_range_stay_finite(void **state)
{
    (void)state;
    static const float values[] = {FLT_MAX, -FLT_MAX, FLT_MAX / 3, 0, FLT_MIN, -1};
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        float back[6];
        uint8_t row[16];
        quantise_row(values, 6, bits, row);
        dequantise_row(row, 6, bits, back);
        for (size_t i = 0; i < 6; i++)
            assert_true(isfinite(back[i]));
        assert_true(back[0] > FLT_MAX / 3 && back[1] < -FLT_MAX / 3);
    }
}

static void any_bytes_are_finite_numbers(void **state)
{
    (void)state;
    for (unsigned exponent = 0; exponent < 256; exponent++) {
        for (unsigned level = 0; level < 256; level++) {
            uint8_t row[] = {(uint8_t)exponent, 0xFF, (uint8_t)level};
            float back[1];
            dequantise_row(row, 1, 8, back);
            double wanted =
                level == 0 ? 0 : ldexp(16 + level % 16, (int)(level / 16) - 20 + (int8_t)exponent);
            assert_true(isfinite(back[0]));
            /* below the normal numbers the step is rounded */
            sample_assert_near((double)back[0] / fmax(wanted, 1e-36), fmin(wanted * 1e36, 1), 1e-6);
        }
    }
}

static void every_length_can_be_packed(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        for (size_t count = 1; count <= 140; count++) {
            float values[COUNT_MAX];
            sample_row(count, values, count);
            double share = error_of(values, count, bits) / linalg_energy(values, count);
            assert_true(share <= 3 * quantise_noise(bits));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_codes_and_levels),
        cmocka_unit_test(bytes_are_the_documented_ones),
        cmocka_unit_test(values_on_the_grid_come_back),
        cmocka_unit_test(exponents_cover_the_largest_magnitude),
        cmocka_unit_test(noise_is_as_measured_and_falls_with_bits),
        cmocka_unit_test(levels_are_near_the_best),
        cmocka_unit_test(zeros_and_what_is_near_give_zeros),
        cmocka_unit_test(magnitude_does_not_change_the_codes),
        cmocka_unit_test(higher_exponents_give_the_same_values),
        cmocka_unit_test(the_ends_of_the_range_stay_finite),
        cmocka_unit_test(any_bytes_are_finite_numbers),
        cmocka_unit_test(every_length_can_be_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
