/* SPDX-License-Identifier: Apache-2.0 */
/* Products of our own against sums in double, at every remainder of a tile. */
#include "src/math/gemm.h"
#include "src/math/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPARE = 3 };

static float room[GEMM_ROOM];

static float *random_matrix(size_t rows, size_t columns, uint64_t seed)
{
    float *x = support_allocate((rows * columns + 1) * sizeof *x);
    random_normal(seed, x, rows * columns, 1);
    return x;
}

static double sum_of(const float *a, const float *b, size_t step_b, size_t k)
{
    double sum = 0;
    for (size_t i = 0; i < k; i++)
        sum += (double)a[i] * (double)b[i * step_b];
    return sum;
}

static void check_product(bool transpose_b, size_t m, size_t n, size_t k, float alpha, float beta)
{
    size_t stride_b = (transpose_b ? k : n) + SPARE;
    size_t stride_c = n + SPARE;
    float *a = random_matrix(m, k + SPARE, 1);
    float *b = random_matrix(transpose_b ? n : k, stride_b, 2);
    float *c = random_matrix(m, stride_c, 3);
    float *out = random_matrix(m, stride_c, 3);
    if (beta == 0) /* what was there does not matter, be it no number */
        for (size_t i = 0; i < m * stride_c; i++)
            out[i] = i % stride_c < n ? NAN : out[i];
    gemm_here()->multiply(transpose_b, m, n, k, alpha, a, k + SPARE, b, stride_b, beta, out,
                          stride_c, room);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < stride_c; j++) {
            const float *from = b + (transpose_b ? j * stride_b : j);
            double before = (double)c[i * stride_c + j];
            double wanted = before;
            if (j < n)
                wanted =
                    (double)beta * before + (double)alpha * sum_of(a + i * (k + SPARE), from,
                                                                   transpose_b ? 1 : stride_b, k);
            sample_assert_near((double)out[i * stride_c + j], wanted, 1e-5 * sqrt((double)k + 1));
        }
    free(a);
    free(b);
    free(c);
    free(out);
}

static void products_equal_plain_sums(void **state)
{
    (void)state;
    for (size_t rows = 1; rows <= 17; rows++)
        for (size_t width = 1; width <= 100; width += rows == 5 ? 1 : 9) {
            check_product(false, rows, width, 11, 1, 0);
            check_product(true, rows, width, 11, 1, 0);
            check_product(true, width, rows, 19, -0.5F, 2);
        }
    for (size_t k = 0; k <= 40; k++) {
        check_product(false, 9, 50, k, 2, k % 2 == 0 ? 0 : 1);
        check_product(true, 9, 50, k, 2, k % 2 == 0 ? 0 : 1);
    }
}

static void long_products_go_in_blocks(void **state)
{
    (void)state;
    check_product(false, 20, 300, 2000, 1, 0);
    check_product(false, 20, 300, 769, -1, 0.5F);
    check_product(true, 20, 300, 2000, 1, 0);
    check_product(true, 300, 20, 2000, -1, 0.5F);
    check_product(true, 300, 300, 1537, 1, 1);
}

static void gram_matrices_have_their_lower_triangle(void **state)
{
    (void)state;
    for (size_t rows = 1; rows <= 120; rows += 7) {
        size_t columns = rows % 2 == 0 ? 900 : 33;
        float *x = random_matrix(rows, columns + SPARE, rows);
        float *gram = support_allocate(rows * rows * sizeof *gram);
        gemm_here()->gram(rows, columns, x, columns + SPARE, 0, gram, rows, room);
        gemm_here()->gram(rows, columns, x, columns + SPARE, 1, gram, rows,
                          room); /* once more on top */
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j <= i; j++)
                sample_assert_near(
                    (double)gram[i * rows + j],
                    2 * sum_of(x + i * (columns + SPARE), x + j * (columns + SPARE), 1, columns),
                    1e-5 * (double)columns);
        free(x);
        free(gram);
    }
}

static void triangles_multiply_in_place(void **state)
{
    (void)state;
    for (size_t rows = 1; rows <= GEMM_LOWER_MAX; rows = rows * 3 + 1) {
        enum { COLUMNS = 205 };
        float *lower = random_matrix(rows, rows, 1);
        float *x = random_matrix(rows, COLUMNS, 2);
        float *out = random_matrix(rows, COLUMNS, 2);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = i + 1; j < rows; j++)
                lower[i * rows + j] = 0;
        gemm_here()->lower(rows, COLUMNS, lower, out, COLUMNS, room);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < COLUMNS; j++)
                sample_assert_near((double)out[i * COLUMNS + j],
                                   sum_of(lower + i * rows, x + j, COLUMNS, rows),
                                   1e-5 * sqrt((double)rows));
        free(lower);
        free(x);
        free(out);
    }
}

/* Panels get narrower then, sums do not change. */
static void no_bit_depends_on_memory(void **state)
{
    (void)state;
    enum { M = 61, N = 130, K = 1000 };
    float *a = random_matrix(M, K, 1);
    float *b = random_matrix(N, K, 2);
    float *c = random_matrix(M, N, 3);
    float *scarce = random_matrix(M, N, 3);
    for (int turn = 0; turn < 2; turn++) {
        size_t stride = turn != 0 ? K : N;
        gemm_here()->multiply(turn != 0, M, N, K, 1, a, K, b, stride, 1, c, N, room);
        gemm_here()->multiply(turn != 0, M, N, K, 1, a, K, b, stride, 1, scarce, N, NULL);
        assert_memory_equal(c, scarce, M * N * sizeof *c);
    }
    free(a);
    free(b);
    free(c);
    free(scarce);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_equal_plain_sums),
        cmocka_unit_test(long_products_go_in_blocks),
        cmocka_unit_test(gram_matrices_have_their_lower_triangle),
        cmocka_unit_test(triangles_multiply_in_place),
        cmocka_unit_test(no_bit_depends_on_memory),
    };
    if (gemm_here() == NULL) { /* cmocka's own skip() is "not ok" in TAP */
        (void)printf("1..0 # SKIP no kernel of our own for this processor\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
