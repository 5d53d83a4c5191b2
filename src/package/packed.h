/* SPDX-License-Identifier: Apache-2.0 */
/* One matrix, m x n, quantised into one self-describing string of bytes: the content of the tensors
 * `x.shared_packed` and `x.expert_packed` (factors) and `x.delta_packed` (dense). Little-endian:
 *
 *   u8 form + 16 log2(group): 0x61 factors, 0x62 dense, in groups of 64; then
 *   factors: i8 exponent of the columns of B, i8 of the rows of A, u8 number of segments (1 to 8);
 *            for each segment u8 width, u32 components, bits descending and never the same; then,
 *            segment by segment, component by component, the column of B (m numbers) and the row of
 *            A (n numbers) by quantise_groups, or by trellis_row where the width says so
 *   dense:   u8 bits; the rows of the matrix (n numbers each) by quantise_row
 *
 * Factors stand for B A, the sum over components of column times row. See docs/format.md.
 */
#pragma once

#include "src/base/base.h"
#include "src/math/math.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PACKED_DIMENSION_MAX = INT32_MAX, /* rows and columns; factors have as many components */
    PACKED_FACTORS_HEADER_BYTES = 4,  /* segments aside */
    PACKED_SEGMENT_BYTES = 5,         /* each: the price of the first component at a width */
    PACKED_DENSE_HEADER_BYTES = 2,
    PACKED_TRELLIS = 64, /* beside the bits of a width: rows are trellis-coded, 1 to 4 bits */
};

/* ---- encoding; m, n, components: 1 to PACKED_DIMENSION_MAX; bits: 1 to 8, and of factors also
 * PACKED_TRELLIS + 1 to 4 */

/* What one row of factors becomes when it is stored at `width`: `room` is as large as
 * packed_row_room says. */
size_t packed_row_room(size_t count);
void packed_row_round(const float *values, size_t count, unsigned width, uint8_t *room, float *out);

/* Bytes of factors whose component i has bits[i] (components of them, not ascending). */
size_t packed_factors_bytes(size_t m, size_t n, const uint8_t *bits, size_t components);

/* What one more component at `bits` adds, segments aside. */
size_t packed_component_bytes(size_t m, size_t n, unsigned bits);

/* Encodes components rows of `left` (m numbers each, a column of B) and `right` (n numbers each, a
 * row of A) into out[packed_factors_bytes]. Values must be finite. Each row is read back as
 * packed_row_round says, unless its magnitudes are far (2^-8 and more)
 * below those of the largest row. */
void packed_factors_encode(size_t m, size_t n, const uint8_t *bits, size_t components,
                           const float *left, const float *right, uint8_t *out);

/* The same bytes, encoded together with helpers (may be NULL). */
typedef struct packed_factors {
    size_t m, n, components;
    const uint8_t *bits;
    const float *left, *right;
} packed_factors;
void packed_factors_share(parallel *helpers, const packed_factors *of, uint8_t *out);

/* Bytes of a dense matrix. */
size_t packed_dense_bytes(size_t m, size_t n, unsigned bits);

/* The first PACKED_DENSE_HEADER_BYTES of a dense matrix. */
void packed_dense_begin(unsigned bits, uint8_t *out);

/* Encodes `rows` rows of a dense matrix with n columns; they belong at byte
 * PACKED_DENSE_HEADER_BYTES + first * quantise_row_bytes(n, bits) for the row `first`, and out
 * holds rows * quantise_row_bytes(n, bits). */
void packed_dense_rows(size_t n, unsigned bits, const float *values, size_t rows, uint8_t *out);

/* ---- reading */

typedef struct packed_segment {
    unsigned bits;
    size_t components;
    const uint8_t *bytes;
} packed_segment;

/* A view of well-formed bytes; owns nothing. A dense matrix is one segment of m components without
 * columns. */
typedef struct packed {
    size_t m, n;
    bool dense;
    size_t rank;                       /* components of all segments; m when dense */
    int left_exponent, right_exponent; /* of factors */
    size_t segment_count;
    packed_segment segments[QUANTISE_BITS_MAX];
} packed;

/* Parses `count` bytes as an m x n matrix (m, n >= 1, from the base's tensor). Every length is
 * checked before arithmetic; all numbers of an accepted matrix are finite. `bytes` must
 * outlive *ret_packed. Pure. Errors: DIDI_FORMAT with `tensor` as subject. */
int packed_parse(const uint8_t *bytes, size_t count, size_t m, size_t n, const char *tensor,
                 packed *ret_packed, didi_error *error);

/* Column `component` of B as m numbers; factors only, component < rank. */
void packed_left(const packed *self, size_t component, float *ret_column);

/* Row `component` of A, or of a dense matrix, as n numbers; component < rank. */
void packed_right(const packed *self, size_t component, float *ret_row);

/* Adds rows first .. first + rows of the matrix to out (rows x n, contiguous). Works through some
 * components at a time: (m + 16 (rows + n)) floats for factors, n for dense. Errors:
 * DIDI_NO_MEMORY, and `out` is then partly added to. */
int packed_add(const packed *self, size_t first, size_t rows, float *out, didi_error *error);
