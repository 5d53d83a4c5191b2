/* SPDX-License-Identifier: Apache-2.0 */
/* BLAS and LAPACK through their door: plain loops agree, rotations are rotations. */
#include "src/math/linalg.h"
#include "src/math/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *random_matrix(size_t rows, size_t columns, uint64_t seed)
{
    float *x = support_allocate((rows * columns + 1) * sizeof *x);
    random_normal(seed, x, rows * columns, 1);
    return x;
}

static double row_dot(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void check_gemm(bool turn_a, bool turn_b, size_t m, size_t n, size_t count, float alpha,
                       float beta)
{
    enum { SPARE = 3 };
    double bound = 1e-5 * sqrt((double)count);
    size_t stride_a = (turn_a ? m : count) + SPARE;
    size_t stride_b = (turn_b ? count : n) + SPARE;
    size_t stride_c = n + SPARE;
    float *a = random_matrix(turn_a ? count : m, stride_a, 1);
    float *b = random_matrix(turn_b ? n : count, stride_b, 2);
    float *c = random_matrix(m, stride_c, 3);
    float *out = random_matrix(m, stride_c, 3);
    linalg_gemm(turn_a, turn_b, m, n, count, alpha, a, stride_a, b, stride_b, beta, out, stride_c);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < stride_c; j++) {
            double wanted = (double)c[i * stride_c + j];
            for (size_t k = 0; k < count && j < n; k++) {
                float left = turn_a ? a[k * stride_a + i] : a[i * stride_a + k];
                float right = turn_b ? b[j * stride_b + k] : b[k * stride_b + j];
                wanted = k == 0 ? wanted * (double)beta : wanted;
                wanted += (double)alpha * (double)left * (double)right;
            }
            sample_assert_near((double)out[i * stride_c + j], wanted, bound);
        }
    free(a);
    free(b);
    free(c);
    free(out);
}

static void products_equal_plain_loops(void **state)
{
    (void)state;
    const size_t large = SUPPORT_SANITIZED ? 1100 : 3000;
    for (int turn = 0; turn < 4; turn++) {
        check_gemm((turn & 1) != 0, (turn & 2) != 0, 7, 5, 9, 1.0F, 0.0F);
        check_gemm((turn & 1) != 0, (turn & 2) != 0, 7, 5, 9, -0.5F, 2.0F);
        check_gemm((turn & 1) != 0, (turn & 2) != 0, large, large, 2, -0.5F, 2.0F); /* in pieces */
        check_gemm((turn & 1) != 0, (turn & 2) != 0, large, 2, large, 1.0F, 0.0F);
        check_gemm((turn & 1) != 0, (turn & 2) != 0, large, 2, large, 1.0F, 2.0F);
    }
}

static void sums_are_taken_in_double(void **state)
{
    (void)state;
    enum { COUNT = 1003 };
    float *x = random_matrix(1, COUNT, 4);
    float *y = random_matrix(1, COUNT, 5);
    sample_assert_near(linalg_energy(x, COUNT), row_dot(x, x, COUNT), 1e-10);
    sample_assert_near(linalg_dot(x, y, COUNT), row_dot(x, y, COUNT), 1e-10);
    assert_true(linalg_energy(x, 0) == 0);
    /* a float sum would lose the small ones */
    for (size_t i = 0; i < COUNT; i++)
        x[i] = i == 0 ? 4096 : 1;
    assert_true(linalg_energy(x, COUNT) == 4096.0 * 4096.0 + COUNT - 1);
    free(x);
    free(y);
}

static void gram_matrices_are_whole(void **state)
{
    (void)state;
    enum { ROWS = 6, COLUMNS = 50, STRIDE = 53 };
    float *x = random_matrix(ROWS, STRIDE, 6);
    double narrow[ROWS * ROWS];
    double wide[ROWS * ROWS];
    didi_error error = {0};
    assert_int_equal(linalg_gram_rows(NULL, ROWS, COLUMNS, x, STRIDE, narrow, &error), DIDI_OK);
    assert_int_equal(linalg_gram_rows_double(ROWS, COLUMNS, x, STRIDE, wide, &error), DIDI_OK);
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < ROWS; j++) {
            double wanted = row_dot(x + i * STRIDE, x + j * STRIDE, COLUMNS);
            sample_assert_near(narrow[i * ROWS + j], wanted, 1e-4);
            sample_assert_near(wide[i * ROWS + j], wanted, 1e-10);
        }
    free(x);
}

static void eigenvalues_of_a_known_matrix(void **state)
{
    (void)state;
    double matrix[] = {2, 1, 0, 1, 2, 0, 0, 0, 5};
    float narrow[] = {2, 1, 0, 1, 2, 0, 0, 0, 5};
    static const double wanted[] = {5, 3, 1};
    double values[3];
    float narrow_values[3];
    didi_error error = {0};
    assert_int_equal(linalg_eigen_symmetric(3, matrix, values, &error), DIDI_OK);
    assert_int_equal(linalg_eigen_symmetric_f32(3, narrow, narrow_values, &error), DIDI_OK);
    for (size_t i = 0; i < 3; i++) {
        sample_assert_near(values[i], wanted[i], 1e-12);
        sample_assert_near((double)narrow_values[i], wanted[i], 1e-5);
    }
    /* rows are vectors: (1, 1, 0) / sqrt 2 belongs to 3, up to its sign */
    sample_assert_near(fabs(matrix[3] + matrix[4]), sqrt(2), 1e-12);
    sample_assert_near(fabs((double)narrow[3] + (double)narrow[4]), sqrt(2), 1e-5);
    sample_assert_near(matrix[5], 0, 1e-12);
    assert_int_equal(linalg_eigen_symmetric(0, matrix, values, &error), DIDI_OK);
}

/* From this order on LAPACK's answer of how much room it needs is no float. */
static void large_orders_have_eigenvalues(void **state)
{
    (void)state;
    enum { ORDER = 2896, DIFFERENT = 97 };
    float *matrix = memory_zeroed((size_t)ORDER * ORDER, sizeof *matrix);
    float *values = memory_zeroed(ORDER, sizeof *values);
    didi_error error = {0};
    assert_non_null(matrix);
    assert_non_null(values);
    for (size_t i = 0; i < ORDER; i++)
        matrix[i * ORDER + i] = (float)(i % DIFFERENT);
    assert_int_equal(linalg_eigen_symmetric_f32(ORDER, matrix, values, &error), DIDI_OK);
    for (size_t i = 0; i < ORDER; i++) /* each value as often as it stands on the diagonal */
        sample_assert_near((double)values[ORDER - 1 - i], (double)(i * DIFFERENT / ORDER), 1.001);
    sample_assert_near((double)values[0], DIFFERENT - 1, 1e-4);
    sample_assert_near((double)values[ORDER - 1], 0, 1e-4);
    free(matrix);
    free(values);
}

static void a_matrix_with_nan_has_no_eigenvalues(void **state)
{
    (void)state;
    double matrix[] = {NAN, 0, 0, 1};
    float narrow[] = {NAN, 0, 0, 1};
    double values[2];
    float narrow_values[2];
    didi_error error = {0};
    assert_int_equal(linalg_eigen_symmetric(2, matrix, values, &error), DIDI_NUMERIC);
    assert_int_equal(linalg_eigen_symmetric_f32(2, narrow, narrow_values, &error), DIDI_NUMERIC);
}

static void check_svd(size_t m, size_t n)
{
    size_t r = m < n ? m : n;
    float *x = random_matrix(m, n, m * 100 + n);
    float *copy = random_matrix(m, n, m * 100 + n);
    float *u = random_matrix(r, m, 0);
    float *v = random_matrix(r, n, 0);
    double *sigma = support_allocate(r * sizeof *sigma);
    didi_error error = {0};
    assert_int_equal(linalg_svd(m, n, copy, u, sigma, v, &error), DIDI_OK);
    for (size_t i = 0; i < r; i++) {
        assert_true(i == 0 || sigma[i] <= sigma[i - 1]);
        for (size_t j = 0; j < r; j++) {
            sample_assert_near(row_dot(u + i * m, u + j * m, m), i == j, 1e-5);
            sample_assert_near(row_dot(v + i * n, v + j * n, n), i == j, 1e-5);
        }
    }
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < r; k++)
                sum += (double)u[k * m + i] * sigma[k] * (double)v[k * n + j];
            sample_assert_near(sum, (double)x[i * n + j], 1e-4);
        }
    free(x);
    free(copy);
    free(u);
    free(v);
    free(sigma);
}

static void singular_triplets_rebuild_the_matrix(void **state)
{
    (void)state;
    check_svd(1, 1);
    check_svd(1, 9);
    check_svd(9, 1);
    check_svd(12, 7);
    check_svd(7, 12);
    check_svd(20, 20);
}

/* Orthonormal rows that hold every row of `before`. */
static void assert_basis(const float *q, size_t kept, const float *before, size_t rows,
                         size_t columns)
{
    for (size_t i = 0; i < kept; i++)
        for (size_t j = 0; j < kept; j++)
            sample_assert_near(row_dot(q + i * columns, q + j * columns, columns), i == j, 1e-3);
    for (size_t i = 0; i < rows; i++) {
        double left = linalg_energy(before + i * columns, columns);
        double energy = left;
        for (size_t k = 0; k < kept; k++) {
            double along = row_dot(before + i * columns, q + k * columns, columns);
            left -= along * along;
        }
        sample_assert_near(left, 0, 2e-3 * energy + 1e-12);
    }
}

static void check_orthonormal(size_t rows, size_t columns, size_t rank, float scale)
{
    float *x = random_matrix(rows, columns, 0);
    float *scratch = random_matrix(rows, columns, 0);
    memset(x, 0, rows * columns * sizeof *x);
    sample_add_matrix(x, rows, columns, rank, rows * 31 + rank);
    for (size_t i = 0; i < rows * columns; i++)
        x[i] *= i < columns ? scale : 1;
    float *before = random_matrix(rows, columns, 0);
    memcpy(before, x, rows * columns * sizeof *x);
    size_t kept = 0;
    didi_error error = {0};
    assert_int_equal(linalg_orthonormalise_rows(NULL, rows, columns, x, scratch, &kept, &error),
                     DIDI_OK);
    assert_true(kept <= rows && kept <= (rank > 0 ? columns : 0));
    if (rank < rows)
        assert_true(kept <= rank + 1);
    assert_basis(x, kept, before, rows, columns);
    free(x);
    free(scratch);
    free(before);
}

static void rows_become_orthonormal_and_keep_their_space(void **state)
{
    (void)state;
    check_orthonormal(1, 30, 1, 1);
    check_orthonormal(8, 40, 8, 1);
    check_orthonormal(8, 8, 8, 1);
    check_orthonormal(8, 40, 8, 1e6F); /* lengths far apart */
    check_orthonormal(8, 40, 8, 1e-6F);
    check_orthonormal(8, 40, 3, 1); /* dependent rows are dropped */
    check_orthonormal(8, 40, 1, 1);
    check_orthonormal(8, 40, 0, 1); /* nothing is left of zero rows */
    check_orthonormal(3, 1, 3, 1);
}

static void rotations_multiply_rows(void **state)
{
    (void)state;
    static const float w[] = {1, 2, -1, 0.5F};
    static const double scale[] = {2, -1};
    static const float x[] = {1, 2, 3, 4, 5, 6};
    static const float wanted[] = {9, 12, 15, 1, 0.5F, 0};
    float out[6];
    didi_error error = {0};
    assert_int_equal(linalg_rotate_rows(NULL, 2, 2, 3, w, NULL, x, out, &error), DIDI_OK);
    for (size_t i = 0; i < 6; i++)
        assert_true(out[i] == wanted[i]);
    assert_int_equal(linalg_rotate_rows(NULL, 2, 2, 3, w, scale, x, out, &error), DIDI_OK);
    for (size_t i = 0; i < 6; i++)
        assert_true(out[i] == wanted[i] * (float)scale[i / 3]);
}

/* X = diag(5, 3, 1) with a column of zeros and the rows in another order. */
static void gram_matrices_have_eigenvalues(void **state)
{
    (void)state;
    static const float x[] = {0, 0, 3, 0, 5, 0, 0, 0, 0, 0, 0, 1};
    float vectors[9];
    double values[3];
    didi_error error = {0};
    assert_int_equal(linalg_eigen_gram(NULL, 3, 4, x, vectors, values, &error), DIDI_OK);
    for (size_t i = 0; i < 3; i++)
        sample_assert_near(sqrt(values[i]), 5 - 2 * (double)i, 1e-5);
    sample_assert_near(fabs((double)vectors[1]), 1, 1e-6); /* the second row is the longest */
    sample_assert_near(fabs((double)vectors[3]), 1, 1e-6);
    sample_assert_near(fabs((double)vectors[8]), 1, 1e-6);
}

static void systems_are_solved_even_when_singular(void **state)
{
    (void)state;
    double gram[] = {4, 2, 2, 3};
    float right[] = {8, 2, 7, 1}; /* two right-hand sides */
    didi_error error = {0};
    assert_int_equal(linalg_solve_spd(NULL, 2, gram, 2, right, &error), DIDI_OK);
    static const double wanted[] = {1.25, 0.5, 1.5, 0};
    for (size_t i = 0; i < 4; i++)
        sample_assert_near((double)right[i], wanted[i], 1e-6);
    double singular[] = {1, 1, 1, 1};
    float twice[] = {2, 2};
    assert_int_equal(linalg_solve_spd(NULL, 2, singular, 1, twice, &error), DIDI_OK);
    sample_assert_near((double)twice[0] + (double)twice[1], 2, 1e-3);
    assert_int_equal(linalg_solve_spd(NULL, 0, singular, 1, twice, &error), DIDI_OK);
    double negative[] = {-1, 0, 0, -1};
    assert_int_equal(linalg_solve_spd(NULL, 2, negative, 1, twice, &error), DIDI_NUMERIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_equal_plain_loops),
        cmocka_unit_test(sums_are_taken_in_double),
        cmocka_unit_test(gram_matrices_are_whole),
        cmocka_unit_test(eigenvalues_of_a_known_matrix),
        cmocka_unit_test(large_orders_have_eigenvalues),
        cmocka_unit_test(a_matrix_with_nan_has_no_eigenvalues),
        cmocka_unit_test(singular_triplets_rebuild_the_matrix),
        cmocka_unit_test(rows_become_orthonormal_and_keep_their_space),
        cmocka_unit_test(rotations_multiply_rows),
        cmocka_unit_test(gram_matrices_have_eigenvalues),
        cmocka_unit_test(systems_are_solved_even_when_singular),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
