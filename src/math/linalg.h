/* SPDX-License-Identifier: Apache-2.0 */
/* The only door to BLAS and LAPACK. All matrices are row-major; `stride` is elements between rows.
 * `helpers` (may be NULL) share what is large, cut into pieces by its shape alone: no bit depends
 * on them. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

/* C (m x n) = alpha * op(A) (m x k) * op(B) (k x n) + beta * C, float32. Dimensions below 2^31. */
void linalg_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                 const float *a, size_t stride_a, const float *b, size_t stride_b, float beta,
                 float *c, size_t stride_c);

/* The same bits, computed together with helpers. */
void linalg_gemm_shared(parallel *helpers, bool transpose_a, bool transpose_b, size_t m, size_t n,
                        size_t k, float alpha, const float *a, size_t stride_a, const float *b,
                        size_t stride_b, float beta, float *c, size_t stride_c);

/* Gram matrix G = X X' (rows x rows, dense, both triangles, double) of X (rows x columns).
 * Accumulates in float32 within BLAS. Errors: DIDI_NO_MEMORY. */
int linalg_gram_rows(parallel *helpers, size_t rows, size_t columns, const float *x, size_t stride,
                     double *ret_gram, didi_error *error);

/* As linalg_gram_rows, every product in double. Errors: DIDI_NO_MEMORY. */
int linalg_gram_rows_double(size_t rows, size_t columns, const float *x, size_t stride,
                            double *ret_gram, didi_error *error);

/* As linalg_gemm in double, all contiguous. */
void linalg_gemm_double(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k,
                        double alpha, const double *a, const double *b, double beta, double *c);

/* C (m x n, double) = A (m x columns) B (n x columns)', all contiguous, every product in double.
 * Errors: DIDI_NO_MEMORY. */
int linalg_products_double(size_t m, size_t n, size_t columns, const float *a, const float *b,
                           double *ret_c, didi_error *error);

/* Eigenvalues in descending order and eigenvectors as rows of a symmetric matrix (order x order),
 * which is overwritten by the vectors. Errors: DIDI_NUMERIC (no convergence, or not finite),
 * DIDI_NO_MEMORY. */
int linalg_eigen_symmetric(size_t order, double *matrix, double *ret_values, didi_error *error);

/* As above in float32 arithmetic, about three times faster on large orders. */
int linalg_eigen_symmetric_f32(size_t order, float *matrix, float *ret_values, didi_error *error);

/* Eigenvalues in descending order, and eigenvectors as rows (rows x rows), of X X' for X (rows x
 * columns, contiguous), in float32: to about 1e-7 of the largest value. Errors: DIDI_NUMERIC,
 * DIDI_NO_MEMORY. */
int linalg_eigen_gram(parallel *helpers, size_t rows, size_t columns, const float *x,
                      float *ret_vectors, double *ret_values, didi_error *error);

/* The `count` largest eigenvalues of X X' for X (rows x columns, contiguous), descending, and their
 * eigenvectors as rows (count x rows), in float32. Twice as fast as linalg_eigen_gram where `count`
 * is an eighth of the rows. Errors: DIDI_NUMERIC, DIDI_NO_MEMORY. */
int linalg_eigen_gram_first(size_t rows, size_t columns, const float *x, size_t count,
                            float *ret_vectors, double *ret_values, didi_error *error);

/* Thin singular value decomposition X (m x n) = U' diag(sigma) V with r = min(m, n): U (r x m) and
 * V (r x n) hold singular vectors as rows, sigma descends. X must be finite and is destroyed. The
 * fallback and the tests' reference (LAPACK sgesdd). Errors: DIDI_NUMERIC, DIDI_NO_MEMORY. */
int linalg_svd(size_t m, size_t n, float *x, float *ret_u, double *ret_sigma, float *ret_v,
               didi_error *error);

/* Makes the rows of X (rows x columns, contiguous) orthonormal in place, spanning the same space,
 * and packs them to the front; *ret_rows <= rows tells how many are left after dependent ones are
 * dropped. Cholesky QR, done twice unless the rows were well-conditioned, with an eigenvalue form
 * where it fails. `scratch` holds rows x columns floats. Errors: DIDI_NUMERIC, DIDI_NO_MEMORY. */
int linalg_orthonormalise_rows(parallel *helpers, size_t rows, size_t columns, float *x,
                               float *scratch, size_t *ret_rows, didi_error *error);

/* Y (rows x columns) = diag(scale) W (rows x inner) X (inner x columns), all contiguous; `scale`
 * NULL for ones. Errors: DIDI_NO_MEMORY. */
int linalg_rotate_rows(parallel *helpers, size_t rows, size_t inner, size_t columns, const float *w,
                       const double *scale, const float *x, float *ret_y, didi_error *error);

/* Y (rows x columns) = W (rows x inner, double) X (inner x columns), contiguous, every product in
 * double. Errors: DIDI_NO_MEMORY. */
int linalg_rotate_rows_double(size_t rows, size_t inner, size_t columns, const double *w,
                              const float *x, float *ret_y, didi_error *error);

/* Y (n x m) = X' for X (m x n), contiguous. */
void linalg_transpose(size_t m, size_t n, const float *x, float *ret_y);

/* Sum of squares, of squared differences in order, and inner product in double. */
double linalg_energy(const float *x, size_t count);
double linalg_squared_distance(const float *x, const float *y, size_t count);
double linalg_dot(const float *x, const float *y, size_t count);

/* Solves the symmetric positive (semi-)definite system G Z = R for Z (order x columns, float32, in
 * place over R); G (order x order, double) is destroyed. A ridge of 1e-12 of the mean diagonal is
 * added until Cholesky succeeds. Errors: DIDI_NUMERIC, DIDI_NO_MEMORY. */
int linalg_solve_spd(parallel *helpers, size_t order, double *gram, size_t columns, float *right,
                     didi_error *error);
