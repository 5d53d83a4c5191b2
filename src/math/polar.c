/* SPDX-License-Identifier: Apache-2.0 */
/* X X' = Q' diag(lambda) Q. The rows of Q X are orthogonal and as long as the singular values; with
 * length one they are Y, and the polar factor is Q' Y. */
#include "src/math/polar.h"

#include "src/base/base.h"
#include "src/math/linalg.h"
#include "src/math/spectrum.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct polar {
    size_t rows, columns;
    float *x;         /* rows x columns: X, then room, then the factor */
    float *y, *spare; /* rows x columns: Q X; room */
    float *vectors;   /* rows x rows: Q */
    double *gram;     /* rows x rows */
    double *lengths;  /* rows */
} polar;

double polar_noise(size_t rows)
{
    return rows <= SPECTRUM_DOUBLE_ORDER ? 1e-6 : 2e-5;
}

static int rotate(polar *self, didi_error *error)
{
    size_t rows = self->rows;
    int status = DIDI_OK;
    if (rows <= SPECTRUM_DOUBLE_ORDER) {
        status =
            linalg_gram_rows_double(rows, self->columns, self->x, self->columns, self->gram, error);
        if (status == DIDI_OK)
            status = linalg_eigen_symmetric(rows, self->gram, self->lengths, error);
        if (status == DIDI_OK)
            status = linalg_rotate_rows_double(rows, rows, self->columns, self->gram, self->x,
                                               self->y, error);
        for (size_t i = 0; i < rows * rows && status == DIDI_OK; i++)
            self->vectors[i] = (float)self->gram[i];
        return status;
    }
    status =
        linalg_eigen_gram(NULL, rows, self->columns, self->x, self->vectors, self->lengths, error);
    if (status == DIDI_OK)
        status = linalg_rotate_rows(NULL, rows, rows, self->columns, self->vectors, NULL, self->x,
                                    self->y, error);
    return status;
}

/* Rows [first, last) to length one, or to zero where they are noise. */
static void normalise(const polar *self, size_t first, size_t last)
{
    size_t columns = self->columns;
    double floor = polar_noise(self->rows) * self->lengths[0];
    for (size_t i = first; i < last; i++) {
        double scale = self->lengths[i] > floor ? 1 / self->lengths[i] : 0;
        for (size_t j = 0; j < columns; j++)
            self->y[i * columns + j] = (float)(scale * (double)self->y[i * columns + j]);
    }
}

static void measure(const polar *self, size_t first)
{
    for (size_t i = first; i < self->rows; i++)
        self->lengths[i] = sqrt(linalg_energy(self->y + i * self->columns, self->columns));
}

/* Float32 tells short rows from each other and from long ones no better than to 1e-6 of the
 * longest. So what they have of the `first` long ones, of length one by now, is taken out of them,
 * and those left get eigenvectors of their own, in double. */
static int separate_short(polar *self, size_t first, didi_error *error)
{
    size_t rows = self->rows;
    size_t columns = self->columns;
    size_t count = rows - first;
    float *shorter = self->y + first * columns;
    linalg_gemm(false, true, count, first, columns, 1.0F, shorter, columns, self->y, columns, 0.0F,
                self->spare, first);
    linalg_gemm(false, false, count, columns, first, -1.0F, self->spare, first, self->y, columns,
                1.0F, shorter, columns);
    int status = linalg_gram_rows_double(count, columns, shorter, columns, self->gram, error);
    if (status == DIDI_OK)
        status = linalg_eigen_symmetric(count, self->gram, self->lengths + first, error);
    if (status == DIDI_OK)
        status = linalg_rotate_rows_double(count, count, columns, self->gram, shorter, self->spare,
                                           error);
    if (status != DIDI_OK)
        return status;
    memcpy(shorter, self->spare, count * columns * sizeof *shorter);
    status = linalg_rotate_rows_double(count, count, rows, self->gram, self->vectors + first * rows,
                                       self->spare, error);
    if (status == DIDI_OK)
        memcpy(self->vectors + first * rows, self->spare, count * rows * sizeof *shorter);
    return status;
}

/* The rows of Q X to length one. */
static int make_even(polar *self, double *ret_sum, didi_error *error)
{
    const double short_rows = 0.15; /* the others end 1e-4 from orthonormal */
    int status = DIDI_OK;
    size_t first = self->rows;
    measure(self, 0);
    if (self->rows > SPECTRUM_DOUBLE_ORDER)
        while (first > 1 && self->lengths[first - 1] < short_rows * self->lengths[0])
            first--;
    normalise(self, 0, first);
    if (first < self->rows)
        status = separate_short(self, first, error);
    if (status != DIDI_OK)
        return status;
    measure(self, first); /* which is above 0 */
    normalise(self, first, self->rows);
    *ret_sum = 0;
    for (size_t i = 0; i < self->rows; i++)
        *ret_sum += self->lengths[i];
    return DIDI_OK;
}

/* How far the rows, or those of them that are not zero, are from orthonormal. */
static double distance(size_t order, const double *gram)
{
    double worst = 0;
    for (size_t i = 0; i < order; i++) {
        if (gram[i * order + i] == 0)
            continue;
        for (size_t j = 0; j <= i; j++)
            worst = fmax(worst, fabs(gram[i * order + j] - (i == j ? 1.0 : 0.0)));
    }
    return worst;
}

/* Y <- (3 Y - Y Y' Y) / 2 until its rows are orthonormal: each step squares what they lack, and
 * keeps what they span and the polar factor they have. */
static int make_orthonormal(polar *self, didi_error *error)
{
    enum { STEPS_MAX = 12 };
    const double near = 1e-5;   /* what a Gram matrix in float32 can tell */
    const double nearly = 3e-3; /* whose square is that */
    size_t rows = self->rows;
    for (int step = 0; step < STEPS_MAX; step++) {
        int status =
            linalg_gram_rows(NULL, rows, self->columns, self->y, self->columns, self->gram, error);
        double off = status == DIDI_OK ? distance(rows, self->gram) : 0;
        if (status != DIDI_OK || off <= near)
            return status;
        float *half = self->x; /* rows <= columns: there is room */
        for (size_t i = 0; i < rows * rows; i++)
            half[i] = (float)(-0.5 * self->gram[i]);
        for (size_t i = 0; i < rows; i++)
            half[i * rows + i] += 1.5F;
        status = linalg_rotate_rows(NULL, rows, rows, self->columns, half, NULL, self->y,
                                    self->spare, error);
        if (status != DIDI_OK)
            return status;
        float *swap = self->y;
        self->y = self->spare;
        self->spare = swap;
        if (off <= nearly)
            return DIDI_OK;
    }
    return didi_fail(error, DIDI_NUMERIC, NULL, "polar factor of %zu x %zu does not converge", rows,
                     self->columns);
}

int polar_rows(size_t rows, size_t columns, float *x, double *ret_sum, didi_error *error)
{
    assert(rows > 0 && rows <= columns);
    int status = DIDI_OK;
    float *y = memory_aligned(rows * columns, sizeof *y);
    float *spare = memory_aligned(rows * columns, sizeof *spare);
    polar self = {.rows = rows,
                  .columns = columns,
                  .x = x,
                  .y = y,
                  .spare = spare,
                  .vectors = memory_aligned(rows * rows, sizeof(float)),
                  .gram = memory_aligned(rows * rows, sizeof(double)),
                  .lengths = memory_zeroed(rows, sizeof(double))};
    if (y == NULL || spare == NULL || self.vectors == NULL || self.gram == NULL ||
        self.lengths == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "polar factor of %zu x %zu", rows, columns);
        goto out;
    }
    status = rotate(&self, error);
    if (status != DIDI_OK)
        goto out;
    double sum = 0;
    status = make_even(&self, &sum, error);
    if (status == DIDI_OK)
        status = make_orthonormal(&self, error);
    if (status != DIDI_OK)
        goto out;
    linalg_gemm(true, false, rows, columns, rows, 1.0F, self.vectors, rows, self.y, columns, 0.0F,
                x, columns);
    if (ret_sum != NULL)
        *ret_sum = sum;
out:
    free(y);
    free(spare);
    free(self.vectors);
    free(self.gram);
    free(self.lengths);
    return status;
}

uint64_t polar_bytes(size_t rows, size_t columns)
{
    enum { SQUARES = 7 }; /* as floats: vectors, Gram matrix in double, what LAPACK works with */
    uint64_t square = memory_multiply(rows, rows);
    uint64_t whole = memory_multiply(rows, columns);
    uint64_t wide = 0; /* pieces in double */
    if (rows <= SPECTRUM_DOUBLE_ORDER) {
        square = memory_multiply(square, 2);
        wide = smaller(memory_multiply(whole, 4), SPILL_PIECE_BYTES);
    }
    uint64_t floats = memory_add(memory_multiply(square, SQUARES), memory_multiply(whole, 2));
    return memory_multiply(memory_add(floats, wide), sizeof(float));
}
