/* SPDX-License-Identifier: Apache-2.0 */
/* Sums and transposes that need no BLAS. */
#include "src/math/linalg.h"

#include "src/base/base.h"
#include "src/math/vector.h"

#include <string.h>

enum { PIECE_ELEMENTS = SPILL_PIECE_BYTES / sizeof(float) };

/* A tile goes through memory of its own: lines of the result that are far apart by a power of two
 * would drive each other out of the cache. */
void linalg_transpose(size_t m, size_t n, const float *x, float *ret_y)
{
    enum { TILE = 16 };
    float tile[TILE][TILE];
    for (size_t ib = 0; ib < m; ib += TILE)
        for (size_t jb = 0; jb < n; jb += TILE) {
            size_t rows = (size_t)smaller(m - ib, TILE);
            size_t columns = (size_t)smaller(n - jb, TILE);
            for (size_t i = 0; i < rows; i++)
                for (size_t j = 0; j < columns; j++)
                    tile[j][i] = x[(ib + i) * n + jb + j];
            for (size_t j = 0; j < columns; j++)
                memcpy(ret_y + (jb + j) * m + ib, tile[j], rows * sizeof(float));
        }
}

double linalg_energy(const float *x, size_t count)
{
    return linalg_dot(x, x, count);
}

double linalg_squared_distance(const float *x, const float *y, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double miss = (double)x[i] - (double)y[i];
        sum += miss * miss;
    }
    return sum;
}

enum { DOT_LANES = 8 };

/* Independent sums in double, so that the compiler can vectorise. */
VECTOR_CLONES
static void add_products(const float *x, const float *y, size_t count, double sums[DOT_LANES])
{
    double lanes[DOT_LANES];
    memcpy(lanes, sums, sizeof lanes);
    for (size_t i = 0; i < count; i += DOT_LANES)
        for (size_t j = 0; j < DOT_LANES; j++)
            lanes[j] += (double)x[i + j] * (double)y[i + j];
    memcpy(sums, lanes, sizeof lanes);
}

double linalg_dot(const float *x, const float *y, size_t count)
{
    double lanes[DOT_LANES] = {0};
    size_t i = 0;
    while (i + DOT_LANES <= count) {
        size_t part = smaller(count - i, PIECE_ELEMENTS) / DOT_LANES * DOT_LANES;
        spill_touched(2 * part * sizeof *x);
        add_products(x + i, y + i, part, lanes);
        i += part;
    }
    double sum = 0;
    for (; i < count; i++)
        sum += (double)x[i] * (double)y[i];
    for (size_t j = 0; j < DOT_LANES; j++)
        sum += lanes[j];
    return sum;
}
