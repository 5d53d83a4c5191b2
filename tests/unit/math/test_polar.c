/* SPDX-License-Identifier: Apache-2.0 */
/* Polar factors against LAPACK's SVD, small and in float32; matrices that lack directions. */
#include "src/math/linalg.h"
#include "src/math/polar.h"
#include "src/math/random.h"
#include "src/math/spectrum.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* U' V of the first `kept` triplets, and the sum of all singular values. */
static void polar_by_svd(size_t m, size_t n, const float *x, size_t kept, float *ret_factor,
                         double *ret_sum)
{
    didi_error error = {0};
    float *copy = support_allocate(m * n * sizeof *copy);
    float *u = support_allocate(m * m * sizeof *u);
    float *v = support_allocate(m * n * sizeof *v);
    double *sigma = support_allocate(m * sizeof *sigma);
    memcpy(copy, x, m * n * sizeof *copy);
    assert_int_equal(linalg_svd(m, n, copy, u, sigma, v, &error), DIDI_OK);
    linalg_gemm(true, false, m, n, kept, 1.0F, u, m, v, n, 0.0F, ret_factor, n);
    *ret_sum = 0;
    for (size_t i = 0; i < m; i++)
        *ret_sum += sigma[i];
    free(copy);
    free(u);
    free(v);
    free(sigma);
}

static void check(size_t m, size_t n, const float *x, size_t kept, double bound)
{
    didi_error error = {0};
    double wanted_sum = 0;
    double sum = 0;
    float *wanted = support_allocate(m * n * sizeof *wanted);
    float *found = support_allocate(m * n * sizeof *found);
    polar_by_svd(m, n, x, kept, wanted, &wanted_sum);
    memcpy(found, x, m * n * sizeof *found);
    assert_int_equal(polar_rows(m, n, found, &sum, &error), DIDI_OK);
    sample_assert_near(sum, wanted_sum, 1e-5 * wanted_sum);
    for (size_t i = 0; i < m * n; i++)
        sample_assert_near((double)found[i], (double)wanted[i], bound);
    free(wanted);
    free(found);
}

static void check_random(size_t m, size_t n, size_t rank, double bound)
{
    float *x = support_allocate(m * n * sizeof *x);
    memset(x, 0, m * n * sizeof *x);
    sample_add_matrix(x, m, n, rank, m * 1000 + n);
    check(m, n, x, rank < m ? rank : m, bound);
    free(x);
}

static void factors_are_those_of_lapack(void **state)
{
    (void)state;
    check_random(1, 1, 1, 1e-6);
    check_random(1, 30, 1, 1e-6);
    check_random(20, 50, 20, 5e-5);
    check_random(40, 60, 40, 5e-5);
}

/* What is no direction of the matrix is none of its factor. */
static void missing_directions_stay_missing(void **state)
{
    (void)state;
    check_random(20, 30, 4, 1e-5);
    check_random(SPECTRUM_DOUBLE_ORDER + 8, SPECTRUM_DOUBLE_ORDER + 30, 12, 1e-4);
    float zero[12] = {0};
    double sum = 1;
    didi_error error = {0};
    assert_int_equal(polar_rows(3, 4, zero, &sum, &error), DIDI_OK);
    for (size_t i = 0; i < 12; i++)
        assert_true(zero[i] == 0);
    assert_true(sum == 0);
}

/* Blocks of orthonormal rows side by side: some directions are a thousandth of others. */
static void large_orders_end_orthonormal(void **state)
{
    (void)state;
    enum { M = 320, N = 320 };
    didi_error error = {0};
    double *gram = support_allocate((size_t)M * M * sizeof *gram);
    float *x = support_allocate((size_t)M * N * sizeof *x);
    random_normal(5, x, (size_t)M * N, 1.0F);
    assert_int_equal(polar_rows(M, N, x, NULL, &error), DIDI_OK);
    assert_int_equal(linalg_gram_rows_double(M, N, x, N, gram, &error), DIDI_OK);
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < M; j++)
            sample_assert_near(gram[i * M + j], i == j ? 1 : 0, 3e-5);
    random_normal(5, x, (size_t)M * N, 1.0F);
    check(M, N, x, M, 1e-3);
    free(gram);
    free(x);
}

/* Singular values from 1 to 1e-4, most of them small: float32's Gram matrix cannot tell these
 * apart, and the factor is known all the same. */
static void short_directions_are_told_apart(void **state)
{
    (void)state;
    enum { M = 300, N = 340 };
    didi_error error = {0};
    double sum = 0;
    double wanted_sum = 0;
    float *u = support_allocate((size_t)M * M * sizeof *u);
    float *v = support_allocate((size_t)M * N * sizeof *v);
    float *scaled = support_allocate((size_t)M * N * sizeof *scaled);
    float *x = support_allocate((size_t)M * N * sizeof *x);
    float *wanted = support_allocate((size_t)M * N * sizeof *wanted);
    random_normal(11, u, (size_t)M * M, 1.0F);
    random_normal(12, v, (size_t)M * N, 1.0F);
    assert_int_equal(polar_rows(M, M, u, NULL, &error), DIDI_OK);
    assert_int_equal(polar_rows(M, N, v, NULL, &error), DIDI_OK);
    for (size_t i = 0; i < M; i++) {
        double sigma = pow(1e-4, (double)i / (M - 1));
        wanted_sum += sigma;
        for (size_t j = 0; j < N; j++)
            scaled[i * N + j] = (float)(sigma * (double)v[i * N + j]);
    }
    linalg_gemm(true, false, M, N, M, 1.0F, u, M, scaled, N, 0.0F, x, N);
    linalg_gemm(true, false, M, N, M, 1.0F, u, M, v, N, 0.0F, wanted, N);
    assert_int_equal(polar_rows(M, N, x, &sum, &error), DIDI_OK);
    sample_assert_near(sum, wanted_sum, 1e-4 * wanted_sum);
    sample_assert_near(linalg_squared_distance(x, wanted, (size_t)M * N), 0, 1e-5 * M);
    free(u);
    free(v);
    free(scaled);
    free(x);
    free(wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_are_those_of_lapack),
        cmocka_unit_test(missing_directions_stay_missing),
        cmocka_unit_test(large_orders_end_orthonormal),
        cmocka_unit_test(short_directions_are_told_apart),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
