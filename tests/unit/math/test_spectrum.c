/* SPDX-License-Identifier: Apache-2.0 */
/* Leading singular triplets against LAPACK's SVD; products are compared, never factors. */
#include "src/math/linalg.h"
#include "src/math/random.h"
#include "src/math/spectrum.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static triplets make_triplets(size_t m, size_t n, size_t count)
{
    size_t r = m < n ? m : n;
    return (triplets){count, support_allocate(r * sizeof(double)),
                      support_allocate(r * m * sizeof(float)),
                      support_allocate(r * n * sizeof(float)), false};
}

static void free_triplets(triplets *self)
{
    free(self->left);
    free(self->right);
    free(self->sigma);
}

/* Largest entry of the difference of two products of `count` triplets. */
static double product_distance(size_t m, size_t n, const triplets *a, const triplets *b,
                               size_t count)
{
    double worst = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double off = 0;
            for (size_t k = 0; k < count; k++)
                off += a->sigma[k] * (double)a->left[k * m + i] * (double)a->right[k * n + j] -
                       b->sigma[k] * (double)b->left[k * m + i] * (double)b->right[k * n + j];
            worst = fabs(off) > worst ? fabs(off) : worst;
        }
    return worst;
}

/* Compares `count` triplets; there must be a gap behind the count-th value. */
static void check_against_lapack(size_t m, size_t n, const float *x, size_t count, double bound)
{
    triplets found = make_triplets(m, n, count);
    triplets wanted = make_triplets(m, n, count);
    float *copy = support_allocate(m * n * sizeof *copy);
    didi_error error = {0};
    memcpy(copy, x, m * n * sizeof *copy);
    assert_int_equal(linalg_svd(m, n, copy, wanted.left, wanted.sigma, wanted.right, &error),
                     DIDI_OK);
    assert_int_equal(spectrum_leading(m, n, x, &found, &error), DIDI_OK);
    double scale = wanted.sigma[0] > 0 ? wanted.sigma[0] : 1;
    for (size_t i = 0; i < count; i++) {
        sample_assert_near(found.sigma[i], wanted.sigma[i], bound * scale);
        assert_true(i == 0 || found.sigma[i] <= found.sigma[i - 1]);
    }
    sample_assert_near(product_distance(m, n, &found, &wanted, count), 0, bound * scale);
    triplets few = make_triplets(m, n, count);
    few.few = true;
    assert_int_equal(spectrum_leading(m, n, x, &few, &error), DIDI_OK);
    sample_assert_near(product_distance(m, n, &few, &wanted, count), 0, bound * scale);
    free_triplets(&few);
    triplets alone = {.count = count, .sigma = support_allocate(count * sizeof(double))};
    assert_int_equal(spectrum_leading(m, n, x, &alone, &error), DIDI_OK);
    for (size_t i = 0; i < count; i++)
        assert_true(alone.sigma[i] == found.sigma[i]);
    free(alone.sigma);
    free(copy);
    free_triplets(&found);
    free_triplets(&wanted);
}

static void check_random(size_t m, size_t n, size_t rank, size_t count, double bound)
{
    float *x = support_allocate(m * n * sizeof *x);
    sample_add_matrix(x, m, n, rank, m * 1000 + n);
    check_against_lapack(m, n, x, count, bound);
    free(x);
}

static void thin_and_square_matrices(void **state)
{
    (void)state;
    check_random(1, 1, 1, 1, 1e-5);
    check_random(1, 50, 1, 1, 1e-5);
    check_random(50, 1, 1, 1, 1e-5);
    check_random(2, 50, 2, 2, 1e-5);
    check_random(30, 20, 20, 20, 1e-5);
    check_random(20, 30, 30, 20, 1e-5);
    check_random(25, 25, 25, 25, 1e-5);
    check_random(30, 20, 20, 1, 1e-4);
}

static void matrices_of_lower_rank(void **state)
{
    (void)state;
    check_random(30, 20, 4, 4, 1e-5);
    check_random(30, 20, 4, 20, 1e-5); /* the rest is zero up to rounding */
    check_random(20, 30, 1, 20, 1e-5);
}

static void large_orders_are_solved_in_float(void **state)
{
    (void)state;
    size_t order = SPECTRUM_DOUBLE_ORDER + 4;
    check_random(order, order + 20, 12, 12, 2e-4);
    check_random(order + 20, order, 12, 12, 2e-4);
}

static void equal_values_span_one_space(void **state)
{
    (void)state;
    enum { M = 6, N = 9 };
    float x[M * N] = {0};
    for (size_t i = 0; i < M; i++)
        x[i * N + i] = i < 4 ? 2.0F : 0.5F; /* four equal values, then two */
    check_against_lapack(M, N, x, 4, 1e-6);
    check_against_lapack(M, N, x, M, 1e-6);
}

static void a_zero_matrix_has_zero_values(void **state)
{
    (void)state;
    enum { M = 5, N = 7 };
    float x[M * N] = {0};
    check_against_lapack(M, N, x, M, 1e-12);
    check_against_lapack(N, M, x, M, 1e-12);
}

static void small_values_are_exact_in_double(void **state)
{
    (void)state;
    enum { ORDER = 4 };
    static const float values[ORDER] = {1, 1e-2F, 1e-4F, 1e-6F};
    float x[ORDER * ORDER] = {0};
    for (size_t i = 0; i < ORDER; i++)
        x[i * ORDER + (i + 1) % ORDER] = values[i];
    triplets found = make_triplets(ORDER, ORDER, ORDER);
    didi_error error = {0};
    assert_int_equal(spectrum_leading(ORDER, ORDER, x, &found, &error), DIDI_OK);
    for (size_t i = 0; i < ORDER; i++)
        sample_assert_near(found.sigma[i], (double)values[i], 1e-7 * (double)values[i]);
    free_triplets(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thin_and_square_matrices),
        cmocka_unit_test(matrices_of_lower_rank),
        cmocka_unit_test(large_orders_are_solved_in_float),
        cmocka_unit_test(equal_values_span_one_space),
        cmocka_unit_test(a_zero_matrix_has_zero_values),
        cmocka_unit_test(small_values_are_exact_in_double),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
