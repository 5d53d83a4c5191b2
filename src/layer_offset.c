/* SPDX-License-Identifier: Apache-2.0 */
/* A part of low rank taken away from all task vectors of a layer. */
#include "src/layer.h"

#include "src/base/memory.h"
#include "src/linalg.h"

#include <stdlib.h>

enum { BLOCK_ROWS = 16 }; /* multiplied at once; fixes results */

/* Whole blocks of rows are multiplied, whatever is asked for: so no bit depends on the piece. */
int layer_offset_subtract(const layer_offset *self, size_t rows, size_t columns, uint64_t first,
                          size_t count, float *values, didi_error *error)
{
    float *product = memory_aligned(BLOCK_ROWS, columns * sizeof *product);
    uint64_t end = first + count;
    if (product == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "rows of %zu columns", columns);
    for (size_t row = first / columns / BLOCK_ROWS * BLOCK_ROWS; row * columns < end;
         row += BLOCK_ROWS) {
        size_t height = rows - row < BLOCK_ROWS ? rows - row : BLOCK_ROWS;
        uint64_t start = row * columns;
        uint64_t from = start > first ? start : first;
        uint64_t to = start + height * columns < end ? start + height * columns : end;
        linalg_gemm(false, false, height, columns, self->rank, 1.0F, self->b + row * self->rank,
                    self->rank, self->a, columns, 0.0F, product, columns);
        for (uint64_t i = from; i < to; i++)
            values[i - first] -= product[i - start];
    }
    free(product);
    return DIDI_OK;
}
