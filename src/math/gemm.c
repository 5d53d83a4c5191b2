/* SPDX-License-Identifier: Apache-2.0 */
/* One operand is packed into panels, (k x 48) contiguous; of the other, eight rows at a time are
 * read where they lie, each number times a whole row of the panel. */
#include "src/math/gemm.h"

#include "src/base/base.h"

#if defined(__x86_64__)
#include <assert.h>
#include <immintrin.h>
#include <string.h>

/* Vectors in memory are of the unaligned kind (_u): sanitizers lay out stacks as they like. */
#define WITH_AVX512 __attribute__((target("avx512f,avx512vl,fma")))
#define INLINED static inline __attribute__((always_inline)) WITH_AVX512

enum {
    LANES = 16,
    TILE_ROWS = 8,
    TILE_VECTORS = 3,
    TILE_WIDTH = TILE_VECTORS * LANES,
    DEPTH = GEMM_LOWER_MAX,   /* of a panel in k */
    SPAN = GEMM_ROOM / DEPTH, /* packed at once: stays in a cache of a megabyte */
    SPAN_MIN = 8
};

/* The packed operand's rows (or columns) are p, the other's rows q. */
typedef struct product {
    bool across; /* p are rows: packing turns them */
    bool turned; /* C is p x q */
    bool lower;  /* C only where p <= q */
    bool wedge;  /* q is zero beyond its diagonal */
    size_t p_count, q_count, k;
    float alpha, beta;
    const float *p, *q;
    size_t p_stride, q_stride;
    float *c;
    size_t c_stride;
} product;

/* Lines of memory to fetch meanwhile, one a step. */
typedef struct ahead {
    const float *line;
    size_t stride;
} ahead;

/* tile (rows x 16 vectors) = q (rows x k) panel (k x 16 vectors) */
INLINED void multiply_tile(size_t rows, size_t vectors, size_t k, const float *q, size_t stride,
                           const float *panel, ahead next, float *tile)
{
    __m512_u sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (size_t v = 0; v < vectors; v++)
            sum[r][v] = _mm512_setzero_ps();
#pragma GCC unroll 1
    for (size_t i = 0; i < k; i++) {
        __m512_u x[TILE_VECTORS];
#pragma GCC unroll 3
        for (size_t v = 0; v < vectors; v++)
            x[v] = _mm512_loadu_ps(panel + (i * vectors + v) * LANES);
#pragma GCC unroll 8
        for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 3
            for (size_t v = 0; v < vectors; v++)
                sum[r][v] = _mm512_fmadd_ps(_mm512_set1_ps(q[r * stride + i]), x[v], sum[r][v]);
        __builtin_prefetch(next.line + i * next.stride, 0, 2);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (size_t v = 0; v < vectors; v++)
            _mm512_storeu_ps(tile + r * TILE_WIDTH + v * LANES, sum[r][v]);
}

/* The same for a panel of eight: half a vector. */
INLINED void multiply_half(size_t rows, size_t k, const float *q, size_t stride, const float *panel,
                           float *tile)
{
    __m256_u sum[TILE_ROWS];
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm256_setzero_ps();
#pragma GCC unroll 1
    for (size_t i = 0; i < k; i++) {
        __m256 x = _mm256_loadu_ps(panel + i * SPAN_MIN);
#pragma GCC unroll 8
        for (size_t r = 0; r < rows; r++)
            sum[r] = _mm256_fmadd_ps(_mm256_set1_ps(q[r * stride + i]), x, sum[r]);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
        _mm256_storeu_ps(tile + r * TILE_WIDTH, sum[r]);
}

INLINED void multiply_rows(size_t rows, size_t width, size_t k, const float *q, size_t stride,
                           const float *panel, ahead next, float *tile)
{
    if (width == TILE_WIDTH)
        multiply_tile(rows, 3, k, q, stride, panel, next, tile);
    else if (width == 2 * LANES)
        multiply_tile(rows, 2, k, q, stride, panel, next, tile);
    else if (width == LANES)
        multiply_tile(rows, 1, k, q, stride, panel, next, tile);
    else
        multiply_half(rows, k, q, stride, panel, tile);
}

/* One kernel for each number of rows. */
WITH_AVX512
static void multiply(size_t rows, size_t width, size_t k, const float *q, size_t stride,
                     const float *panel, ahead next, float *tile)
{
    switch (rows) {
    case 1:
        multiply_rows(1, width, k, q, stride, panel, next, tile);
        break;
    case 2:
        multiply_rows(2, width, k, q, stride, panel, next, tile);
        break;
    case 3:
        multiply_rows(3, width, k, q, stride, panel, next, tile);
        break;
    case 4:
        multiply_rows(4, width, k, q, stride, panel, next, tile);
        break;
    case 5:
        multiply_rows(5, width, k, q, stride, panel, next, tile);
        break;
    case 6:
        multiply_rows(6, width, k, q, stride, panel, next, tile);
        break;
    case 7:
        multiply_rows(7, width, k, q, stride, panel, next, tile);
        break;
    default:
        multiply_rows(TILE_ROWS, width, k, q, stride, panel, next, tile);
    }
}

/* Width of the next panel where `left` columns are left: little is padded. */
static size_t panel_width(size_t left)
{
    if (left > 40)
        return TILE_WIDTH;
    if (left > 24)
        return (size_t)2 * LANES;
    return left > SPAN_MIN ? LANES : SPAN_MIN;
}

/* panel (k x width) = the first `have` columns of x (k x ...), then zeros. */
WITH_AVX512
static void pack_along(size_t k, size_t width, size_t have, const float *x, size_t stride,
                       float *panel)
{
    if (have < TILE_WIDTH) {
        for (size_t i = 0; i < k; i++) {
            memcpy(panel + i * width, x + i * stride, have * sizeof *panel);
            memset(panel + i * width + have, 0, (width - have) * sizeof *panel);
        }
        return;
    }
    for (size_t i = 0; i < k; i++)
        for (size_t v = 0; v < TILE_VECTORS; v++)
            _mm512_storeu_ps(panel + (i * TILE_VECTORS + v) * LANES,
                             _mm512_loadu_ps(x + i * stride + v * LANES));
}

/* out (8 x 8, rows `width` apart) = x' */
INLINED void turn_square(const float *x, size_t stride, float *out, size_t width)
{
    __m256_u a[8];
    __m256_u b[8];
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++)
        a[i] = _mm256_loadu_ps(x + i * stride);
#pragma GCC unroll 4
    for (size_t i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (size_t i = 0; i < 8; i += 4) {
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], _MM_SHUFFLE(1, 0, 1, 0));
        a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], _MM_SHUFFLE(3, 2, 3, 2));
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], _MM_SHUFFLE(1, 0, 1, 0));
        a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], _MM_SHUFFLE(3, 2, 3, 2));
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        _mm256_storeu_ps(out + i * width, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
        _mm256_storeu_ps(out + (i + 4) * width, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
}

/* panel (k x width) = the transpose of x (have x k), then columns of zeros. */
WITH_AVX512
static void pack_across(size_t k, size_t width, size_t have, const float *x, size_t stride,
                        float *panel)
{
    size_t squares_k = k / 8 * 8;
    size_t squares = have / 8 * 8;
    for (size_t j = 0; j < squares; j += 8)
        for (size_t i = 0; i < squares_k; i += 8)
            turn_square(x + j * stride + i, stride, panel + i * width + j, width);
    for (size_t j = 0; j < width; j++)
        for (size_t i = j < squares ? squares_k : 0; i < k; i++)
            panel[i * width + j] = j < have ? x[j * stride + i] : 0.0F;
}

/* Packs p's [first, first + count) in panels side by side, depth [k0, k0 + k). */
static void pack(const product *work, size_t first, size_t count, size_t k0, size_t k,
                 float *panels)
{
    size_t width = 0;
    for (size_t j = 0; j < count; j += width) {
        width = panel_width(count - j);
        size_t have = smaller(width, count - j);
        if (work->across)
            pack_across(k, width, have, work->p + (first + j) * work->p_stride + k0, work->p_stride,
                        panels);
        else
            pack_along(k, width, have, work->p + k0 * work->p_stride + first + j, work->p_stride,
                       panels);
        panels += k * width;
    }
}

/* to += alpha from, of `count` numbers; to is only written where beta is 0. */
INLINED void add_row(const product *work, const float *from, size_t count, float beta, float *to)
{
    if (beta == 0)
        for (size_t j = 0; j < count; j++)
            to[j] = work->alpha * from[j];
    else
        for (size_t j = 0; j < count; j++)
            to[j] = beta * to[j] + work->alpha * from[j];
}

/* C[p][q] or C[q][p] of one tile; beta is 1 after the first block of k. */
WITH_AVX512
static void add_tile(const product *work, const float *tile, size_t q, size_t rows, size_t p,
                     size_t width, float beta)
{
    if (!work->turned) {
        for (size_t r = 0; r < rows; r++)
            add_row(work, tile + r * TILE_WIDTH, width, beta,
                    work->c + (q + r) * work->c_stride + p);
        return;
    }
    float turned[TILE_ROWS * TILE_WIDTH];
    for (size_t j = 0; j < width; j += TILE_ROWS)
        turn_square(tile + j, TILE_WIDTH, turned + j * TILE_ROWS, TILE_ROWS);
    for (size_t j = 0; j < width; j++) {
        float *to = work->c + (p + j) * work->c_stride + q;
        if (rows == TILE_ROWS)
            add_row(work, turned + j * TILE_ROWS, TILE_ROWS, beta, to);
        else
            add_row(work, turned + j * TILE_ROWS, rows, beta, to);
    }
}

/* What is to be packed after [first, first + span) of this depth, the line'th line of it. */
static ahead next_line(const product *work, size_t first, size_t span, size_t k0, size_t line)
{
    size_t column = first + span + line * LANES;
    if (work->across || line * LANES >= span || column >= work->p_count)
        return (ahead){work->p, 0};
    return (ahead){work->p + k0 * work->p_stride + column, work->p_stride};
}

/* All rows q against the packed panels. */
WITH_AVX512
static void multiply_panels(const product *work, size_t first, size_t span, size_t k0, size_t k,
                            const float *panels)
{
    float tile[TILE_ROWS * TILE_WIDTH] = {0};
    size_t count = smaller(span, work->p_count - first);
    size_t line = 0;
    for (size_t q = 0; q < work->q_count; q += TILE_ROWS) {
        size_t rows = smaller(TILE_ROWS, work->q_count - q);
        const float *panel = panels;
        size_t width = 0;
        for (size_t j = 0; j < count; j += width, panel += k * width) {
            width = panel_width(count - j);
            if (work->lower && first + j >= q + rows)
                break;
            size_t end = work->wedge ? smaller(k, q + rows) : k;
            multiply(rows, width, end, work->q + q * work->q_stride + k0, work->q_stride, panel,
                     next_line(work, first, span, k0, line++), tile);
            add_tile(work, tile, q, rows, first + j, smaller(width, count - j),
                     k0 > 0 ? 1.0F : work->beta);
        }
    }
}

static void run(const product *work, float *room)
{
    float narrow[DEPTH * SPAN_MIN];
    size_t span = room != NULL ? SPAN : SPAN_MIN;
    float *panels = room != NULL ? room : narrow;
    size_t blocks = (work->k + DEPTH - 1) / DEPTH;
    size_t depth = blocks > 0 ? (work->k + blocks - 1) / blocks : 0;
    size_t k0 = 0;
    do {
        size_t k = smaller(depth, work->k - k0);
        for (size_t p = 0; p < work->p_count; p += span) {
            pack(work, p, smaller(span, work->p_count - p), k0, k, panels);
            multiply_panels(work, p, span, k0, k, panels);
        }
        k0 += k;
    } while (k0 < work->k);
}

static void multiply_all(bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                         const float *a, size_t stride_a, const float *b, size_t stride_b,
                         float beta, float *c, size_t stride_c, float *room)
{
    product work = {.across = transpose_b,
                    .turned = transpose_b && m < n,
                    .k = k,
                    .alpha = alpha,
                    .beta = beta,
                    .c = c,
                    .c_stride = stride_c};
    work.p = work.turned ? a : b;
    work.p_stride = work.turned ? stride_a : stride_b;
    work.p_count = work.turned ? m : n;
    work.q = work.turned ? b : a;
    work.q_stride = work.turned ? stride_b : stride_a;
    work.q_count = work.turned ? n : m;
    run(&work, room);
}

static void multiply_gram(size_t rows, size_t columns, const float *x, size_t stride, float beta,
                          float *c, size_t stride_c, float *room)
{
    product work = {.across = true,
                    .lower = true,
                    .p_count = rows,
                    .q_count = rows,
                    .k = columns,
                    .alpha = 1.0F,
                    .beta = beta,
                    .p = x,
                    .q = x,
                    .p_stride = stride,
                    .q_stride = stride,
                    .c = c,
                    .c_stride = stride_c};
    run(&work, room);
}

static void multiply_lower(size_t rows, size_t columns, const float *lower, float *x, size_t stride,
                           float *room)
{
    assert(rows <= GEMM_LOWER_MAX); /* columns are packed whole before they are written */
    product work = {.wedge = true,
                    .p_count = columns,
                    .q_count = rows,
                    .k = rows,
                    .alpha = 1.0F,
                    .p = x,
                    .q = lower,
                    .p_stride = stride,
                    .q_stride = rows,
                    .c = x,
                    .c_stride = stride};
    run(&work, room);
}

const gemm *gemm_here(void)
{
    static const gemm here = {multiply_all, multiply_gram, multiply_lower};
    bool able = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("fma");
    return able ? &here : NULL;
}

#else

const gemm *gemm_here(void)
{
    return NULL;
}

#endif
