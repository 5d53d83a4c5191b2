/* SPDX-License-Identifier: Apache-2.0 */
/* Gram route, with LAPACK's SVD as the fallback. */
#include "src/math/spectrum.h"

#include "src/base/base.h"
#include "src/math/linalg.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int gram_eigen_double(size_t order, size_t other, const float *rows, double *vectors,
                             double *values, didi_error *error)
{
    int status = linalg_gram_rows_double(order, other, rows, other, vectors, error);
    return status == DIDI_OK ? linalg_eigen_symmetric(order, vectors, values, error) : status;
}

/* Eigenvectors as rows and eigenvalues of the Gram matrix in float32: all, or those asked for. */
static int gram_eigen(size_t order, size_t other, const float *rows, const triplets *out,
                      float *vectors, double *values, didi_error *error)
{
    return out->few && out->count > 0
               ? linalg_eigen_gram_first(order, other, rows, out->count, vectors, values, error)
               : linalg_eigen_gram(NULL, order, other, rows, vectors, values, error);
}

/* rows: order x other with order <= other. Fills `near` (count x order) with eigenvectors, and
 * sigma. */
static int short_side(size_t order, size_t other, const float *rows, const triplets *out,
                      float *near_rows, didi_error *error)
{
    int status = DIDI_OK;
    size_t count = out->count;
    bool wide = order <= SPECTRUM_DOUBLE_ORDER;
    double *values = memory_zeroed(order, sizeof *values);
    double *vectors = wide ? memory_aligned(order * order, sizeof *vectors) : NULL;
    float *narrow = wide ? NULL : memory_aligned(order * order, sizeof *narrow);
    if (values == NULL || (wide ? vectors == NULL : narrow == NULL)) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "spectrum of order %zu", order);
        goto out;
    }
    status = wide ? gram_eigen_double(order, other, rows, vectors, values, error)
                  : gram_eigen(order, other, rows, out, narrow, values, error);
    if (status != DIDI_OK)
        goto out;
    for (size_t i = 0; i < count; i++) {
        out->sigma[i] = values[i] > 0 ? sqrt(values[i]) : 0;
        for (size_t j = 0; near_rows != NULL && j < order; j++)
            near_rows[i * order + j] = wide ? (float)vectors[i * order + j] : narrow[i * order + j];
    }
out:
    free(values);
    free(vectors);
    free(narrow);
    return status;
}

static void scale_rows(size_t count, size_t columns, const double *sigma, float *x)
{
    for (size_t i = 0; i < count; i++) {
        float scale = sigma[i] > 0 ? (float)(1.0 / sigma[i]) : 0.0F;
        for (size_t j = 0; j < columns; j++)
            x[i * columns + j] *= scale;
    }
}

static int transpose(size_t m, size_t n, const float *x, float **ret_x, didi_error *error)
{
    float *out = memory_aligned(m * n, sizeof *out);
    if (out == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "transpose of %zu x %zu", m, n);
    linalg_transpose(m, n, x, out);
    *ret_x = out;
    return DIDI_OK;
}

static int leading_by_gram(size_t m, size_t n, const float *x, const triplets *out,
                           didi_error *error)
{
    size_t count = out->count;
    if (m <= n) {
        int status = short_side(m, n, x, out, out->left, error);
        if (status != DIDI_OK || out->left == NULL)
            return status;
        linalg_gemm(false, false, count, n, m, 1.0F, out->left, m, x, n, 0.0F, out->right, n);
        scale_rows(count, n, out->sigma, out->right);
        return DIDI_OK;
    }
    float *turned = NULL;
    int status = transpose(m, n, x, &turned, error);
    if (status == DIDI_OK)
        status = short_side(n, m, turned, out, out->right, error);
    if (status == DIDI_OK && out->left != NULL) {
        linalg_gemm(false, false, count, m, n, 1.0F, out->right, n, turned, m, 0.0F, out->left, m);
        scale_rows(count, m, out->sigma, out->left);
    }
    free(turned);
    return status;
}

static int leading_by_svd(size_t m, size_t n, const float *x, const triplets *out,
                          didi_error *error)
{
    size_t r = m < n ? m : n;
    int status = DIDI_OK;
    float *copy = memory_aligned(m * n, sizeof *copy);
    float *u = memory_aligned(r * m, sizeof *u);
    float *v = memory_aligned(r * n, sizeof *v);
    double *values = memory_zeroed(r, sizeof *values);
    if (copy == NULL || u == NULL || v == NULL || values == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "decomposition of %zu x %zu", m, n);
        goto out;
    }
    memcpy(copy, x, m * n * sizeof *copy);
    status = linalg_svd(m, n, copy, u, values, v, error);
    if (status != DIDI_OK)
        goto out;
    memcpy(out->sigma, values, out->count * sizeof *out->sigma);
    if (out->left != NULL) {
        memcpy(out->left, u, out->count * m * sizeof *out->left);
        memcpy(out->right, v, out->count * n * sizeof *out->right);
    }
out:
    free(copy);
    free(u);
    free(v);
    free(values);
    return status;
}

int spectrum_leading(size_t m, size_t n, const float *x, const triplets *ret_leading,
                     didi_error *error)
{
    assert(m > 0 && n > 0 && ret_leading->count <= (m < n ? m : n));
    assert((ret_leading->left == NULL) == (ret_leading->right == NULL));
    didi_error first = {0};
    int status = leading_by_gram(m, n, x, ret_leading, &first);
    if (status == DIDI_NUMERIC)
        return leading_by_svd(m, n, x, ret_leading, error);
    if (status != DIDI_OK && error != NULL)
        *error = first;
    return status;
}

double spectrum_noise(size_t order)
{
    return order <= SPECTRUM_DOUBLE_ORDER ? 1e-6 : 4e-4;
}

/* Copies of X, its Gram matrix and the eigensolver's work. */
uint64_t spectrum_memory(uint64_t m, uint64_t n)
{
    uint64_t shorter = smaller(m, n);
    uint64_t copies = shorter <= SPECTRUM_DOUBLE_ORDER ? 4 : 2;
    uint64_t matrix = memory_multiply(memory_multiply(m, n), sizeof(float));
    return memory_add(memory_multiply(matrix, copies),
                      memory_multiply(memory_multiply(shorter, shorter), 40));
}
