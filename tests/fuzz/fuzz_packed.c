/* SPDX-License-Identifier: Apache-2.0 */
/* Input: m - 1 and n - 1 in a byte each, then the bytes of a packed matrix. */
#include "src/package/packed.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

/* What was accepted can be read to its end, holds finite numbers, and has the size of what an
 * encoder makes of its shape. */
static void check_packed(const packed *found, size_t count)
{
    size_t expected = found->dense ? PACKED_DENSE_HEADER_BYTES : 4;
    size_t rank = 0;
    float row[256];
    for (size_t s = 0; s < found->segment_count; s++) {
        size_t components = found->segments[s].components;
        unsigned bits = found->segments[s].bits;
        expected += found->dense
                        ? components * quantise_row_bytes(found->n, bits)
                        : PACKED_SEGMENT_BYTES +
                              components * packed_component_bytes(found->m, found->n, bits);
        rank += components;
    }
    check(expected == count && rank == found->rank && (!found->dense || rank == found->m));
    for (size_t i = 0; i < rank; i++) {
        packed_right(found, i, row);
        for (size_t e = 0; e < found->n; e++)
            check(isfinite(row[e]));
        if (!found->dense)
            packed_left(found, i, row);
        for (size_t e = 0; e < found->m && !found->dense; e++)
            check(isfinite(row[e]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    packed found;
    didi_error error = {0};
    size_t m = (size_t)data[0] + 1;
    size_t n = (size_t)data[1] + 1;
    int status = packed_parse(data + 2, size - 2, m, n, "tensor", &found, &error);
    if (status != DIDI_OK) {
        check(status == error.status && error.message[0] != '\0');
        return 0;
    }
    check_packed(&found, size - 2);
    float *matrix = calloc(m * n, sizeof *matrix);
    check(matrix != NULL);
    check(packed_add(&found, m / 2, m - m / 2, matrix, &error) == DIDI_OK);
    free(matrix);
    return 0;
}
