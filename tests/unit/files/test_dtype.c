/* SPDX-License-Identifier: Apache-2.0 */
/* Element types: every pattern of 8 and 16 bits, and rounding to nearest even against its
 * definition. */
#include "src/files/dtype.h"
#include "tests/unit/support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PATTERNS = 65536 };

static float float_of(uint32_t bits)
{
    float value = 0;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* The value of a pattern by the definition of the format. */
static double pattern_value(uint32_t pattern, int exponent_bits, int mantissa_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)(pattern >> mantissa_bits) & ((1 << exponent_bits) - 1);
    double mantissa = (double)(pattern & ((1u << mantissa_bits) - 1));
    double sign = pattern & 0x8000u ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1)
        return mantissa == 0 ? sign * (double)INFINITY : (double)NAN;
    if (exponent == 0)
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp(mantissa + ldexp(1, mantissa_bits), exponent - bias - mantissa_bits);
}

static double value_of(didi_dtype dtype, uint32_t pattern)
{
    return dtype == DIDI_DTYPE_F16 ? pattern_value(pattern, 5, 10) : pattern_value(pattern, 8, 7);
}

static void check_all_patterns(didi_dtype dtype)
{
    uint16_t *patterns = support_allocate(PATTERNS * sizeof(*patterns));
    uint16_t *back = support_allocate(PATTERNS * sizeof(*back));
    float *values = support_allocate(PATTERNS * sizeof(*values));
    for (uint32_t i = 0; i < PATTERNS; i++)
        patterns[i] = (uint16_t)i;
    didi_dtype_to_f32(dtype, patterns, values, PATTERNS);
    didi_dtype_from_f32(dtype, values, back, PATTERNS);
    for (uint32_t i = 0; i < PATTERNS; i++) {
        double expected = value_of(dtype, i);
        if (isnan(expected)) {
            assert_true(isnan(values[i]));
            assert_true(isnan(value_of(dtype, back[i])));
        } else {
            assert_true((double)values[i] == expected);
            assert_int_equal(bits_of(values[i]) >> 31, i >> 15);
            assert_int_equal(back[i], i);
        }
    }
    free(values);
    free(back);
    free(patterns);
}

static void every_half_converts_both_ways(void **state)
{
    (void)state;
    check_all_patterns(DIDI_DTYPE_F16);
}

static void every_bfloat_converts_both_ways(void **state)
{
    (void)state;
    check_all_patterns(DIDI_DTYPE_BF16);
}

static uint32_t convert_one(didi_dtype dtype, float value)
{
    uint16_t pattern = 0;
    didi_dtype_from_f32(dtype, &value, &pattern, 1);
    return pattern;
}

/* Between each two neighbours a < b: the midpoint goes to the even one, its float neighbours to the
 * nearer one. Above the largest, the next step of the same size stands for infinity. */
static void check_rounding(didi_dtype dtype, uint32_t infinity)
{
    for (uint32_t sign = 0; sign <= 0x8000u; sign += 0x8000u) {
        for (uint32_t low = 0; low < infinity; low++) {
            double a = value_of(dtype, low);
            double below = low == 0 ? 0 : value_of(dtype, low - 1);
            double b = low + 1 == infinity ? a + (a - below) : value_of(dtype, low + 1);
            float middle = (float)((a + b) / 2);
            if ((double)middle != (a + b) / 2)
                continue; /* between bfloat subnormals of the last bit a float has no midpoint */
            float factor = sign == 0 ? 1.0F : -1.0F;
            assert_int_equal(convert_one(dtype, factor * middle), sign | (low + (low & 1)));
            assert_int_equal(convert_one(dtype, factor * nextafterf(middle, 0)), sign | low);
            assert_int_equal(convert_one(dtype, factor * nextafterf(middle, INFINITY)),
                             sign | (low + 1));
        }
    }
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    check_rounding(DIDI_DTYPE_F16, 0x7C00);
    assert_int_equal(convert_one(DIDI_DTYPE_F16, 65504.0F), 0x7BFF);
    assert_int_equal(convert_one(DIDI_DTYPE_F16, 65519.996F), 0x7BFF);
    assert_int_equal(convert_one(DIDI_DTYPE_F16, 65520.0F), 0x7C00);
    assert_int_equal(convert_one(DIDI_DTYPE_F16, FLT_MAX), 0x7C00);
    assert_int_equal(convert_one(DIDI_DTYPE_F16, -FLT_MAX), 0xFC00);
    assert_int_equal(convert_one(DIDI_DTYPE_F16, FLT_TRUE_MIN), 0);
    assert_int_equal(convert_one(DIDI_DTYPE_F16, -FLT_TRUE_MIN), 0x8000);
}

static void bfloats_round_to_nearest_even(void **state)
{
    (void)state;
    check_rounding(DIDI_DTYPE_BF16, 0x7F80);
    assert_int_equal(convert_one(DIDI_DTYPE_BF16, FLT_MAX), 0x7F80);
    assert_int_equal(convert_one(DIDI_DTYPE_BF16, float_of(0x7F7F7FFF)), 0x7F7F);
}

/* ---- 8 bits ---- */

typedef struct eight {
    didi_dtype dtype;
    int exponent_bits, mantissa_bits;
    uint32_t infinity; /* code of what comes after the largest number */
} eight;

static const eight eights[] = {{DIDI_DTYPE_F8_E5M2, 5, 2, 0x7C}, {DIDI_DTYPE_F8_E4M3, 4, 3, 0x7F}};

/* The value of a code by the definition of the format: E5M2 has Inf and NaN as IEEE 754 does, E4M3
 * has NaN as 0x7F and 0xFF alone. */
static double eight_value(const eight *format, uint32_t code)
{
    int bias = (1 << (format->exponent_bits - 1)) - 1;
    uint32_t magnitude = code & 0x7Fu;
    int exponent = (int)(magnitude >> format->mantissa_bits);
    double mantissa = (double)(magnitude & ((1u << format->mantissa_bits) - 1));
    double sign = code & 0x80u ? -1 : 1;
    if (magnitude == 0x7F || magnitude > format->infinity)
        return (double)NAN;
    if (magnitude == format->infinity)
        return sign * (double)INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, 1 - bias - format->mantissa_bits);
    return sign * ldexp(mantissa + ldexp(1, format->mantissa_bits),
                        exponent - bias - format->mantissa_bits);
}

static uint32_t convert_eight(const eight *format, float value)
{
    uint8_t code = 0;
    didi_dtype_from_f32(format->dtype, &value, &code, 1);
    return code;
}

static void every_code_of_8_bits_converts_both_ways(void **state)
{
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        uint8_t codes[256];
        uint8_t back[256];
        float values[256];
        for (uint32_t i = 0; i < 256; i++)
            codes[i] = (uint8_t)i;
        didi_dtype_to_f32(eights[f].dtype, codes, values, 256);
        didi_dtype_from_f32(eights[f].dtype, values, back, 256);
        for (uint32_t i = 0; i < 256; i++) {
            double expected = eight_value(&eights[f], i);
            assert_int_equal(isfinite(expected) ? 1 : 0,
                             didi_dtype_first_nonfinite_in(eights[f].dtype, &codes[i], 1));
            if (isnan(expected)) {
                assert_true(isnan(values[i]));
                assert_true(isnan(eight_value(&eights[f], back[i])));
            } else {
                assert_true((double)values[i] == expected);
                assert_int_equal(bits_of(values[i]) >> 31, i >> 7);
                assert_int_equal(back[i], i);
            }
        }
    }
}

static void codes_of_8_bits_are_rounded_to_nearest_even(void **state)
{
    (void)state;
    for (size_t f = 0; f < 2; f++)
        for (uint32_t sign = 0; sign <= 0x80; sign += 0x80)
            for (uint32_t low = 0; low < eights[f].infinity; low++) {
                double a = eight_value(&eights[f], low);
                double below = low == 0 ? 0 : eight_value(&eights[f], low - 1);
                double b = low + 1 == eights[f].infinity ? a + (a - below)
                                                         : eight_value(&eights[f], low + 1);
                float middle = (float)((a + b) / 2);
                float factor = sign == 0 ? 1.0F : -1.0F;
                assert_int_equal(convert_eight(&eights[f], factor * middle),
                                 sign | (low + (low & 1)));
                assert_int_equal(convert_eight(&eights[f], factor * nextafterf(middle, 0)),
                                 sign | low);
                assert_int_equal(convert_eight(&eights[f], factor * nextafterf(middle, INFINITY)),
                                 sign | (low + 1));
            }
}

static void what_8_bits_cannot_hold_is_not_finite(void **state)
{
    (void)state;
    static const float beyond[] = {480, 512, 65504, FLT_MAX, INFINITY, NAN};
    static const uint32_t e5m2[] = {0x60, 0x60, 0x7C, 0x7C, 0x7C, 0x7E};
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(convert_eight(&eights[1], beyond[i]) & 0x7F, 0x7F);
        assert_int_equal(convert_eight(&eights[1], -beyond[i]) & 0x7F, 0x7F);
        assert_int_equal(convert_eight(&eights[0], beyond[i]) & 0x7F, e5m2[i]);
    }
    assert_int_equal(convert_eight(&eights[0], -INFINITY), 0xFC);
    assert_int_equal(convert_eight(&eights[1], 464), 0x7E);
    assert_int_equal(convert_eight(&eights[0], 61439.99F), 0x7B);
    assert_int_equal(convert_eight(&eights[0], FLT_TRUE_MIN), 0);
    assert_int_equal(convert_eight(&eights[1], -FLT_TRUE_MIN), 0x80);
}

static void nan_stays_nan(void **state)
{
    (void)state;
    static const uint32_t nans[] = {0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0xFF800001, 0x7F80FFFF};
    for (size_t i = 0; i < sizeof(nans) / sizeof(nans[0]); i++) {
        for (int dtype = 0; dtype < DIDI_DTYPE_COUNT; dtype++) {
            if (!didi_dtype_is_float((didi_dtype)dtype))
                continue;
            char encoded[8] = {0};
            float value = float_of(nans[i]);
            float back = 0;
            didi_dtype_from_f32((didi_dtype)dtype, &value, encoded, 1);
            didi_dtype_to_f32((didi_dtype)dtype, encoded, &back, 1);
            assert_true(isnan(back));
        }
    }
}

/* Lengths around the vector widths, at every alignment, must give what single conversions give. */
static void lengths_and_alignments_do_not_matter(void **state)
{
    (void)state;
    static const didi_dtype floats[] = {DIDI_DTYPE_F16, DIDI_DTYPE_BF16,    DIDI_DTYPE_F32,
                                        DIDI_DTYPE_F64, DIDI_DTYPE_F8_E5M2, DIDI_DTYPE_F8_E4M3};
    enum { LENGTH_MAX = 67 };
    float source[LENGTH_MAX];
    for (size_t i = 0; i < LENGTH_MAX; i++)
        source[i] = ldexpf((float)i - 30.3F, (int)i % 24 - 20);
    for (size_t d = 0; d < sizeof floats / sizeof *floats; d++) {
        size_t size = didi_dtype_bits(floats[d]) / 8;
        for (size_t count = 0; count <= LENGTH_MAX; count++) {
            char encoded[LENGTH_MAX * 8 + 8];
            float back[LENGTH_MAX];
            memset(encoded, 0x55, sizeof(encoded));
            size_t shift = count % 8;
            didi_dtype_from_f32(floats[d], source, encoded + shift, count);
            assert_int_equal(encoded[shift + count * size], 0x55);
            didi_dtype_to_f32(floats[d], encoded + shift, back, count);
            for (size_t i = 0; i < count; i++) {
                char one[8];
                float expected = 0;
                didi_dtype_from_f32(floats[d], &source[i], one, 1);
                didi_dtype_to_f32(floats[d], one, &expected, 1);
                assert_memory_equal(one, encoded + shift + i * size, size);
                assert_true(bits_of(back[i]) == bits_of(expected));
            }
        }
    }
}

static void doubles_round_once(void **state)
{
    (void)state;
    static const double values[] = {1.0 + 0x1p-24, 1.0 + 0x1.8p-23, 1e300, -1e300,
                                    0x1p-149,      0x1p-150,        0.1};
    static const float expected[] = {1.0F, 1.0F + 0x1p-22F, INFINITY, -INFINITY, 0x1p-149F, 0,
                                     0.1F};
    float converted[7];
    didi_dtype_to_f32(DIDI_DTYPE_F64, values, converted, 7);
    for (size_t i = 0; i < 7; i++)
        assert_true(converted[i] == expected[i]);
}

static void the_first_nonfinite_is_found(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    static const size_t places[] = {0, 1, 31, 4095, 4096, 8191, 9999};
    static const uint32_t bad[] = {0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001};
    float *values = support_allocate(COUNT * sizeof(*values));
    char *encoded = support_allocate(COUNT * 8);
    for (size_t i = 0; i < COUNT; i++)
        values[i] = i % 2 == 0 ? 448.0F : -0.0F;
    assert_int_equal(didi_dtype_first_nonfinite(values, COUNT), COUNT);
    assert_int_equal(didi_dtype_first_nonfinite(values, 0), 0);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        float kept = values[places[i]];
        values[places[i]] = float_of(bad[i % 4]);
        assert_int_equal(didi_dtype_first_nonfinite(values, COUNT), places[i]);
        for (int dtype = 0; dtype < DIDI_DTYPE_COUNT; dtype++) {
            if (!didi_dtype_is_float((didi_dtype)dtype))
                continue;
            didi_dtype_from_f32((didi_dtype)dtype, values, encoded, COUNT);
            assert_int_equal(didi_dtype_first_nonfinite_in((didi_dtype)dtype, encoded, COUNT),
                             places[i]);
        }
        values[places[i]] = kept;
    }
    free(encoded);
    free(values);
}

static void names_are_exact(void **state)
{
    (void)state;
    didi_dtype dtype = DIDI_DTYPE_COUNT;
    for (int i = 0; i < DIDI_DTYPE_COUNT; i++) {
        assert_true(didi_dtype_parse(didi_dtype_name((didi_dtype)i), &dtype));
        assert_int_equal(dtype, i);
        assert_false(didi_dtype_is_float(dtype) && didi_dtype_is_integer(dtype));
    }
    dtype = DIDI_DTYPE_F4;
    assert_false(didi_dtype_parse("f32", &dtype));
    assert_false(didi_dtype_parse("F32 ", &dtype));
    assert_false(didi_dtype_parse("", &dtype));
    assert_int_equal(dtype, DIDI_DTYPE_F4);
    assert_int_equal(didi_dtype_bits(DIDI_DTYPE_F6_E2M3), 6);
    assert_true(didi_dtype_is_float(DIDI_DTYPE_BF16));
    assert_true(didi_dtype_is_integer(DIDI_DTYPE_BOOL));
    assert_false(didi_dtype_is_float(DIDI_DTYPE_C64));
    assert_false(didi_dtype_is_integer(DIDI_DTYPE_F8_E4M3));
    assert_true(didi_dtype_is_float(DIDI_DTYPE_F8_E4M3));
    assert_false(didi_dtype_is_float(DIDI_DTYPE_F8_E8M0));
    assert_false(didi_dtype_is_float(DIDI_DTYPE_F8_E4M3FNUZ));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_converts_both_ways),
        cmocka_unit_test(every_bfloat_converts_both_ways),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(bfloats_round_to_nearest_even),
        cmocka_unit_test(every_code_of_8_bits_converts_both_ways),
        cmocka_unit_test(codes_of_8_bits_are_rounded_to_nearest_even),
        cmocka_unit_test(what_8_bits_cannot_hold_is_not_finite),
        cmocka_unit_test(nan_stays_nan),
        cmocka_unit_test(lengths_and_alignments_do_not_matter),
        cmocka_unit_test(doubles_round_once),
        cmocka_unit_test(the_first_nonfinite_is_found),
        cmocka_unit_test(names_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
