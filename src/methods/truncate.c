/* SPDX-License-Identifier: Apache-2.0 */
/* Truncated singular value decompositions, rounded or packed. */
#include "src/methods/truncate.h"

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/math/math.h"
#include "src/package/package.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Singular values below this share of the largest are rounding of the matrix itself. */
#define SIGMA_LEAST 1e-6

/* Of one matrix: `count` triplets as rows, and what they are made of. */
typedef struct cut {
    size_t m, n, count;
    float *x;
    float *left, *right; /* count x m, count x n */
    unsigned bits;       /* 0: a dtype */
    didi_dtype dtype;
} cut;

void truncated_clear(truncated *self)
{
    free(self->sigma);
    free(self->b);
    free(self->a);
    free(self->packed);
    *self = (truncated){0};
}

static size_t count_triplets(const double *sigma, size_t rank)
{
    while (rank > 0 && !(sigma[rank - 1] > SIGMA_LEAST * sigma[0]))
        rank--;
    return rank;
}

static void scale_row(float *row, size_t count, double scale)
{
    for (size_t i = 0; i < count; i++)
        row[i] = (float)((double)row[i] * scale);
}

static int round_rows(didi_dtype dtype, float *values, size_t count, didi_error *error)
{
    if (didi_dtype_round(dtype, values, count) < count)
        return didi_fail(error, DIDI_NUMERIC, NULL, "a factor is out of the range of %s",
                         didi_dtype_name(dtype));
    return DIDI_OK;
}

/* ---- numbers of a dtype */

static int round_factors(const cut *self, truncated *out, didi_error *error)
{
    size_t m = self->m;
    size_t n = self->n;
    size_t k = self->count;
    for (size_t i = 0; i < k; i++) {
        scale_row(self->left + i * m, m, sqrt(out->sigma[i]));
        scale_row(self->right + i * n, n, sqrt(out->sigma[i]));
    }
    out->b = memory_aligned(k, m * sizeof *out->b);
    out->a = memory_aligned(k, n * sizeof *out->a);
    if (out->b == NULL || out->a == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "factors of rank %zu", k);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < m; j++)
            out->b[j * k + i] = self->left[i * m + j];
    memcpy(out->a, self->right, k * n * sizeof *out->a);
    int status = round_rows(self->dtype, out->b, k * m, error);
    if (status == DIDI_OK)
        status = round_rows(self->dtype, out->a, k * n, error);
    if (status == DIDI_OK)
        linalg_gemm(false, false, m, n, k, -1.0F, out->b, k, out->a, n, 1.0F, self->x, n);
    return status;
}

/* ---- packed numbers */

/* Left rows become what they are when packed. */
static int pack_left(const cut *self, didi_error *error)
{
    size_t m = self->m;
    uint8_t *row = memory_zeroed(quantise_row_bytes(m, self->bits), 1);
    if (row == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "packed row of %zu numbers", m);
    for (size_t i = 0; i < self->count; i++) {
        quantise_row(self->left + i * m, m, self->bits, row);
        dequantise_row(row, m, self->bits, self->left + i * m);
    }
    free(row);
    return DIDI_OK;
}

/* right = the least-squares answer to left' right ~ X. */
static int refit_right(const cut *self, didi_error *error)
{
    size_t k = self->count;
    double *gram = memory_aligned(k * k, sizeof *gram);
    if (gram == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "Gram matrix of rank %zu", k);
    linalg_gemm(false, false, k, self->n, self->m, 1.0F, self->left, self->m, self->x, self->n,
                0.0F, self->right, self->n);
    int status = linalg_gram_rows(NULL, k, self->m, self->left, self->m, gram, error);
    if (status == DIDI_OK)
        status = linalg_solve_spd(NULL, k, gram, self->n, self->right, error);
    free(gram);
    return status;
}

/* Left and right rows become what a reader gets. */
static int read_back(const cut *self, const truncated *out, didi_error *error)
{
    packed found;
    int status =
        packed_parse(out->packed, out->packed_bytes, self->m, self->n, "factors", &found, error);
    for (size_t i = 0; i < self->count && status == DIDI_OK; i++) {
        packed_left(&found, i, self->left + i * self->m);
        packed_right(&found, i, self->right + i * self->n);
    }
    return status;
}

static int pack_factors(const cut *self, truncated *out, didi_error *error)
{
    size_t m = self->m;
    size_t n = self->n;
    size_t k = self->count;
    uint8_t *bits = memory_zeroed(k, 1);
    int status = bits != NULL
                     ? pack_left(self, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "widths of %zu components", k);
    if (status == DIDI_OK)
        status = refit_right(self, error);
    if (status != DIDI_OK)
        goto out;
    memset(bits, (int)self->bits, k);
    if (didi_dtype_first_nonfinite(self->right, k * n) < k * n) {
        status = didi_fail(error, DIDI_NUMERIC, NULL, "a factor is out of the range of float32");
        goto out;
    }
    out->packed_bytes = packed_factors_bytes(m, n, bits, k);
    out->packed = memory_zeroed(out->packed_bytes, 1);
    if (out->packed == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "packed factors of rank %zu", k);
        goto out;
    }
    packed_factors_encode(m, n, bits, k, self->left, self->right, out->packed);
    status = read_back(self, out, error);
    if (status == DIDI_OK)
        linalg_gemm(true, false, m, n, k, -1.0F, self->left, m, self->right, n, 1.0F, self->x, n);
out:
    free(bits);
    return status;
}

int truncate_matrix(size_t m, size_t n, float *x, size_t rank, didi_precision precision,
                    truncated *ret_cut, didi_error *error)
{
    assert(rank > 0 && rank <= smaller(m, n));
    cut self = {.m = m,
                .n = n,
                .x = x,
                .left = memory_aligned(rank, m * sizeof(float)),
                .right = memory_aligned(rank, n * sizeof(float))};
    truncated out = {.sigma = memory_zeroed(rank, sizeof *out.sigma)};
    triplets leading = {rank, out.sigma, self.left, self.right, false};
    int status = DIDI_OK;
    if (self.left == NULL || self.right == NULL || out.sigma == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu singular triplets", rank);
    else
        status = spectrum_leading(m, n, x, &leading, error);
    if (status == DIDI_OK) {
        self.count = out.rank = count_triplets(out.sigma, rank);
        bool plain = precision_is_plain(precision, &self.dtype);
        self.bits = plain ? 0 : precision_bits(precision_of_matrices(precision));
        if (out.rank > 0)
            status = plain ? round_factors(&self, &out, error) : pack_factors(&self, &out, error);
    }
    free(self.left);
    free(self.right);
    if (status != DIDI_OK)
        truncated_clear(&out);
    *ret_cut = out;
    return status;
}

static uint64_t row_bytes(uint64_t m, uint64_t n, uint64_t rank)
{
    return memory_multiply(memory_multiply(rank, memory_add(m, n)), sizeof(float));
}

/* Triplets, the refit's Gram matrix with what solving takes, and the answer. */
uint64_t truncate_memory(uint64_t m, uint64_t n, uint64_t rank)
{
    uint64_t squares = memory_multiply(memory_multiply(rank, rank), 3 * sizeof(double));
    uint64_t rows = memory_multiply(row_bytes(m, n, rank), 2);
    return memory_add(spectrum_memory(m, n),
                      memory_add(squares, memory_add(rows, truncated_memory(m, n, rank))));
}

uint64_t truncated_memory(uint64_t m, uint64_t n, uint64_t rank)
{
    return memory_add(row_bytes(m, n, rank), memory_multiply(rank, sizeof(double)));
}
