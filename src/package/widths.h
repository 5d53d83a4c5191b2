/* SPDX-License-Identifier: Apache-2.0 */
/* Widths: how many bits a stored number takes, which widths a precision may use, and what of a
 * component's energy each of them keeps. */
#pragma once

#include "src/didi.h"
#include "src/files/files.h"

/* Widths in rising order: trellis-coded (PACKED_TRELLIS beside the bits), packed with scales up to
 * 8 bits (packed.h), above stored as a dtype. */
enum { PRECISION_WIDTHS = 14 };
extern const unsigned precision_width_bits[PRECISION_WIDTHS];
/* Where a width stands in them: it must be one. Its bits a number, without scales. */
unsigned precision_width_index(unsigned width);
unsigned precision_plain_bits(unsigned width);

/* A set of widths: bit i stands for precision_width_bits[i]. */
typedef unsigned precision_widths;

/* True when numbers are stored as a dtype, returned in *ret_dtype (may be NULL). */
bool precision_is_plain(didi_precision precision, didi_dtype *ret_dtype);

/* That dtype, or bf16 where numbers are packed: of those that are stored as a dtype even then. */
didi_dtype precision_values_dtype(didi_precision precision);

/* Widths of factors; of large matrices kept whole, and of factors by methods beside didi; and of
 * the tensors that are kept whole because they are small: those never have fewer than 8 bits unless
 * the precision is auto. */
precision_widths precision_of_factors(didi_precision precision);
precision_widths precision_of_matrices(didi_precision precision);
precision_widths precision_of_dense(didi_precision precision);

/* The width that all numbers have without being asked: that of the dtype; 0 where they are packed.
 */
unsigned precision_given_bits(didi_precision precision);

/* The narrowest width of a set, which must not be empty: the only one of a precision other than
 * auto. */
unsigned precision_bits(precision_widths widths);

/* Share of |X|^2 that is left after storing X dense at `bits`, or as the product of two factors,
 * the second refitted to the first; measured on normal rows (quantise_noise), 1 for dtypes. */
double precision_kept_dense(unsigned bits);
double precision_kept_factors(unsigned bits);

/* Bytes of one component of an m x n matrix, and of the whole matrix kept dense. */
uint64_t precision_component_bytes(uint64_t m, uint64_t n, unsigned bits);
uint64_t precision_dense_bytes(uint64_t m, uint64_t n, unsigned bits);

/* The smallest relative error a precision can reach, everything kept whole: about. */
double precision_floor(didi_precision precision);

/* A value >= 0 rounded up to three digits: for figures that are accepted when sent back. */
double precision_round_up(double value);

/* Bytes per parameter at which a component earns its place: the lowest of bytes / energy kept over
 * the widths, groups of full length. With it a threshold of gain per byte is one per parameter. */
double precision_entry_bytes(precision_widths widths);
