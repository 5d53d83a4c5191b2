/* SPDX-License-Identifier: Apache-2.0 */
/* Float32 products for operands of a hundred rows, where a BLAS spends a fifth of its time on
 * copying the other, large operand into an order of its own: here that one is read as it lies
 * (docs/performance.md). All matrices are row-major, `stride` is elements between rows. Every
 * element is summed in the order of k, in blocks that k alone decides. `room` is memory for
 * GEMM_ROOM floats; where it is NULL the same sums take longer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { GEMM_ROOM = 96 * 768, GEMM_LOWER_MAX = 768 };

typedef struct gemm {
    /* C (m x n) = alpha A (m x k) op(B) + beta C, with B (k x n), or (n x k) when `transpose_b`. C
     * is not read where beta is 0. */
    void (*multiply)(bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                     size_t stride_a, const float *b, size_t stride_b, float beta, float *c,
                     size_t stride_c, float *room);
    /* The lower triangle, with the diagonal, of C (rows x rows) = X X' + beta C, X (rows x
     * columns). Above it C is undefined. */
    void (*gram)(size_t rows, size_t columns, const float *x, size_t stride, float beta, float *c,
                 size_t stride_c, float *room);
    /* X (rows x columns) <- L X in place, L (rows x rows, contiguous) lower triangular with zeros
     * above its diagonal. `rows` is at most GEMM_LOWER_MAX. */
    void (*lower)(size_t rows, size_t columns, const float *lower, float *x, size_t stride,
                  float *room);
} gemm;

/* NULL where the processor cannot run them. */
const gemm *gemm_here(void);
