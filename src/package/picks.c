/* SPDX-License-Identifier: Apache-2.0 */
/* Bits and places: checked, and added up row by row. */
#include "src/package/picks.h"

#include <assert.h>
#include <stdlib.h>

uint64_t bits_bytes(uint64_t count)
{
    return count / 8 + (count % 8 > 0);
}

int bits_check(const uint8_t *bytes, uint64_t size, uint64_t count, const char *tensor,
               didi_error *error)
{
    if (size != bits_bytes(count))
        return didi_fail(error, DIDI_MISMATCH, tensor,
                         "%llu bytes are not the bits of %llu numbers", (unsigned long long)size,
                         (unsigned long long)count);
    if (count % 8 > 0 && bytes[size - 1] >> count % 8 != 0)
        return didi_fail(error, DIDI_FORMAT, tensor, "there are bits behind those of %llu numbers",
                         (unsigned long long)count);
    return DIDI_OK;
}

int places_check(const uint32_t *places, uint64_t rows, uint64_t entries, uint64_t columns,
                 const char *tensor, didi_error *error)
{
    for (uint64_t row = 0; row < rows; row++)
        for (uint64_t i = 0; i < entries; i++) {
            const uint32_t *place = &places[row * entries + i];
            if (*place >= columns || (i > 0 && *place <= place[-1]))
                return didi_fail(error, DIDI_FORMAT, tensor,
                                 "the columns of row %llu do not ascend below %llu",
                                 (unsigned long long)row, (unsigned long long)columns);
        }
    return DIDI_OK;
}

bool picks_are_empty(const picks *self)
{
    return self->mask == NULL && self->signs == NULL && self->entries == 0;
}

static void add_masked(const picks *self, uint64_t first, uint64_t count, const float *masked,
                       float *out)
{
    for (uint64_t i = 0; i < count; i++)
        if (bits_at(self->mask, first + i))
            out[i] += self->scale * masked[i];
}

static int add_packed(const picks *self, uint64_t first, uint64_t rows, float *out,
                      didi_error *error)
{
    uint64_t columns = self->columns;
    float *row = memory_aligned(columns, sizeof *row);
    if (row == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "a row of %llu numbers",
                         (unsigned long long)columns);
    for (uint64_t r = 0; r < rows; r++) {
        packed_right(&self->masked_packed, first + r, row);
        add_masked(self, (first + r) * columns, columns, row, out + r * columns);
    }
    free(row);
    return DIDI_OK;
}

int picks_add(const picks *self, uint64_t first, uint64_t rows, float *out, didi_error *error)
{
    assert(first <= self->rows && rows <= self->rows - first);
    assert(self->mask == NULL || self->masked != NULL || self->masked_bytes != NULL);
    uint64_t columns = self->columns;
    int status = DIDI_OK;
    for (uint64_t i = 0; self->signs != NULL && i < rows * columns; i++)
        out[i] += bits_at(self->signs, first * columns + i) ? self->scale : -self->scale;
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t i = 0; i < self->entries; i++) {
            uint64_t entry = (first + r) * self->entries + i;
            out[r * columns + self->places[entry]] += self->values[entry];
        }
    if (self->mask != NULL && self->masked != NULL)
        add_masked(self, first * columns, rows * columns, self->masked + first * columns, out);
    if (self->mask != NULL && self->masked_bytes != NULL)
        status = add_packed(self, first, rows, out, error);
    return status;
}

void picks_clear(picks *self)
{
    free(self->mask);
    free(self->signs);
    free(self->masked);
    free(self->masked_bytes);
    free(self->places);
    free(self->values);
    *self = (picks){0};
}
