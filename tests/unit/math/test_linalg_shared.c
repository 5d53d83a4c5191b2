/* SPDX-License-Identifier: Apache-2.0 */
/* What is cut into pieces for helpers: the same bits with none, one or several of them, whatever
 * the shape; and near to what the whole is. */
#include "src/base/fault.h"
#include "src/math/linalg.h"
#include "src/math/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CREWS = 3, CREW_MOST = 3 };
static const size_t crew_sizes[CREWS] = {0, 1, CREW_MOST};

static void *help(void *argument)
{
    parallel_help(argument, parallel_epoch(argument));
    return NULL;
}

/* What `task` makes of its argument with each crew, compared: `bytes` at out[crew]. */
static void run_with_crews(void (*task)(parallel *helpers, void *argument, float *out),
                           void *argument, size_t count)
{
    float *out[CREWS + 1];
    for (size_t c = 0; c <= CREWS; c++) {
        out[c] = support_allocate(count * sizeof *out[c]);
        memset(out[c], 0, count * sizeof *out[c]);
    }
    task(NULL, argument, out[CREWS]);
    for (size_t c = 0; c < CREWS; c++) {
        pthread_t threads[CREW_MOST];
        parallel *crew = NULL;
        didi_error error = {0};
        assert_int_equal(parallel_create(&crew, &error), DIDI_OK);
        parallel_enter(crew);
        for (size_t i = 0; i < crew_sizes[c]; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, help, crew), 0);
        task(crew, argument, out[c]);
        parallel_leave(crew);
        for (size_t i = 0; i < crew_sizes[c]; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        parallel_free(crew);
        assert_memory_equal(out[c], out[CREWS], count * sizeof *out[c]);
        free(out[c]);
    }
    free(out[CREWS]);
}

static float *random_matrix(size_t rows, size_t columns, uint64_t seed)
{
    float *x = support_allocate((rows * columns + 1) * sizeof *x);
    random_normal(seed, x, rows * columns, 1);
    return x;
}

/* ---- products ---- */

typedef struct factors {
    bool turn_a, turn_b;
    size_t m, n, k;
    float beta;
    const float *a, *b;
} factors;

static void multiply(parallel *helpers, void *argument, float *out)
{
    const factors *self = argument;
    random_normal(9, out, self->m * self->n, 1);
    linalg_gemm_shared(helpers, self->turn_a, self->turn_b, self->m, self->n, self->k, -0.5F,
                       self->a, self->turn_a ? self->m : self->k, self->b,
                       self->turn_b ? self->k : self->n, self->beta, out, self->n);
    for (size_t i = 0; i < self->m * self->n; i += self->m + self->n) {
        size_t row = i / self->n;
        size_t column = i % self->n;
        double wanted = 0;
        for (size_t j = 0; j < self->k; j++)
            wanted += -0.5 * (double)self->a[self->turn_a ? j * self->m + row : row * self->k + j] *
                      (double)self->b[self->turn_b ? column * self->k + j : j * self->n + column];
        float before = 0;
        random_normal_from(9, i, &before, 1, 1);
        wanted += (double)self->beta * (double)before;
        sample_assert_near((double)out[i], wanted, 1e-5 * sqrt((double)self->k));
    }
}

static void products_are_the_same(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {
        {1, 1, 1},    {700, 1, 3},      {1, 3001, 5},     {770, 779, 7},
        {513, 64, 9}, {300, 2305, 301}, {520, 521, 1500},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t m = shapes[i][0];
        size_t n = shapes[i][1];
        size_t k = shapes[i][2];
        float *a = random_matrix(m, k, 1);
        float *b = random_matrix(k, n, 2);
        for (int turn = 0; turn < 4; turn++) {
            factors of = {(turn & 1) != 0, (turn & 2) != 0, m, n, k, turn < 2 ? 0 : 1.5F, a, b};
            run_with_crews(multiply, &of, m * n);
        }
        free(a);
        free(b);
    }
}

/* ---- what is made of long rows ---- */

typedef struct rows_of {
    size_t rows, columns;
    const float *x;
} rows_of;

/* out: the rows, orthonormal, then how many are left. */
static void orthonormalise(parallel *helpers, void *argument, float *out)
{
    const rows_of *self = argument;
    size_t count = self->rows * self->columns;
    float *scratch = support_allocate(count * sizeof *scratch);
    double *gram = support_allocate(self->rows * self->rows * sizeof *gram);
    size_t kept = 0;
    didi_error error = {0};
    memcpy(out, self->x, count * sizeof *out);
    assert_int_equal(
        linalg_orthonormalise_rows(helpers, self->rows, self->columns, out, scratch, &kept, &error),
        DIDI_OK);
    assert_int_equal(
        linalg_gram_rows(helpers, kept, self->columns, out, self->columns, gram, &error), DIDI_OK);
    for (size_t i = 0; i < kept; i++)
        for (size_t j = 0; j < kept; j++)
            sample_assert_near(gram[i * kept + j], i == j, 1e-4);
    out[count] = (float)kept;
    free(scratch);
    free(gram);
}

/* out: eigenvectors, values, and the rows rotated by them. */
static void turn(parallel *helpers, void *argument, float *out)
{
    const rows_of *self = argument;
    size_t rows = self->rows;
    double *values = support_allocate(rows * sizeof *values);
    didi_error error = {0};
    assert_int_equal(linalg_eigen_gram(helpers, rows, self->columns, self->x, out, values, &error),
                     DIDI_OK);
    for (size_t i = 0; i < rows; i++)
        out[rows * rows + i] = (float)values[i];
    float *turned = out + rows * rows + rows;
    assert_int_equal(
        linalg_rotate_rows(helpers, rows, rows, self->columns, out, NULL, self->x, turned, &error),
        DIDI_OK);
    for (size_t i = 0; i < rows; i++)
        sample_assert_near(linalg_energy(turned + i * self->columns, self->columns) / values[0],
                           values[i] / values[0], 1e-4);
    free(values);
}

/* out: Z of (X X' + rows I) Z = X. */
static void solve(parallel *helpers, void *argument, float *out)
{
    const rows_of *self = argument;
    size_t rows = self->rows;
    size_t columns = self->columns;
    double *gram = support_allocate(rows * rows * sizeof *gram);
    double *again = support_allocate(rows * rows * sizeof *gram);
    didi_error error = {0};
    assert_int_equal(linalg_gram_rows(helpers, rows, columns, self->x, columns, gram, &error),
                     DIDI_OK);
    for (size_t i = 0; i < rows; i++)
        gram[i * rows + i] += (double)rows;
    memcpy(again, gram, rows * rows * sizeof *gram);
    memcpy(out, self->x, rows * columns * sizeof *out);
    assert_int_equal(linalg_solve_spd(helpers, rows, again, columns, out, &error), DIDI_OK);
    for (size_t i = 0; i < rows; i += 97) {
        double sum = 0;
        for (size_t j = 0; j < rows; j++)
            sum += gram[i * rows + j] * (double)out[j * columns + i % columns];
        sample_assert_near(sum, (double)self->x[i * columns + i % columns], 1e-2);
    }
    free(gram);
    free(again);
}

static void rows_are_the_same(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{1, 5}, {7, 3001}, {513, 900}, {770, 1030}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t rows = shapes[i][0];
        size_t columns = shapes[i][1];
        float *x = random_matrix(rows, columns, i);
        rows_of of = {rows, columns, x};
        run_with_crews(orthonormalise, &of, rows * columns + 1);
        run_with_crews(turn, &of, rows * rows + rows + rows * columns);
        run_with_crews(solve, &of, rows * columns);
        for (size_t j = 0; j < columns && rows > 1; j++) /* dependent: eigenvectors instead */
            x[(rows - 1) * columns + j] = x[j];
        run_with_crews(orthonormalise, &of, rows * columns + 1);
        free(x);
    }
}

static void no_memory_is_told(void **state)
{
    (void)state;
    float x[6] = {1, 2, 3, 4, 5, 7};
    float scratch[6];
    size_t kept = 0;
    parallel *crew = NULL;
    didi_error error = {0};
    assert_int_equal(parallel_create(&crew, &error), DIDI_OK);
    assert_int_equal(fault_arm("alloc:1"), 0);
    assert_int_equal(linalg_orthonormalise_rows(crew, 2, 3, x, scratch, &kept, &error),
                     DIDI_NO_MEMORY);
    assert_int_equal(fault_arm(NULL), 0);
    parallel_free(crew);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_the_same),
        cmocka_unit_test(rows_are_the_same),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
