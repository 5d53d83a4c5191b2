/* SPDX-License-Identifier: Apache-2.0 */
/* Leading eigenvalues of tridiagonal matrices against LAPACK's of the same as a full matrix, and
 * what is left to LAPACK. */
#include "src/math/linalg.h"
#include "src/math/tridiagonal.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ORDER_MAX = 300 };

typedef struct sample {
    size_t order, count;
    double diagonal[ORDER_MAX], beside[ORDER_MAX];
    double *full; /* order x order: eigenvectors as rows */
    double values[ORDER_MAX];
    double found[ORDER_MAX];
    float *vectors;
} sample;

static sample *sample_create(size_t order, size_t count)
{
    sample *self = support_allocate(sizeof *self);
    self->order = order;
    self->count = count;
    self->full = support_allocate(order * order * sizeof *self->full);
    self->vectors = support_allocate(count * order * sizeof *self->vectors);
    return self;
}

static void sample_free(sample *self)
{
    free(self->full);
    free(self->vectors);
    free(self);
}

static bool solve(sample *self)
{
    double *room = support_allocate(tridiagonal_room(self->order) * sizeof *room);
    tridiagonal of = {self->order, self->diagonal, self->beside};
    bool done = tridiagonal_leading(&of, self->count, room, self->vectors, self->found);
    free(room);
    return done;
}

/* Values to 1e-12 of the largest, vectors up to their signs. */
static void check(sample *self)
{
    didi_error error = {0};
    size_t n = self->order;
    for (size_t i = 0; i < n; i++) {
        self->full[i * n + i] = self->diagonal[i];
        if (i + 1 < n)
            self->full[i * n + i + 1] = self->full[(i + 1) * n + i] = self->beside[i];
    }
    sample_must(linalg_eigen_symmetric(n, self->full, self->values, &error), &error);
    double largest = fmax(fabs(self->values[0]), fabs(self->values[n - 1]));
    assert_true(solve(self));
    for (size_t k = 0; k < self->count; k++) {
        const float *row = self->vectors + k * n;
        double across = 0;
        sample_assert_near(self->found[k], self->values[k], 1e-12 * largest);
        for (size_t i = 0; i < n; i++)
            across += (double)row[i] * self->full[k * n + i];
        sample_assert_near(fabs(across), 1, 1e-6);
        sample_assert_near(linalg_energy(row, n), 1, 1e-6);
        for (size_t other = 0; other < k; other++)
            sample_assert_near(linalg_dot(row, self->vectors + other * n, n), 0, 1e-6);
    }
}

static double random_number(uint64_t *sequence)
{
    return (double)(support_random(sequence) >> 11) * 0x1p-53 - 0.5;
}

static void random_ones_are_solved(void **state)
{
    static const size_t sizes[][2] = {{2, 1}, {2, 2}, {3, 2}, {17, 17}, {33, 5}, {300, 37}};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        sample *of = sample_create(sizes[s][0], sizes[s][1]);
        uint64_t sequence = s;
        for (size_t i = 0; i < of->order; i++) {
            of->diagonal[i] = random_number(&sequence);
            of->beside[i] = random_number(&sequence);
        }
        check(of);
        sample_free(of);
    }
}

/* As the Gram matrices of fast falling spectra leave them, in both directions. */
static void graded_ones_are_solved(void **state)
{
    (void)state;
    for (int turned = 0; turned < 2; turned++) {
        sample *of = sample_create(120, 20);
        for (size_t i = 0; i < of->order; i++) {
            double place = (double)(turned ? of->order - 1 - i : i);
            of->diagonal[i] = pow(0.75, place);
            of->beside[i] = 0.2 * pow(0.75, place);
        }
        check(of);
        sample_free(of);
    }
}

/* Blocks that do not know of each other, and negative numbers only. */
static void split_ones_are_solved(void **state)
{
    (void)state;
    sample *of = sample_create(40, 40);
    uint64_t sequence = 3;
    for (size_t i = 0; i < of->order; i++) {
        of->diagonal[i] = -1 + random_number(&sequence);
        of->beside[i] = i % 5 == 4 || i == 17 ? 0 : 0.05 * random_number(&sequence);
    }
    check(of);
    sample_free(of);
}

static void close_ones_are_left(void **state)
{
    (void)state;
    sample *of = sample_create(50, 10);
    assert_false(solve(of)); /* zero */
    for (size_t i = 0; i < of->order; i++)
        of->diagonal[i] = 1;
    assert_false(solve(of));
    for (size_t i = 0; i < of->order; i++)
        of->diagonal[i] = (double)(i / 2);
    assert_false(solve(of));
    sample_free(of);
    of = sample_create(21, 2); /* Wilkinson's: its largest two differ by 7e-15 */
    for (size_t i = 0; i < of->order; i++) {
        of->diagonal[i] = fabs((double)i - 10);
        of->beside[i] = 1;
    }
    assert_false(solve(of));
    sample_free(of);
}

/* Then LAPACK makes vectors that are orthonormal all the same. */
static void equal_singular_values_have_orthonormal_vectors(void **state)
{
    enum { ROWS = 280, COUNT = 40 };
    (void)state;
    didi_error error = {0};
    float *x = support_allocate(ROWS * ROWS * sizeof *x);
    float *vectors = support_allocate(COUNT * ROWS * sizeof *vectors);
    double values[COUNT];
    for (size_t i = 0; i < ROWS; i++)
        x[i * ROWS + (i + 11) % ROWS] = i < 30 ? 3 : 1;
    sample_must(linalg_eigen_gram_first(ROWS, ROWS, x, COUNT, vectors, values, &error), &error);
    for (size_t k = 0; k < COUNT; k++) {
        sample_assert_near(values[k], k < 30 ? 9 : 1, 1e-5);
        for (size_t other = 0; other <= k; other++)
            sample_assert_near(linalg_dot(vectors + k * ROWS, vectors + other * ROWS, ROWS),
                               k == other, 1e-5);
    }
    free(x);
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_ones_are_solved),
        cmocka_unit_test(graded_ones_are_solved),
        cmocka_unit_test(split_ones_are_solved),
        cmocka_unit_test(close_ones_are_left),
        cmocka_unit_test(equal_singular_values_have_orthonormal_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
