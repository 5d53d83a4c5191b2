/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised matrices as strings of bytes. */
#include "src/packed.h"

#include "src/base/memory.h"
#include "src/linalg.h"

#include <stdlib.h>
#include <string.h>

enum {
    FORM_FACTORS = 1,
    FORM_DENSE = 2,
    FACTORS_HEADER_BYTES = 4,
    SEGMENT_BYTES = 5,
    BLOCK = 16, /* components added at a time */
};

static uint8_t *put_start(uint8_t *out, unsigned form, unsigned last)
{
    out[0] = (uint8_t)form;
    out[1] = QUANTISE_GROUP & 0xFF;
    out[2] = QUANTISE_GROUP >> 8;
    out[3] = (uint8_t)last;
    return out + FACTORS_HEADER_BYTES;
}

/* ---- encoding ---- */

static size_t count_segments(const uint8_t *bits, size_t components)
{
    size_t count = 1;
    for (size_t i = 1; i < components; i++)
        count += bits[i] != bits[i - 1];
    return count;
}

size_t packed_component_bytes(size_t m, size_t n, unsigned bits)
{
    return quantise_row_bytes(m, bits) + quantise_row_bytes(n, bits);
}

size_t packed_segment_bytes(void)
{
    return SEGMENT_BYTES;
}

size_t packed_factors_bytes(size_t m, size_t n, const uint8_t *bits, size_t components)
{
    size_t sum = FACTORS_HEADER_BYTES + SEGMENT_BYTES * count_segments(bits, components);
    for (size_t i = 0; i < components; i++)
        sum += packed_component_bytes(m, n, bits[i]);
    return sum;
}

void packed_factors_encode(size_t m, size_t n, const uint8_t *bits, size_t components,
                           const float *left, const float *right, uint8_t *out)
{
    out = put_start(out, FORM_FACTORS, (unsigned)count_segments(bits, components));
    for (size_t first = 0, last = 0; first < components; first = last) {
        while (last < components && bits[last] == bits[first])
            last++;
        uint32_t length = (uint32_t)(last - first);
        out[0] = bits[first];
        memcpy(out + 1, &length, sizeof length);
        out += SEGMENT_BYTES;
    }
    for (size_t i = 0; i < components; i++) {
        quantise_row(left + i * m, m, bits[i], out);
        out += quantise_row_bytes(m, bits[i]);
        quantise_row(right + i * n, n, bits[i], out);
        out += quantise_row_bytes(n, bits[i]);
    }
}

size_t packed_dense_bytes(size_t m, size_t n, unsigned bits)
{
    return PACKED_DENSE_HEADER_BYTES + m * quantise_row_bytes(n, bits);
}

void packed_dense_begin(unsigned bits, uint8_t *out)
{
    put_start(out, FORM_DENSE, bits);
}

void packed_dense_rows(size_t n, unsigned bits, const float *values, size_t rows, uint8_t *out)
{
    size_t step = quantise_row_bytes(n, bits);
    for (size_t i = 0; i < rows; i++)
        quantise_row(values + i * n, n, bits, out + i * step);
}

/* ---- reading ---- */

/* Bytes from one component of a segment to the next. */
static size_t stride_of(const packed *self, const packed_segment *segment)
{
    size_t row = quantise_row_bytes(self->n, segment->bits);
    return self->dense ? row : row + quantise_row_bytes(self->m, segment->bits);
}

static int check_scales(const packed *self, const char *tensor, didi_error *error)
{
    for (size_t s = 0; s < self->segment_count; s++) {
        const packed_segment *segment = &self->segments[s];
        size_t left = self->dense ? 0 : quantise_row_bytes(self->m, segment->bits);
        for (size_t i = 0; i < segment->components; i++) {
            const uint8_t *at = segment->bytes + i * stride_of(self, segment);
            if (!quantise_row_is_finite(at + left, self->n, segment->bits) ||
                (!self->dense && !quantise_row_is_finite(at, self->m, segment->bits)))
                return didi_fail(error, DIDI_FORMAT, tensor, "a scale is too large");
        }
    }
    return DIDI_OK;
}

/* Places the segments, whose bits and components are known, over the bytes; all must be used. */
static int place_segments(packed *self, const uint8_t *bytes, size_t count, const char *tensor,
                          didi_error *error)
{
    for (size_t s = 0; s < self->segment_count; s++) {
        packed_segment *segment = &self->segments[s];
        size_t stride = stride_of(self, segment);
        if (count / stride < segment->components)
            return didi_fail(error, DIDI_FORMAT, tensor,
                             "too few bytes for %zu rows of %u bits in a matrix of %zu x %zu",
                             segment->components, segment->bits, self->m, self->n);
        segment->bytes = bytes;
        bytes += segment->components * stride;
        count -= segment->components * stride;
        self->rank += segment->components;
    }
    if (count != 0)
        return didi_fail(error, DIDI_FORMAT, tensor,
                         "%zu bytes are left over in a matrix of %zu x %zu", count, self->m,
                         self->n);
    return check_scales(self, tensor, error);
}

static int read_segments(packed *self, const uint8_t *bytes, const char *tensor, didi_error *error)
{
    for (size_t s = 0; s < self->segment_count; s++) {
        uint32_t components = 0;
        unsigned bits = bytes[s * SEGMENT_BYTES];
        memcpy(&components, bytes + s * SEGMENT_BYTES + 1, sizeof components);
        if (bits < 1 || bits > QUANTISE_BITS_MAX || (s > 0 && bits >= self->segments[s - 1].bits))
            return didi_fail(error, DIDI_FORMAT, tensor, "segment %zu has %u bits", s, bits);
        if (components < 1 || components > PACKED_DIMENSION_MAX)
            return didi_fail(error, DIDI_FORMAT, tensor, "segment %zu has %u components", s,
                             components);
        self->segments[s] = (packed_segment){bits, components, NULL};
    }
    return DIDI_OK;
}

int packed_parse(const uint8_t *bytes, size_t count, size_t m, size_t n, const char *tensor,
                 packed *ret_packed, didi_error *error)
{
    packed self = {.m = m, .n = n};
    if (m < 1 || n < 1 || m > PACKED_DIMENSION_MAX || n > PACKED_DIMENSION_MAX)
        return didi_fail(error, DIDI_FORMAT, tensor, "a matrix of %zu x %zu cannot be packed", m,
                         n);
    if (count < FACTORS_HEADER_BYTES)
        return didi_fail(error, DIDI_FORMAT, tensor, "%zu bytes hold no packed matrix", count);
    size_t group = bytes[1] | (size_t)bytes[2] << 8;
    if ((bytes[0] != FORM_FACTORS && bytes[0] != FORM_DENSE) || group != QUANTISE_GROUP)
        return didi_fail(error, DIDI_FORMAT, tensor, "packed form %u in groups of %zu is unknown",
                         bytes[0], group);
    self.dense = bytes[0] == FORM_DENSE;
    self.segment_count = self.dense ? 1 : bytes[3];
    size_t start = FACTORS_HEADER_BYTES + (self.dense ? 0 : self.segment_count * SEGMENT_BYTES);
    if (self.segment_count < 1 || self.segment_count > QUANTISE_BITS_MAX || count < start)
        return didi_fail(error, DIDI_FORMAT, tensor, "%zu bytes with %zu segments", count,
                         self.segment_count);
    int status = DIDI_OK;
    if (!self.dense)
        status = read_segments(&self, bytes + FACTORS_HEADER_BYTES, tensor, error);
    else if (bytes[3] < 1 || bytes[3] > QUANTISE_BITS_MAX)
        status = didi_fail(error, DIDI_FORMAT, tensor, "a dense matrix of %u bits", bytes[3]);
    else
        self.segments[0] = (packed_segment){bytes[3], m, NULL};
    if (status == DIDI_OK)
        status = place_segments(&self, bytes + start, count - start, tensor, error);
    if (status == DIDI_OK)
        *ret_packed = self;
    return status;
}

static const uint8_t *find_component(const packed *self, size_t component, unsigned *ret_bits)
{
    const packed_segment *segment = self->segments;
    while (component >= segment->components) {
        component -= segment->components;
        segment++;
    }
    *ret_bits = segment->bits;
    return segment->bytes + component * stride_of(self, segment);
}

void packed_left(const packed *self, size_t component, float *ret_column)
{
    unsigned bits = 0;
    const uint8_t *at = find_component(self, component, &bits);
    dequantise_row(at, self->m, bits, ret_column);
}

void packed_right(const packed *self, size_t component, float *ret_row)
{
    unsigned bits = 0;
    const uint8_t *at = find_component(self, component, &bits);
    dequantise_row(self->dense ? at : at + quantise_row_bytes(self->m, bits), self->n, bits,
                   ret_row);
}

static int add_factors(const packed *self, size_t first, size_t rows, float *out, didi_error *error)
{
    float *column = memory_aligned(self->m + BLOCK * (rows + self->n), sizeof *column);
    if (column == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%d rows of a packed matrix", BLOCK);
    float *left = column + self->m;
    float *right = left + BLOCK * rows;
    for (size_t done = 0; done < self->rank; done += BLOCK) {
        size_t taken = self->rank - done < BLOCK ? self->rank - done : BLOCK;
        for (size_t i = 0; i < taken; i++) {
            packed_left(self, done + i, column);
            memcpy(left + i * rows, column + first, rows * sizeof *left);
            packed_right(self, done + i, right + i * self->n);
        }
        linalg_gemm(true, false, rows, self->n, taken, 1.0F, left, rows, right, self->n, 1.0F, out,
                    self->n);
    }
    free(column);
    return DIDI_OK;
}

static int add_dense(const packed *self, size_t first, size_t rows, float *out, didi_error *error)
{
    float *row = memory_aligned(self->n, sizeof *row);
    if (row == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "a row of %zu numbers", self->n);
    for (size_t r = 0; r < rows; r++) {
        packed_right(self, first + r, row);
        for (size_t i = 0; i < self->n; i++)
            out[r * self->n + i] += row[i];
    }
    free(row);
    return DIDI_OK;
}

int packed_add(const packed *self, size_t first, size_t rows, float *out, didi_error *error)
{
    if (rows == 0)
        return DIDI_OK;
    return self->dense ? add_dense(self, first, rows, out, error)
                       : add_factors(self, first, rows, out, error);
}
