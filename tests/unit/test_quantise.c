/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised rows: known bytes, round trips, errors near the best possible, every length. */
#include "src/base/memory.h"
#include "src/linalg.h"
#include "src/quantise.h"
#include "src/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 300 };

/* Sums of near-normal numbers are nearer. */
static void draw(uint64_t seed, float *values, size_t count)
{
    float more[COUNT_MAX];
    random_normal(seed, values, count, 1);
    for (uint64_t turn = 1; turn < 4; turn++) {
        random_normal(seed + (turn << 32), more, count, 1);
        for (size_t i = 0; i < count; i++)
            values[i] += more[i];
    }
}

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

static void sizes_are_codes_and_scales(void **state)
{
    (void)state;
    assert_int_equal(quantise_row_bytes(0, 4), 0);
    assert_int_equal(quantise_row_bytes(1, 1), 1 + 2);
    assert_int_equal(quantise_row_bytes(64, 3), 24 + 2);
    assert_int_equal(quantise_row_bytes(65, 3), 25 + 4);
    assert_int_equal(quantise_row_bytes(768, 8), 768 + 24);
}

static void bytes_are_the_documented_ones(void **state)
{
    (void)state;
    /* codes 5 0 7 2 4: bits 101 000 111 010 100, low first; scale 2 = 0x40000000 >> 15 */
    static const uint8_t packed[] = {0xC5, 0x45, 0x00, 0x80};
    static const float values[] = {3, -7, 7, -3, 1};
    float back[5];
    uint8_t again[sizeof packed];
    assert_int_equal(quantise_row_bytes(5, 3), sizeof packed);
    dequantise_row(packed, 5, 3, back);
    assert_memory_equal(back, values, sizeof values);
    quantise_row(values, 5, 3, again);
    assert_memory_equal(again, packed, sizeof packed);
}

static void values_on_the_grid_come_back(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        float values[COUNT_MAX];
        float half = (float)((1U << bits) - 1) / 2;
        uint64_t sequence = bits;
        for (size_t i = 0; i < COUNT_MAX; i++)
            values[i] = ((float)(support_random(&sequence) % (1U << bits)) - half) * 0.75F;
        for (size_t first = 0; first < COUNT_MAX; first += QUANTISE_GROUP)
            values[first] = half * 0.75F;
        assert_true(error_of(values, COUNT_MAX, bits) == 0);
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
            draw(row, values, COUNT);
            sum += error_of(values, COUNT, bits) / linalg_energy(values, COUNT);
        }
        sample_assert_near(sum / ROWS / quantise_noise(bits), 1, 0.04);
        assert_true(quantise_noise(bits) < before / 2);
        before = quantise_noise(bits);
    }
}

/* Of the scales down to a tenth of the one that clips nothing, each in the best code for a value.
 */
static double least_error(const float *values, size_t count, unsigned bits)
{
    double half = (double)((1U << bits) - 1) / 2;
    double largest = 0;
    double least = INFINITY;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)values[i]));
    for (double share = 1.1; share > 0.1; share *= 0.998) {
        double scale = largest / half * share;
        double sum = 0;
        for (size_t i = 0; i < count; i++) {
            double code = floor((double)values[i] / scale + half + 0.5);
            double value = (fmin(fmax(code, 0), 2 * half) - half) * scale;
            sum += pow((double)values[i] - value, 2);
        }
        least = fmin(least, sum);
    }
    return least;
}

static void scales_are_near_the_best(void **state)
{
    (void)state;
    enum { GROUPS = 60 };
    /* What 64 numbers happen to allow beyond the usual error is left at 5 bits and more. */
    static const double limit[] = {0, 1.002, 1.005, 1.01, 1.02, 1.04, 1.1, 1.2, 1.3};
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        double found = 0;
        double least = 0;
        for (uint64_t group = 0; group < GROUPS; group++) {
            float values[QUANTISE_GROUP];
            draw(1000 + group, values, QUANTISE_GROUP);
            if (group % 3 == 0)
                values[group] *= 4; /* outliers ask for a clip */
            double best = least_error(values, QUANTISE_GROUP, bits);
            double reached = error_of(values, QUANTISE_GROUP, bits);
            assert_true(bits > 3 || reached <= 1.02 * best);
            found += reached;
            least += best;
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
            assert_true(back[i] == 0);
    }
}

/* Powers of two change the stored scale and nothing else, over most of float32's range. */
static void scale_does_not_change_the_codes(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    float values[COUNT];
    uint8_t packed[128];
    uint8_t other[128];
    draw(5, values, COUNT);
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        size_t codes = (COUNT * bits + 7) / 8;
        quantise_row(values, COUNT, bits, packed);
        for (int exponent = -90; exponent <= 120; exponent += 30) {
            float moved[COUNT];
            for (size_t i = 0; i < COUNT; i++)
                moved[i] = ldexpf(values[i], exponent);
            quantise_row(moved, COUNT, bits, other);
            assert_memory_equal(other, packed, codes);
        }
    }
}

static void the_ends_of_the_range_stay_finite(void **state)
{
    (void)state;
    static const float values[] = {FLT_MAX, -FLT_MAX, FLT_MAX / 3, 0, FLT_MIN, -1};
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        float back[6];
        uint8_t packed[16];
        quantise_row(values, 6, bits, packed);
        dequantise_row(packed, 6, bits, back);
        for (size_t i = 0; i < 6; i++)
            assert_true(isfinite(back[i]));
        assert_true(quantise_row_is_finite(packed, 6, bits));
        assert_true(back[0] > FLT_MAX / 5 && back[1] < -FLT_MAX / 5);
    }
}

static void every_length_can_be_packed(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        for (size_t count = 1; count <= 140; count++) {
            float values[COUNT_MAX];
            draw(count, values, count);
            double share = error_of(values, count, bits) / linalg_energy(values, count);
            assert_true(share <= 3 * quantise_noise(bits));
        }
    }
}

static void scales_that_are_too_large_are_seen(void **state)
{
    (void)state;
    /* 2^127: times a half it is finite, times 3.5 not; then Inf and NaN */
    uint8_t packed[] = {0, 0, 0, 0, 0x00, 0xFE};
    assert_true(quantise_row_is_finite(packed + 3, 1, 1));
    assert_false(quantise_row_is_finite(packed + 3, 1, 3));
    packed[5] = 0xFF;
    assert_false(quantise_row_is_finite(packed + 3, 1, 1));
    packed[4] = 1;
    assert_false(quantise_row_is_finite(packed + 3, 1, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_codes_and_scales),
        cmocka_unit_test(bytes_are_the_documented_ones),
        cmocka_unit_test(values_on_the_grid_come_back),
        cmocka_unit_test(noise_is_as_measured_and_falls_with_bits),
        cmocka_unit_test(scales_are_near_the_best),
        cmocka_unit_test(zeros_and_what_is_near_give_zeros),
        cmocka_unit_test(scale_does_not_change_the_codes),
        cmocka_unit_test(the_ends_of_the_range_stay_finite),
        cmocka_unit_test(scales_that_are_too_large_are_seen),
        cmocka_unit_test(every_length_can_be_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
