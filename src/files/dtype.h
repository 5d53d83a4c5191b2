/* SPDX-License-Identifier: Apache-2.0 */
/* The element types of safetensors files and conversions from and to float32. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* One row per dtype in the writer's order (ascending alignment): id, file name, bits, kind.
 * Kind: F computes (converted to f32), I passes through and must be equal, O is only listed. */
#define DIDI_DTYPE_TABLE(X)                                                                        \
    X(BOOL, "BOOL", 8, I)                                                                          \
    X(F4, "F4", 4, O)                                                                              \
    X(F6_E2M3, "F6_E2M3", 6, O)                                                                    \
    X(F6_E3M2, "F6_E3M2", 6, O)                                                                    \
    X(U8, "U8", 8, I)                                                                              \
    X(I8, "I8", 8, I)                                                                              \
    X(F8_E5M2, "F8_E5M2", 8, F)                                                                    \
    X(F8_E4M3, "F8_E4M3", 8, F)                                                                    \
    X(F8_E8M0, "F8_E8M0", 8, O)                                                                    \
    X(F8_E4M3FNUZ, "F8_E4M3FNUZ", 8, O)                                                            \
    X(F8_E5M2FNUZ, "F8_E5M2FNUZ", 8, O)                                                            \
    X(I16, "I16", 16, I)                                                                           \
    X(U16, "U16", 16, I)                                                                           \
    X(F16, "F16", 16, F)                                                                           \
    X(BF16, "BF16", 16, F)                                                                         \
    X(I32, "I32", 32, I)                                                                           \
    X(U32, "U32", 32, I)                                                                           \
    X(F32, "F32", 32, F)                                                                           \
    X(C64, "C64", 64, O)                                                                           \
    X(F64, "F64", 64, F)                                                                           \
    X(I64, "I64", 64, I)                                                                           \
    X(U64, "U64", 64, I)

typedef enum didi_dtype {
#define DIDI_DTYPE_ENUMERATOR(id, name, bits, kind) DIDI_DTYPE_##id,
    DIDI_DTYPE_TABLE(DIDI_DTYPE_ENUMERATOR)
#undef DIDI_DTYPE_ENUMERATOR
        DIDI_DTYPE_COUNT
} didi_dtype;

/* File name of a dtype ("BF16"). Static. `dtype` must be in the table. */
const char *didi_dtype_name(didi_dtype dtype);

/* Looks a file name up, exact and case-sensitive. Returns false, *ret untouched, if unknown. */
bool didi_dtype_parse(const char *name, didi_dtype *ret_dtype);

/* Bits per element (4 to 64). */
unsigned didi_dtype_bits(didi_dtype dtype);

/* True for F8_E5M2, F8_E4M3, F16, BF16, F32, F64: the types a merge computes with. */
bool didi_dtype_is_float(didi_dtype dtype);

/* True for BOOL, integers of 8 to 64 bits: compared for equality and passed through. */
bool didi_dtype_is_integer(didi_dtype dtype);

/* Converts `count` little-endian elements at `source` (any alignment) to float32. F64 rounds to
 * nearest even; NaN and Inf stay what they are (an F64 beyond float range becomes Inf).
 * `dtype` must satisfy didi_dtype_is_float. Regions must not overlap. */
void didi_dtype_to_f32(didi_dtype dtype, const void *source, float *destination, size_t count);

/* Converts float32 to `dtype`, which must satisfy didi_dtype_is_float, round to nearest even, any
 * alignment at `destination`. Values beyond its range become Inf, or in F8_E4M3, which has none
 * (its codes 0x7F and 0xFF are NaN, its largest number is 448), NaN: check with
 * didi_dtype_first_nonfinite_in. NaN stays NaN. Regions must not overlap. The 8-bit formats are
 * those of P. Micikevicius et al., FP8 Formats for Deep Learning, 2022. */
void didi_dtype_from_f32(didi_dtype dtype, const float *source, void *destination, size_t count);

/* Rounds values[0..count) to what `dtype` keeps of them. Returns the index of the first that is
 * NaN, Inf or beyond its range, or count; of values behind that one nothing is promised. */
size_t didi_dtype_round(didi_dtype dtype, float *values, size_t count);

/* Index of the first NaN or Inf in values[0..count), or count if all are finite. */
size_t didi_dtype_first_nonfinite(const float *values, size_t count);

/* The same for `count` encoded elements at `source` (any alignment) of a dtype that satisfies
 * didi_dtype_is_float. */
size_t didi_dtype_first_nonfinite_in(didi_dtype dtype, const void *source, size_t count);
