/* SPDX-License-Identifier: Apache-2.0 */
/* Transforms of any size are those of the definition, and the inverse gives back what was there. */
#include "src/math/fourier.h"
#include "src/math/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 40 * 40 };

static void draw(fourier_number *x, size_t count)
{
    float values[2 * ROOM];
    random_normal(count, values, 2 * count, 1);
    for (size_t i = 0; i < count; i++)
        x[i] = (fourier_number){(double)values[2 * i], (double)values[2 * i + 1]};
}

static fourier_number by_definition(const fourier_number *x, size_t rows, size_t columns, size_t k,
                                    size_t l)
{
    fourier_number sum = {0, 0};
    for (size_t a = 0; a < rows; a++)
        for (size_t b = 0; b < columns; b++) {
            double angle = -2 * M_PI *
                           ((double)(k * a % rows) / (double)rows +
                            (double)(l * b % columns) / (double)columns);
            fourier_number from = x[a * columns + b];
            sum.real += from.real * cos(angle) - from.imaginary * sin(angle);
            sum.imaginary += from.real * sin(angle) + from.imaginary * cos(angle);
        }
    return sum;
}

static void check(size_t rows, size_t columns)
{
    static fourier_number x[ROOM];
    static fourier_number before[ROOM];
    didi_error error = {0};
    draw(x, rows * columns);
    memcpy(before, x, sizeof x);
    sample_must(fourier_transform(rows, columns, false, x, &error), &error);
    for (size_t k = 0; k < rows; k++)
        for (size_t l = 0; l < columns; l++) {
            fourier_number wanted = by_definition(before, rows, columns, k, l);
            sample_assert_near(x[k * columns + l].real, wanted.real, 1e-11);
            sample_assert_near(x[k * columns + l].imaginary, wanted.imaginary, 1e-11);
        }
    sample_must(fourier_transform(rows, columns, true, x, &error), &error);
    for (size_t i = 0; i < rows * columns; i++) {
        sample_assert_near(x[i].real, before[i].real, 1e-13);
        sample_assert_near(x[i].imaginary, before[i].imaginary, 1e-13);
    }
}

static void any_size_is_transformed(void **state)
{
    (void)state;
    for (size_t columns = 1; columns <= 40; columns++)
        check(1 + columns * 7 % 11, columns);
    check(33, 1);
    check(32, 16);
    check(6, 4);
}

/* Long lines keep their digits: the transform of a wave is one number. */
static void long_lines_keep_their_digits(void **state)
{
    static const size_t counts[] = {49152, 50257, 65537};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        size_t count = counts[i];
        fourier_number *x = support_allocate(count * sizeof *x);
        didi_error error = {0};
        for (size_t k = 0; k < count; k++) {
            double angle = 2 * M_PI * (double)(k * 12345 % count) / (double)count;
            x[k] = (fourier_number){cos(angle), sin(angle)};
        }
        sample_must(fourier_transform(1, count, false, x, &error), &error);
        for (size_t k = 0; k < count; k++) {
            double wanted = k == 12345 ? (double)count : 0;
            sample_assert_near(x[k].real, wanted, 1e-7);
            sample_assert_near(x[k].imaginary, 0, 1e-7);
        }
        free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(any_size_is_transformed),
        support_test(long_lines_keep_their_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
