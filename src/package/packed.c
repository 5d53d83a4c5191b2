/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised matrices as strings of bytes. */
#include "src/package/packed.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    GROUP_LOG2 = 6,
    START_FACTORS = GROUP_LOG2 << 4 | 1,
    START_DENSE = GROUP_LOG2 << 4 | 2,
    BLOCK = 16, /* components added at a time */
};

_Static_assert(QUANTISE_GROUP == 1 << GROUP_LOG2, "the first byte names the group's size");

/* ---- rows of factors ---- */

static bool width_is_valid(unsigned width)
{
    return (width >= 1 && width <= QUANTISE_BITS_MAX) ||
           (width > PACKED_TRELLIS && width <= PACKED_TRELLIS + TRELLIS_BITS_MAX);
}

static unsigned bits_of(unsigned width)
{
    return width > PACKED_TRELLIS ? width - PACKED_TRELLIS : width;
}

static size_t row_bytes(size_t count, unsigned width)
{
    return width > PACKED_TRELLIS ? trellis_row_bytes(count, width - PACKED_TRELLIS)
                                  : quantise_groups_bytes(count, width);
}

static void row_encode(const float *values, size_t count, unsigned width, int exponent,
                       uint8_t *out)
{
    if (width > PACKED_TRELLIS)
        trellis_row(values, count, width - PACKED_TRELLIS, exponent, out);
    else
        quantise_groups(values, count, width, exponent, out);
}

static void row_decode(const uint8_t *in, size_t count, unsigned width, int exponent, float *out)
{
    if (width > PACKED_TRELLIS)
        trellis_values(in, count, width - PACKED_TRELLIS, exponent, out);
    else
        dequantise_groups(in, count, width, exponent, out);
}

size_t packed_row_room(size_t count)
{
    return quantise_groups_bytes(count, QUANTISE_BITS_MAX);
}

void packed_row_round(const float *values, size_t count, unsigned width, uint8_t *room, float *out)
{
    int exponent = quantise_exponent(values, count);
    row_encode(values, count, width, exponent, room);
    row_decode(room, count, width, exponent, out);
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
    assert(m > 0 && n > 0 && m <= PACKED_DIMENSION_MAX && n <= PACKED_DIMENSION_MAX);
    return row_bytes(m, bits) + row_bytes(n, bits);
}

size_t packed_factors_bytes(size_t m, size_t n, const uint8_t *bits, size_t components)
{
    assert(components > 0 && components <= PACKED_DIMENSION_MAX);
    size_t sum =
        PACKED_FACTORS_HEADER_BYTES + PACKED_SEGMENT_BYTES * count_segments(bits, components);
    for (size_t i = 0; i < components; i++)
        sum += packed_component_bytes(m, n, bits[i]);
    return sum;
}

typedef struct encoding {
    const packed_factors *of;
    int left_exponent, right_exponent;
    uint8_t *rows; /* where the first component's go */
} encoding;

static void encode_components(void *argument, size_t first, size_t end)
{
    const encoding *self = argument;
    const packed_factors *of = self->of;
    uint8_t *out = self->rows;
    for (size_t i = 0; i < first; i++)
        out += packed_component_bytes(of->m, of->n, of->bits[i]);
    for (size_t i = first; i < end; i++) {
        unsigned width = of->bits[i];
        row_encode(of->left + i * of->m, of->m, width, self->left_exponent, out);
        out += row_bytes(of->m, width);
        row_encode(of->right + i * of->n, of->n, width, self->right_exponent, out);
        out += row_bytes(of->n, width);
    }
}

void packed_factors_share(parallel *helpers, const packed_factors *of, uint8_t *out)
{
    enum { NUMBERS_AT_ONCE = 1 << 16 };
    size_t m = of->m;
    size_t n = of->n;
    size_t components = of->components;
    const uint8_t *bits = of->bits;
    assert(m > 0 && n > 0 && components > 0 && components <= PACKED_DIMENSION_MAX);
    encoding work = {of, quantise_exponent(of->left, components * m),
                     quantise_exponent(of->right, components * n), NULL};
    out[0] = START_FACTORS;
    out[1] = (uint8_t)(int8_t)work.left_exponent;
    out[2] = (uint8_t)(int8_t)work.right_exponent;
    out[3] = (uint8_t)count_segments(bits, components);
    out += PACKED_FACTORS_HEADER_BYTES;
    for (size_t first = 0, last = 0; first < components; first = last) {
        while (last < components && bits[last] == bits[first])
            last++;
        assert(first == 0 || bits_of(bits[first]) < bits_of(bits[first - 1]));
        uint32_t length = (uint32_t)(last - first);
        out[0] = bits[first];
        memcpy(out + 1, &length, sizeof length);
        out += PACKED_SEGMENT_BYTES;
    }
    work.rows = out;
    parallel_ranges(helpers, components, larger(NUMBERS_AT_ONCE / (m + n), 1), encode_components,
                    &work);
}

void packed_factors_encode(size_t m, size_t n, const uint8_t *bits, size_t components,
                           const float *left, const float *right, uint8_t *out)
{
    packed_factors of = {m, n, components, bits, left, right};
    packed_factors_share(NULL, &of, out);
}

size_t packed_dense_bytes(size_t m, size_t n, unsigned bits)
{
    assert(m > 0 && n > 0 && m <= PACKED_DIMENSION_MAX && n <= PACKED_DIMENSION_MAX);
    return PACKED_DENSE_HEADER_BYTES + m * quantise_row_bytes(n, bits);
}

void packed_dense_begin(unsigned bits, uint8_t *out)
{
    assert(bits >= 1 && bits <= QUANTISE_BITS_MAX);
    out[0] = START_DENSE;
    out[1] = (uint8_t)bits;
}

void packed_dense_rows(size_t n, unsigned bits, const float *values, size_t rows, uint8_t *out)
{
    assert(n > 0 && n <= PACKED_DIMENSION_MAX);
    size_t step = quantise_row_bytes(n, bits);
    for (size_t i = 0; i < rows; i++)
        quantise_row(values + i * n, n, bits, out + i * step);
}

/* ---- reading ---- */

/* Bytes from one component of a segment to the next. */
static size_t stride_of(const packed *self, const packed_segment *segment)
{
    return self->dense ? quantise_row_bytes(self->n, segment->bits)
                       : packed_component_bytes(self->m, self->n, segment->bits);
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
    return DIDI_OK;
}

static int read_segments(packed *self, const uint8_t *bytes, const char *tensor, didi_error *error)
{
    for (size_t s = 0; s < self->segment_count; s++) {
        uint32_t components = 0;
        unsigned bits = bytes[s * PACKED_SEGMENT_BYTES];
        memcpy(&components, bytes + s * PACKED_SEGMENT_BYTES + 1, sizeof components);
        if (!width_is_valid(bits) ||
            (s > 0 && bits_of(bits) >= bits_of(self->segments[s - 1].bits)))
            return didi_fail(error, DIDI_FORMAT, tensor, "segment %zu has %u bits", s, bits);
        if (components < 1 || components > PACKED_DIMENSION_MAX)
            return didi_fail(error, DIDI_FORMAT, tensor, "segment %zu has %u components", s,
                             components);
        self->segments[s] = (packed_segment){bits, components, NULL};
    }
    return DIDI_OK;
}

static int read_exponent(uint8_t byte)
{
    return byte < 128 ? byte : byte - 256;
}

static int parse_factors(packed *self, const uint8_t *bytes, size_t count, const char *tensor,
                         didi_error *error)
{
    size_t segments = count < PACKED_FACTORS_HEADER_BYTES ? 0 : bytes[3];
    size_t start = PACKED_FACTORS_HEADER_BYTES + segments * PACKED_SEGMENT_BYTES;
    if (segments < 1 || segments > QUANTISE_BITS_MAX || count < start)
        return didi_fail(error, DIDI_FORMAT, tensor, "%zu bytes with %zu segments", count,
                         segments);
    self->left_exponent = read_exponent(bytes[1]);
    self->right_exponent = read_exponent(bytes[2]);
    self->segment_count = segments;
    int status = read_segments(self, bytes + PACKED_FACTORS_HEADER_BYTES, tensor, error);
    return status == DIDI_OK ? place_segments(self, bytes + start, count - start, tensor, error)
                             : status;
}

static int parse_dense(packed *self, const uint8_t *bytes, size_t count, const char *tensor,
                       didi_error *error)
{
    unsigned bits = count < PACKED_DENSE_HEADER_BYTES ? 0 : bytes[1];
    if (bits < 1 || bits > QUANTISE_BITS_MAX)
        return didi_fail(error, DIDI_FORMAT, tensor, "%zu bytes with %u bits a number", count,
                         bits);
    self->dense = true;
    self->segment_count = 1;
    self->segments[0] = (packed_segment){bits, self->m, NULL};
    return place_segments(self, bytes + PACKED_DENSE_HEADER_BYTES,
                          count - PACKED_DENSE_HEADER_BYTES, tensor, error);
}

int packed_parse(const uint8_t *bytes, size_t count, size_t m, size_t n, const char *tensor,
                 packed *ret_packed, didi_error *error)
{
    packed self = {.m = m, .n = n};
    if (m < 1 || n < 1 || m > PACKED_DIMENSION_MAX || n > PACKED_DIMENSION_MAX)
        return didi_fail(error, DIDI_FORMAT, tensor, "a matrix of %zu x %zu cannot be packed", m,
                         n);
    unsigned start = count > 0 ? bytes[0] : 0;
    if (start != START_FACTORS && start != START_DENSE)
        return didi_fail(error, DIDI_FORMAT, tensor,
                         "%zu bytes that begin with %u are not a packed matrix", count, start);
    int status = start == START_DENSE ? parse_dense(&self, bytes, count, tensor, error)
                                      : parse_factors(&self, bytes, count, tensor, error);
    if (status == DIDI_OK)
        *ret_packed = self;
    return status;
}

static const uint8_t *find_component(const packed *self, size_t component, unsigned *ret_bits)
{
    assert(component < self->rank);
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
    assert(!self->dense);
    unsigned bits = 0;
    const uint8_t *at = find_component(self, component, &bits);
    row_decode(at, self->m, bits, self->left_exponent, ret_column);
}

void packed_right(const packed *self, size_t component, float *ret_row)
{
    unsigned bits = 0;
    const uint8_t *at = find_component(self, component, &bits);
    if (self->dense)
        dequantise_row(at, self->n, bits, ret_row);
    else
        row_decode(at + row_bytes(self->m, bits), self->n, bits, self->right_exponent, ret_row);
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
    assert(first <= self->m && rows <= self->m - first);
    if (rows == 0)
        return DIDI_OK;
    return self->dense ? add_dense(self, first, rows, out, error)
                       : add_factors(self, first, rows, out, error);
}
