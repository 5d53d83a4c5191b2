/* SPDX-License-Identifier: Apache-2.0 */
/* BLAS and LAPACK calls, with finite checks on what comes back. */
#include "src/math/linalg.h"

#include "src/base/base.h"
#include "src/math/gemm.h"
#include "src/math/tridiagonal.h"

#include <assert.h>
#include <cblas.h>
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#if defined(__SSE__)
#include <pmmintrin.h>
#endif

static int blas_int(size_t value)
{
    assert(value <= INT_MAX);
    return (int)value;
}

/* Long sides are processed in pieces whose width depends on the shape alone: spilled memory then
 * stays out of the process, and no bit depends on whether memory is spilled. */
enum { PIECE_ELEMENTS = SPILL_PIECE_BYTES / sizeof(float), PIECE_STEP = 256 };

static size_t piece_width(size_t short_side)
{
    size_t wanted = PIECE_ELEMENTS / (short_side > 0 ? short_side : 1) / PIECE_STEP * PIECE_STEP;
    return wanted > PIECE_STEP ? wanted : PIECE_STEP;
}

/* Our kernel is used only where BLAS uses its own for the same processors, so that pinning BLAS to
 * an older one (OPENBLAS_CORETYPE) pins every bit. NULL: BLAS multiplies. */
static const gemm *own_kernel(void)
{
    static const char *const kinds[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
    const char *name = openblas_get_corename();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcasecmp(name, kinds[i]) == 0)
            return gemm_here();
    return NULL;
}

/* As BLAS's own buffers it cannot fail: without it the same sums take longer. */
static float *make_room(void)
{
    return aligned_alloc(64, GEMM_ROOM * sizeof(float));
}

/* How a product is cut into tiles, and each tile's sums into pieces: by its shape alone. Narrow
 * tiles copy their operands more often than wide ones. */
enum {
    TILE_COLUMNS = 768,
    TILE_LEAST = 384,
    TILE_LEAST_ALONG = 256, /* where a small matrix is summed over long rows */
    TILE_STEP = 8,
    TILES_WANTED = 16,
    SQUARES_WANTED = 8, /* a side of a Gram matrix */
};

typedef struct tiles {
    bool transpose_a, transpose_b;
    size_t m, n, k;
    float alpha, beta;
    const float *a, *b;
    size_t stride_a, stride_b;
    float *c;
    size_t stride_c;
    size_t rows, columns, depth; /* of a tile, and what of k is summed at once */
} tiles;

static size_t count_parts(size_t length, size_t width)
{
    return (length + width - 1) / width;
}

/* Of parts that are equal but for rounding, none narrower than `least` if `length` is not. */
static size_t part_width(size_t length, size_t wanted, size_t least)
{
    size_t parts = larger(smaller(length / least, wanted), 1);
    return count_parts(length, parts * TILE_STEP) * TILE_STEP;
}

static void choose_tiles(tiles *self)
{
    bool along_k = self->k > self->n;
    size_t width = piece_width(larger(self->m, smaller(self->n, self->k)));
    size_t least = along_k ? TILE_LEAST_ALONG : TILE_LEAST;
    self->columns = along_k ? part_width(self->n, TILES_WANTED, least)
                            : parallel_width(self->n, smaller(width, TILE_COLUMNS));
    self->depth = along_k ? width : self->k;
    size_t wanted = TILES_WANTED / count_parts(self->n, self->columns);
    self->rows = part_width(self->m, larger(wanted, 1), least);
}

static void multiply_tile(void *argument, size_t index)
{
    const tiles *self = argument;
    size_t across = count_parts(self->n, self->columns);
    size_t row = index / across * self->rows;
    size_t column = index % across * self->columns;
    size_t m = smaller(self->m - row, self->rows);
    size_t n = smaller(self->n - column, self->columns);
    const gemm *own = self->transpose_a ? NULL : own_kernel();
    float *room = own != NULL ? make_room() : NULL;
    float *c = self->c + row * self->stride_c + column;
    size_t first = 0;
    do {
        size_t k = smaller(self->k - first, self->depth);
        const float *a = self->transpose_a ? self->a + first * self->stride_a + row
                                           : self->a + row * self->stride_a + first;
        const float *b = self->transpose_b ? self->b + column * self->stride_b + first
                                           : self->b + first * self->stride_b + column;
        float keep = first > 0 ? 1.0F : self->beta;
        if (own != NULL)
            own->multiply(self->transpose_b, m, n, k, self->alpha, a, self->stride_a, b,
                          self->stride_b, keep, c, self->stride_c, room);
        else
            cblas_sgemm(CblasRowMajor, self->transpose_a ? CblasTrans : CblasNoTrans,
                        self->transpose_b ? CblasTrans : CblasNoTrans, blas_int(m), blas_int(n),
                        blas_int(k), self->alpha, a, blas_int(self->stride_a), b,
                        blas_int(self->stride_b), keep, c, blas_int(self->stride_c));
        spill_touched((m * k + k * n + m * n) * sizeof(float));
        first += k;
    } while (first < self->k);
    free(room);
}

void linalg_gemm_shared(parallel *helpers, bool transpose_a, bool transpose_b, size_t m, size_t n,
                        size_t k, float alpha, const float *a, size_t stride_a, const float *b,
                        size_t stride_b, float beta, float *c, size_t stride_c)
{
    if (m == 0 || n == 0)
        return;
    assert(stride_a >= (transpose_a ? m : k) && stride_b >= (transpose_b ? k : n));
    assert(stride_c >= n);
    tiles work = {.transpose_a = transpose_a,
                  .transpose_b = transpose_b,
                  .m = m,
                  .n = n,
                  .k = k,
                  .alpha = alpha,
                  .beta = beta,
                  .a = a,
                  .b = b,
                  .stride_a = stride_a,
                  .stride_b = stride_b,
                  .c = c,
                  .stride_c = stride_c};
    choose_tiles(&work);
    parallel_run(helpers, count_parts(m, work.rows) * count_parts(n, work.columns), multiply_tile,
                 &work);
}

void linalg_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                 const float *a, size_t stride_a, const float *b, size_t stride_b, float beta,
                 float *c, size_t stride_c)
{
    linalg_gemm_shared(NULL, transpose_a, transpose_b, m, n, k, alpha, a, stride_a, b, stride_b,
                       beta, c, stride_c);
}

void linalg_gemm_double(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k,
                        double alpha, const double *a, const double *b, double beta, double *c)
{
    if (m == 0 || n == 0)
        return;
    cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, blas_int(m), blas_int(n), blas_int(k),
                alpha, a, blas_int(larger(transpose_a ? m : k, 1)), b,
                blas_int(larger(transpose_b ? k : n, 1)), beta, c, blas_int(n));
}

/* Squares of the lower triangle of X X', which is cut by its order alone. */
typedef struct squares {
    size_t rows, columns, width;
    const float *x;
    size_t stride;
    float *gram;
} squares;

static void gram_square(void *argument, size_t index)
{
    const squares *self = argument;
    size_t down = 0;
    while (index > down)
        index -= ++down;
    size_t row = down * self->width;
    size_t column = index * self->width;
    size_t m = smaller(self->rows - row, self->width);
    const gemm *own = own_kernel();
    float *room = own != NULL ? make_room() : NULL;
    float *c = self->gram + row * self->rows + column;
    size_t first = 0;
    do {
        size_t part = smaller(self->columns - first, piece_width(self->rows));
        const float *a = self->x + row * self->stride + first;
        const float *b = self->x + column * self->stride + first;
        float keep = first > 0 ? 1.0F : 0.0F;
        if (own != NULL && row == column)
            own->gram(m, part, a, self->stride, keep, c, self->rows, room);
        else if (own != NULL)
            own->multiply(true, m, self->width, part, 1.0F, a, self->stride, b, self->stride, keep,
                          c, self->rows, room);
        else if (row == column)
            cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, blas_int(m), blas_int(part), 1.0F,
                        a, blas_int(self->stride), keep, c, blas_int(self->rows));
        else
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blas_int(m), blas_int(self->width),
                        blas_int(part), 1.0F, a, blas_int(self->stride), b, blas_int(self->stride),
                        keep, c, blas_int(self->rows));
        spill_touched((row == column ? m : m + self->width) * part * sizeof(float));
        first += part;
    } while (first < self->columns);
    free(room);
}

/* The lower triangle of X X'. */
static void lower_gram(parallel *helpers, size_t rows, size_t columns, const float *x,
                       size_t stride, float *gram)
{
    size_t width = part_width(rows, SQUARES_WANTED, TILE_LEAST_ALONG);
    squares work = {rows, columns, width, x, stride, gram};
    size_t down = count_parts(rows, width);
    parallel_run(helpers, down * (down + 1) / 2, gram_square, &work);
}

int linalg_gram_rows(parallel *helpers, size_t rows, size_t columns, const float *x, size_t stride,
                     double *ret_gram, didi_error *error)
{
    assert(stride >= columns);
    if (rows == 0)
        return DIDI_OK;
    float *gram = memory_aligned(rows * rows, sizeof *gram);
    if (gram == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "Gram matrix of order %zu", rows);
    lower_gram(helpers, rows, columns, x, stride, gram);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j <= i; j++)
            ret_gram[i * rows + j] = ret_gram[j * rows + i] = (double)gram[i * rows + j];
    free(gram);
    return DIDI_OK;
}

int linalg_gram_rows_double(size_t rows, size_t columns, const float *x, size_t stride,
                            double *ret_gram, didi_error *error)
{
    assert(rows > 0 && stride >= columns);
    size_t width = smaller(columns, piece_width(rows));
    double *wide = memory_aligned(rows * width, sizeof *wide);
    if (wide == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "matrix of %zu x %zu", rows, width);
    size_t first = 0;
    do {
        size_t part = smaller(columns - first, width);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < part; j++)
                wide[i * width + j] = (double)x[i * stride + first + j];
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, blas_int(rows), blas_int(part), 1.0,
                    wide, blas_int(larger(width, 1)), first > 0 ? 1.0 : 0.0, ret_gram,
                    blas_int(rows));
        spill_touched(rows * part * sizeof(float));
        first += part;
    } while (first < columns);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < i; j++)
            ret_gram[j * rows + i] = ret_gram[i * rows + j];
    free(wide);
    return DIDI_OK;
}

static void widen_columns(size_t rows, size_t stride, size_t count, const float *x, double *out)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < count; j++)
            out[i * count + j] = (double)x[i * stride + j];
}

int linalg_products_double(size_t m, size_t n, size_t columns, const float *a, const float *b,
                           double *ret_c, didi_error *error)
{
    assert(m > 0 && n > 0 && columns > 0);
    size_t width = smaller(columns, piece_width(m + n));
    double *wide = memory_aligned((m + n) * width, sizeof *wide);
    if (wide == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "matrix of %zu x %zu", m + n, width);
    double *other = wide + m * width;
    for (size_t first = 0; first < columns; first += width) {
        size_t part = smaller(columns - first, width);
        widen_columns(m, columns, part, a + first, wide);
        widen_columns(n, columns, part, b + first, other);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blas_int(m), blas_int(n),
                    blas_int(part), 1.0, wide, blas_int(part), other, blas_int(part),
                    first > 0 ? 1.0 : 0.0, ret_c, blas_int(n));
    }
    free(wide);
    return DIDI_OK;
}

/* LAPACK answers in ascending order; in column-major, eigenvector j is column j, which read
 * row-major is row j. So only the order of rows has to be turned round. */
static void swap_bytes(void *left, void *right, size_t bytes)
{
    char *a = left;
    char *b = right;
    for (size_t i = 0; i < bytes; i++) {
        char byte = a[i];
        a[i] = b[i];
        b[i] = byte;
    }
}

static void reverse_rows(size_t count, size_t columns, size_t size, void *matrix, void *values)
{
    char *rows = matrix;
    char *list = values;
    for (size_t i = 0; i < count / 2; i++) {
        size_t k = count - 1 - i;
        swap_bytes(list + i * size, list + k * size, size);
        swap_bytes(rows + i * columns * size, rows + k * columns * size, columns * size);
    }
}

/* What LAPACK said of the eigenvalues, and whether they are numbers. */
static int check_eigen(lapack_int info, size_t order, bool finite, didi_error *error)
{
    if (info == LAPACK_WORK_MEMORY_ERROR)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "eigenvalues of order %zu", order);
    if (info != 0 || !finite)
        return didi_fail(error, DIDI_NUMERIC, NULL, "eigenvalues of order %zu do not converge (%d)",
                         order, (int)info);
    return DIDI_OK;
}

int linalg_eigen_symmetric(size_t order, double *matrix, double *ret_values, didi_error *error)
{
    if (order == 0)
        return DIDI_OK;
    lapack_int n = blas_int(order);
    lapack_int info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', n, matrix, n, ret_values);
    bool finite = info == 0 && isfinite(ret_values[0]) && isfinite(ret_values[order - 1]);
    int status = check_eigen(info, order, finite, error);
    if (status == DIDI_OK)
        reverse_rows(order, order, sizeof *matrix, matrix, ret_values);
    return status;
}

/* LAPACKE_ssyevd asks LAPACK how much room it needs and is told in a float, which from order 2896
 * on may be one number short: refused then. So the room is by the formula of ssyevd's manual. */
static lapack_int ssyevd(lapack_int n, float *matrix, float *ret_values)
{
    enum { ORDER_MAX = 32000 }; /* beyond, the room's size is no lapack_int */
    if (n > ORDER_MAX)
        return LAPACK_WORK_MEMORY_ERROR;
    lapack_int room = 1 + 6 * n + 2 * n * n;
    lapack_int integers = 3 + 5 * n;
    float *work = memory_aligned((size_t)room, sizeof *work);
    lapack_int *numbers = memory_zeroed((size_t)integers, sizeof *numbers);
    lapack_int info = LAPACK_WORK_MEMORY_ERROR;
    if (work != NULL && numbers != NULL)
        info = LAPACKE_ssyevd_work(LAPACK_COL_MAJOR, 'V', 'L', n, matrix, n, ret_values, work, room,
                                   numbers, integers);
    free(work);
    free(numbers);
    return info;
}

int linalg_eigen_symmetric_f32(size_t order, float *matrix, float *ret_values, didi_error *error)
{
    if (order == 0)
        return DIDI_OK;
    lapack_int n = blas_int(order);
    for (size_t i = 0; i < order * order; i++) /* LAPACK may loop over what is no number */
        if (isnan(matrix[i]))
            return check_eigen(0, order, false, error);
    lapack_int info = ssyevd(n, matrix, ret_values);
    bool finite = info == 0 && isfinite(ret_values[0]) && isfinite(ret_values[order - 1]);
    int status = check_eigen(info, order, finite, error);
    if (status == DIDI_OK)
        reverse_rows(order, order, sizeof *matrix, matrix, ret_values);
    return status;
}

int linalg_eigen_gram(parallel *helpers, size_t rows, size_t columns, const float *x,
                      float *ret_vectors, double *ret_values, didi_error *error)
{
    if (rows == 0)
        return DIDI_OK;
    float *values = memory_aligned(rows, sizeof *values);
    if (values == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "eigenvalues of order %zu", rows);
    lower_gram(helpers, rows, columns, x, columns, ret_vectors);
    for (size_t i = 0; i < rows; i++) /* LAPACK reads columns */
        for (size_t j = 0; j < i; j++)
            ret_vectors[j * rows + i] = ret_vectors[i * rows + j];
    int status = linalg_eigen_symmetric_f32(rows, ret_vectors, values, error);
    for (size_t i = 0; i < rows && status == DIDI_OK; i++)
        ret_values[i] = (double)values[i];
    free(values);
    return status;
}

/* Eigenvectors of graded matrices end in numbers below 1e-38, with which processors take a hundred
 * times as long. They count for nothing: while this is on they are zero. */
static unsigned flush_tiny(void)
{
#if defined(__SSE__)
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
    return before;
#else
    return 0;
#endif
}

static void keep_tiny(unsigned before)
{
#if defined(__SSE__)
    _mm_setcsr(before);
#else
    (void)before;
#endif
}

/* Room for the eigenvalues of one symmetric matrix. */
typedef struct reduction {
    size_t order, count;
    float *matrix, *diagonal, *beside, *tau, *work; /* reflectors, and what they leave */
    double *wide;                                   /* 3 x order: the same, and room */
    double *room;
} reduction;

/* What sormtr needs to work in blocks, which it does not ask for (LAPACK 3.11). */
enum { BLOCK = 64 };
static size_t reduction_work(size_t count)
{
    return (count + BLOCK + 1) * BLOCK;
}

static int reduction_create(reduction *self, size_t order, size_t count, didi_error *error)
{
    *self = (reduction){.order = order,
                        .count = count,
                        .matrix = memory_aligned(order * order, sizeof(float)),
                        .diagonal = memory_aligned(order, sizeof(float)),
                        .beside = memory_aligned(order, sizeof(float)),
                        .tau = memory_aligned(order, sizeof(float)),
                        .work = memory_aligned(reduction_work(count), sizeof(float)),
                        .wide = memory_zeroed(3 * order, sizeof(double)),
                        .room = memory_aligned(tridiagonal_room(order), sizeof(double))};
    return self->matrix != NULL && self->diagonal != NULL && self->beside != NULL &&
                   self->tau != NULL && self->work != NULL && self->wide != NULL &&
                   self->room != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "eigenvalues of order %zu", order);
}

static void reduction_clear(reduction *self)
{
    free(self->matrix);
    free(self->diagonal);
    free(self->beside);
    free(self->tau);
    free(self->work);
    free(self->wide);
    free(self->room);
}

/* Where eigenvalues lie close together: LAPACK's way, which makes their vectors orthogonal. */
static lapack_int solve_close(const reduction *self, float *ret_vectors, double *ret_values)
{
    size_t order = self->order;
    size_t count = self->count;
    lapack_int n = blas_int(order);
    lapack_int found = 0;
    lapack_logical try_relative = 1;
    double *values = self->wide + 2 * order;
    double *vectors = memory_aligned(count * order, sizeof *vectors);
    lapack_int *support = memory_zeroed(2 * order, sizeof *support);
    lapack_int info = LAPACK_WORK_MEMORY_ERROR;
    if (vectors != NULL && support != NULL)
        info = LAPACKE_dstemr(LAPACK_COL_MAJOR, 'V', 'I', n, self->wide, self->wide + order, 0, 0,
                              blas_int(order - count + 1), n, &found, values, vectors, n,
                              blas_int(count), support, &try_relative);
    if (info == 0 && found != blas_int(count))
        info = 1;
    for (size_t i = 0; info == 0 && i < count; i++) {
        ret_values[i] = values[count - 1 - i];
        for (size_t j = 0; j < order; j++)
            ret_vectors[i * order + j] = (float)vectors[(count - 1 - i) * order + j];
    }
    free(vectors);
    free(support);
    return info;
}

/* The largest eigenvalues of what is in `matrix`, a lower triangle by rows and so an upper one by
 * columns, and their vectors. Reflectors and products in float32 are most of the work; what they
 * leave is solved in double. */
static int reduction_solve(const reduction *self, float *ret_vectors, double *ret_values,
                           didi_error *error)
{
    size_t order = self->order;
    lapack_int n = blas_int(order);
    lapack_int count = blas_int(self->count);
    bool finite = true;
    lapack_int info = LAPACKE_ssytrd(LAPACK_COL_MAJOR, 'U', n, self->matrix, n, self->diagonal,
                                     self->beside, self->tau);
    for (size_t i = 0; i < order && info == 0; i++) {
        self->wide[i] = (double)self->diagonal[i];
        self->wide[order + i] = i + 1 < order ? (double)self->beside[i] : 0;
        finite = finite && isfinite(self->wide[i]) && isfinite(self->wide[order + i]);
    }
    tridiagonal left = {order, self->wide, self->wide + order};
    if (info == 0 && finite &&
        !tridiagonal_leading(&left, self->count, self->room, ret_vectors, ret_values))
        info = solve_close(self, ret_vectors, ret_values);
    if (info == 0 && finite)
        info = LAPACKE_sormtr_work(LAPACK_COL_MAJOR, 'L', 'U', 'N', n, count, self->matrix, n,
                                   self->tau, ret_vectors, n, self->work,
                                   blas_int(reduction_work(self->count)));
    return check_eigen(info, order, finite, error);
}

int linalg_eigen_gram_first(size_t rows, size_t columns, const float *x, size_t count,
                            float *ret_vectors, double *ret_values, didi_error *error)
{
    assert(count > 0 && count <= rows);
    reduction made;
    int status = reduction_create(&made, rows, count, error);
    if (status == DIDI_OK) {
        lower_gram(NULL, rows, columns, x, columns, made.matrix);
        unsigned before = flush_tiny();
        status = reduction_solve(&made, ret_vectors, ret_values, error);
        keep_tiny(before);
    }
    reduction_clear(&made);
    return status;
}

int linalg_svd(size_t m, size_t n, float *x, float *ret_u, double *ret_sigma, float *ret_v,
               didi_error *error)
{
    assert(m > 0 && n > 0);
    size_t r = m < n ? m : n;
    int status = DIDI_OK;
    float *sigma = memory_aligned(r, sizeof *sigma);
    float *u_columns = memory_aligned(m * r, sizeof *u_columns);
    if (sigma == NULL || u_columns == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "decomposition of %zu x %zu", m, n);
        goto out;
    }
    /* Row-major X is X' column-major: its left vectors (n x r) are our V, its right ones our U. */
    lapack_int info =
        LAPACKE_sgesdd(LAPACK_COL_MAJOR, 'S', blas_int(n), blas_int(m), x, blas_int(n), sigma,
                       ret_v, blas_int(n), u_columns, blas_int(r));
    if (info == LAPACK_WORK_MEMORY_ERROR) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "decomposition of %zu x %zu", m, n);
        goto out;
    }
    if (info != 0 || !isfinite(sigma[0]) || !isfinite(sigma[r - 1])) {
        status = didi_fail(error, DIDI_NUMERIC, NULL,
                           "singular values of a %zu x %zu matrix do not converge (%d)", m, n,
                           (int)info);
        goto out;
    }
    for (size_t i = 0; i < r; i++) {
        ret_sigma[i] = (double)sigma[i];
        for (size_t j = 0; j < m; j++)
            ret_u[i * m + j] = u_columns[j * r + i];
    }
out:
    free(sigma);
    free(u_columns);
    return status;
}

/* Rows that are handed out together where each is computed by itself. */
static size_t rows_at_once(size_t columns)
{
    enum { ELEMENTS = 1 << 16 };
    return larger(ELEMENTS / larger(columns, 1), 1);
}

typedef struct long_rows {
    size_t rows, columns;
    float *factor; /* rows x rows, lower triangular */
    float *x;
    bool transposed; /* the factor's transpose is meant */
} long_rows;

static void normalise(void *argument, size_t first, size_t end)
{
    const long_rows *self = argument;
    for (size_t i = first; i < end; i++) {
        float *row = self->x + i * self->columns;
        double norm = sqrt(linalg_energy(row, self->columns));
        if (norm > 0)
            cblas_sscal(blas_int(self->columns), (float)(1.0 / norm), row, 1);
        spill_touched(self->columns * sizeof *row);
    }
}

/* Close enough to orthonormal that another pass would only cost time. */
static bool is_identity(size_t order, const double *gram)
{
    double worst = 0;
    for (size_t i = 0; i < order; i++)
        for (size_t j = 0; j <= i; j++) {
            double off = fabs(gram[i * order + j] - (i == j ? 1.0 : 0.0));
            worst = off > worst ? off : worst;
        }
    return worst < 1e-5;
}

/* Columns [first, end) of X <- L^-1 X. */
static void solve_triangle(void *argument, size_t first, size_t end)
{
    const long_rows *self = argument;
    cblas_strsm(CblasRowMajor, CblasLeft, CblasLower, self->transposed ? CblasTrans : CblasNoTrans,
                CblasNonUnit, blas_int(self->rows), blas_int(end - first), 1.0F, self->factor,
                blas_int(self->rows), self->x + first, blas_int(self->columns));
    spill_touched(self->rows * (end - first) * sizeof *self->x);
}

/* The same with L, or with the inverse of another triangle. */
static void multiply_lower(void *argument, size_t first, size_t end)
{
    const long_rows *self = argument;
    const gemm *own = own_kernel();
    float *room = make_room();
    assert(own != NULL); /* else solve_triangle is taken */
    own->lower(self->rows, end - first, self->factor, self->x + first, self->columns, room);
    spill_touched(self->rows * (end - first) * sizeof *self->x);
    free(room);
}

static void change_columns(parallel *helpers, const long_rows *of,
                           void (*task)(void *argument, size_t first, size_t end))
{
    long_rows work = *of;
    parallel_ranges(helpers, of->columns,
                    parallel_width(of->columns, smaller(piece_width(of->rows), TILE_COLUMNS)), task,
                    &work);
}

/* X <- L^-1 X where G = X X' = L L'. Fails (false) when X is close to dependent; else `gram` holds
 * L below the diagonal and on it. */
static bool cholesky_pass(parallel *helpers, const long_rows *of, double *gram)
{
    size_t rows = of->rows;
    float *factor = of->factor;
    lapack_int n = blas_int(rows);
    if (LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', n, gram, n) != 0)
        return false;
    for (size_t i = 0; i < rows; i++)
        if (!(gram[i * rows + i] > 3e-3))
            return false;
    /* Column-major upper R with G = R'R is row-major lower L with G = L L'. */
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < rows; j++)
            factor[i * rows + j] = j <= i ? (float)gram[i * rows + j] : 0.0F;
    const gemm *own = own_kernel();
    if (own == NULL || rows > GEMM_LOWER_MAX) {
        change_columns(helpers, of, solve_triangle);
        return true;
    }
    if (LAPACKE_strtri(LAPACK_COL_MAJOR, 'U', 'N', n, factor, n) != 0)
        return false;
    change_columns(helpers, of, multiply_lower);
    return true;
}

/* True when L^-1 is small: one Cholesky pass then leaves the rows orthonormal to float32's accuracy
 * times |L^-1|^2. Estimated by the growth of a solution of L x = (+-1), each sign chosen for more
 * (Cline, Moler, Stewart and Wilkinson 1979). `x` holds `order` values. */
static bool is_well_conditioned(size_t order, const double *lower, float *x)
{
    double sum = 0;
    for (size_t i = 0; i < order; i++) {
        double above = 0;
        for (size_t j = 0; j < i; j++)
            above += lower[i * order + j] * (double)x[j];
        double value = ((above > 0 ? -1 : 1) - above) / lower[i * order + i];
        x[i] = (float)value;
        sum += value * value;
    }
    return sum < 16 * (double)order;
}

/* Rows on the way to an orthonormal basis; gram and factor hold rows x rows numbers. */
typedef struct raw_basis {
    parallel *helpers;
    size_t rows, columns;
    float *x, *scratch, *factor;
    double *gram;
} raw_basis;

/* X <- Lambda^-1/2 W X, dropping directions whose eigenvalue is rounding noise. */
static int eigen_pass(raw_basis *self, didi_error *error)
{
    size_t rows = self->rows;
    double *values = memory_zeroed(rows, sizeof *values);
    if (values == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "orthonormal basis of %zu rows", rows);
    int status = linalg_eigen_symmetric(rows, self->gram, values, error);
    if (status != DIDI_OK)
        goto out;
    size_t kept = 0;
    while (kept < rows && values[kept] > 1e-6 * values[0] && values[kept] > 0) {
        double scale = 1.0 / sqrt(values[kept]);
        for (size_t j = 0; j < rows; j++)
            self->factor[kept * rows + j] = (float)(scale * self->gram[kept * rows + j]);
        kept++;
    }
    status = linalg_rotate_rows(self->helpers, kept, rows, self->columns, self->factor, NULL,
                                self->x, self->scratch, error);
    if (status != DIDI_OK)
        goto out;
    spill_copy(self->x, self->scratch, kept * self->columns * sizeof *self->x);
    self->rows = kept;
out:
    free(values);
    return status;
}

int linalg_orthonormalise_rows(parallel *helpers, size_t rows, size_t columns, float *x,
                               float *scratch, size_t *ret_rows, didi_error *error)
{
    assert(x != scratch || rows == 0);
    int status = DIDI_OK;
    raw_basis self = {helpers,
                      rows,
                      columns,
                      x,
                      scratch,
                      memory_aligned(rows * rows, sizeof(float)),
                      memory_aligned(rows * rows, sizeof(double))};
    if (self.gram == NULL || self.factor == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "orthonormal basis of %zu rows", rows);
        goto out;
    }
    long_rows all = {.rows = rows, .columns = columns, .x = x};
    parallel_ranges(helpers, rows, rows_at_once(columns), normalise, &all);
    for (int pass = 0; pass < 2 && self.rows > 0; pass++) {
        status = linalg_gram_rows(helpers, self.rows, columns, x, columns, self.gram, error);
        if (status != DIDI_OK || is_identity(self.rows, self.gram))
            goto out;
        const long_rows left = {self.rows, columns, self.factor, x, false};
        if (cholesky_pass(helpers, &left, self.gram)) {
            if (is_well_conditioned(self.rows, self.gram, self.factor))
                goto out;
            continue;
        }
        status = linalg_gram_rows_double(self.rows, columns, x, columns, self.gram, error);
        if (status == DIDI_OK)
            status = eigen_pass(&self, error);
        if (status != DIDI_OK)
            goto out;
    }
out:
    if (status == DIDI_OK)
        *ret_rows = self.rows;
    free(self.gram);
    free(self.factor);
    return status;
}

int linalg_rotate_rows(parallel *helpers, size_t rows, size_t inner, size_t columns, const float *w,
                       const double *scale, const float *x, float *ret_y, didi_error *error)
{
    assert(x != ret_y || rows == 0);
    float *scaled = NULL;
    if (scale != NULL) {
        scaled = memory_aligned(rows * inner, sizeof *scaled);
        if (scaled == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "rotation of %zu rows", rows);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < inner; j++)
                scaled[i * inner + j] = (float)(scale[i] * (double)w[i * inner + j]);
    }
    linalg_gemm_shared(helpers, false, false, rows, columns, inner, 1.0F,
                       scaled != NULL ? scaled : w, inner, x, columns, 0.0F, ret_y, columns);
    free(scaled);
    return DIDI_OK;
}

int linalg_rotate_rows_double(size_t rows, size_t inner, size_t columns, const double *w,
                              const float *x, float *ret_y, didi_error *error)
{
    assert(x != ret_y && rows > 0 && inner > 0 && columns > 0);
    size_t width = smaller(columns, piece_width(rows + inner));
    double *wide = memory_aligned((rows + inner) * width, sizeof *wide);
    if (wide == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "rotation of %zu rows", rows);
    double *out = wide + inner * width;
    for (size_t first = 0; first < columns; first += width) {
        size_t part = smaller(columns - first, width);
        widen_columns(inner, columns, part, x + first, wide);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, blas_int(rows), blas_int(part),
                    blas_int(inner), 1.0, w, blas_int(inner), wide, blas_int(part), 0.0, out,
                    blas_int(part));
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < part; j++)
                ret_y[i * columns + first + j] = (float)out[i * part + j];
    }
    free(wide);
    return DIDI_OK;
}

int linalg_solve_spd(parallel *helpers, size_t order, double *gram, size_t columns, float *right,
                     didi_error *error)
{
    assert(order == 0 || (gram != NULL && right != NULL));
    if (order == 0)
        return DIDI_OK;
    lapack_int n = blas_int(order);
    double trace = 0;
    for (size_t i = 0; i < order; i++)
        trace += gram[i * order + i];
    double *factor = memory_aligned(order * order, sizeof *factor);
    float *narrow = memory_aligned(order * order, sizeof *narrow);
    int status = DIDI_OK;
    if (factor == NULL || narrow == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "system of order %zu", order);
        goto out;
    }
    double ridge = 0;
    int attempt = 0;
    for (; attempt < 12; attempt++) {
        memcpy(factor, gram, order * order * sizeof *factor);
        for (size_t i = 0; i < order; i++)
            factor[i * order + i] += ridge;
        if (LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', n, factor, n) == 0)
            break;
        ridge = ridge > 0 ? ridge * 10 : 1e-12 * trace / (double)order + 1e-300;
    }
    if (attempt == 12) {
        status = didi_fail(error, DIDI_NUMERIC, NULL, "system of order %zu is not positive", order);
        goto out;
    }
    for (size_t i = 0; i < order * order; i++)
        narrow[i] = (float)factor[i];
    long_rows work = {order, columns, narrow, right, false};
    change_columns(helpers, &work, solve_triangle);
    work.transposed = true;
    change_columns(helpers, &work, solve_triangle);
out:
    free(factor);
    free(narrow);
    return status;
}
