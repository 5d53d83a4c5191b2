/* SPDX-License-Identifier: Apache-2.0 */
/* The element types of safetensors files and conversions from and to float32. */
#include "src/files/dtype.h"

#include "src/math/math.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are read as the machine has them");
_Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "IEEE 754 formats");

enum { CHECK_BLOCK = 4096 }; /* elements whose finiteness is decided at once */

typedef enum dtype_kind { KIND_F, KIND_I, KIND_O } dtype_kind;

static const struct {
    const char *name;
    unsigned bits;
    dtype_kind kind;
} dtypes[DIDI_DTYPE_COUNT] = {
#define DTYPE_ROW(id, name, bits, kind) [DIDI_DTYPE_##id] = {(name), (bits), KIND_##kind},
    DIDI_DTYPE_TABLE(DTYPE_ROW)
#undef DTYPE_ROW
};

const char *didi_dtype_name(didi_dtype dtype)
{
    assert((unsigned)dtype < DIDI_DTYPE_COUNT);
    return dtypes[dtype].name;
}

bool didi_dtype_parse(const char *name, didi_dtype *ret_dtype)
{
    for (size_t i = 0; i < DIDI_DTYPE_COUNT; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *ret_dtype = (didi_dtype)i;
            return true;
        }
    }
    return false;
}

unsigned didi_dtype_bits(didi_dtype dtype)
{
    assert((unsigned)dtype < DIDI_DTYPE_COUNT);
    return dtypes[dtype].bits;
}

bool didi_dtype_is_float(didi_dtype dtype)
{
    return dtypes[dtype].kind == KIND_F;
}

bool didi_dtype_is_integer(didi_dtype dtype)
{
    return dtypes[dtype].kind == KIND_I;
}

static inline uint32_t bits_of(float value)
{
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float value = 0;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* A choice the compiler cannot turn into a branch, which would keep the loops from vectorising. */
static inline uint32_t choose(bool condition, uint32_t yes, uint32_t no)
{
    uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

/* Moves the half's exponent and mantissa up; a subnormal is normalised by a float subtraction that
 * is exact, and an exponent of all ones is raised to the float's. */
static inline uint32_t bits_of_half(uint32_t half)
{
    uint32_t magnitude = (half & 0x7FFFu) << 13;
    uint32_t exponent = magnitude & 0x0F800000u;
    uint32_t normal = magnitude + (112u << 23);
    uint32_t special = normal + (112u << 23);
    uint32_t subnormal = bits_of(float_of(magnitude + (113u << 23)) - float_of(113u << 23));
    uint32_t result = choose(exponent == 0x0F800000u, special, normal);
    result = choose(exponent == 0, subnormal, result);
    return result | (half & 0x8000u) << 16;
}

/* Round to nearest even: by an integer addition for normal results, by the rounding of a float
 * addition for subnormal ones. */
static inline uint16_t half_of_bits(uint32_t bits)
{
    uint32_t sign = bits & 0x80000000u;
    uint32_t magnitude = bits ^ sign;
    uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
    uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    uint32_t special = choose(magnitude > 0x7F800000u, 0x7E00u, 0x7C00u);
    uint32_t result = choose(magnitude < 113u << 23, subnormal, normal);
    result = choose(magnitude >= 143u << 23, special, result);
    return (uint16_t)(result | sign >> 16);
}

static inline uint16_t bfloat_of_bits(uint32_t bits)
{
    uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    uint32_t quiet = bits >> 16 | 0x40u;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

VECTOR_CLONES
static void half_to_f32(const char *restrict source, float *restrict destination, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t half = 0;
        memcpy(&half, source + 2 * i, sizeof(half));
        destination[i] = float_of(bits_of_half(half));
    }
}

VECTOR_CLONES
static void bfloat_to_f32(const char *restrict source, float *restrict destination, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t bfloat = 0;
        memcpy(&bfloat, source + 2 * i, sizeof(bfloat));
        destination[i] = float_of((uint32_t)bfloat << 16);
    }
}

VECTOR_CLONES
static void double_to_f32(const char *restrict source, float *restrict destination, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double wide = 0;
        memcpy(&wide, source + 8 * i, sizeof(wide));
        destination[i] = (float)wide;
    }
}

VECTOR_CLONES
static void half_from_f32(const float *restrict source, char *restrict destination, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t half = half_of_bits(bits_of(source[i]));
        memcpy(destination + 2 * i, &half, sizeof(half));
    }
}

VECTOR_CLONES
static void bfloat_from_f32(const float *restrict source, char *restrict destination, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t bfloat = bfloat_of_bits(bits_of(source[i]));
        memcpy(destination + 2 * i, &bfloat, sizeof(bfloat));
    }
}

VECTOR_CLONES
static void double_from_f32(const float *restrict source, char *restrict destination, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double wide = source[i];
        memcpy(destination + 8 * i, &wide, sizeof(wide));
    }
}

void didi_dtype_to_f32(didi_dtype dtype, const void *source, float *destination, size_t count)
{
    if (dtype == DIDI_DTYPE_F32 && count > 0)
        memcpy(destination, source, count * sizeof(float));
    else if (dtype == DIDI_DTYPE_F16)
        half_to_f32(source, destination, count);
    else if (dtype == DIDI_DTYPE_BF16)
        bfloat_to_f32(source, destination, count);
    else if (dtype == DIDI_DTYPE_F64)
        double_to_f32(source, destination, count);
}

void didi_dtype_from_f32(didi_dtype dtype, const float *source, void *destination, size_t count)
{
    if (dtype == DIDI_DTYPE_F32 && count > 0)
        memcpy(destination, source, count * sizeof(float));
    else if (dtype == DIDI_DTYPE_F16)
        half_from_f32(source, destination, count);
    else if (dtype == DIDI_DTYPE_BF16)
        bfloat_from_f32(source, destination, count);
    else if (dtype == DIDI_DTYPE_F64)
        double_from_f32(source, destination, count);
}

/* Each returns nonzero if an exponent among the `count` elements is all ones. */
VECTOR_CLONES
static uint32_t any_nonfinite_16(const char *source, size_t count, uint32_t mask)
{
    uint32_t found = 0;
    for (size_t i = 0; i < count; i++) {
        uint16_t bits = 0;
        memcpy(&bits, source + 2 * i, sizeof(bits));
        found |= (bits & mask) == mask;
    }
    return found;
}

VECTOR_CLONES
static uint32_t any_nonfinite_32(const char *source, size_t count, uint32_t mask)
{
    uint32_t found = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = 0;
        memcpy(&bits, source + 4 * i, sizeof(bits));
        found |= (bits & mask) == mask;
    }
    return found;
}

VECTOR_CLONES
static uint32_t any_nonfinite_64(const char *source, size_t count, uint32_t high_mask)
{
    uint64_t mask = (uint64_t)high_mask << 32;
    uint64_t found = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = 0;
        memcpy(&bits, source + 8 * i, sizeof(bits));
        found |= (bits & mask) == mask;
    }
    return (uint32_t)found;
}

size_t didi_dtype_first_nonfinite_in(didi_dtype dtype, const void *source, size_t count)
{
    assert(didi_dtype_is_float(dtype));
    uint32_t (*any)(const char *, size_t, uint32_t) = any_nonfinite_16;
    uint32_t mask = 0x7C00u;
    size_t size = didi_dtype_bits(dtype) / 8;
    if (dtype == DIDI_DTYPE_BF16) {
        mask = 0x7F80u;
    } else if (dtype == DIDI_DTYPE_F32) {
        any = any_nonfinite_32;
        mask = 0x7F800000u;
    } else if (dtype == DIDI_DTYPE_F64) {
        any = any_nonfinite_64;
        mask = 0x7FF00000u;
    }
    const char *bytes = source;
    for (size_t start = 0; start < count; start += CHECK_BLOCK) {
        size_t block = count - start < CHECK_BLOCK ? count - start : CHECK_BLOCK;
        if (!any(bytes + start * size, block, mask))
            continue;
        size_t index = start;
        while (!any(bytes + index * size, 1, mask))
            index++;
        return index;
    }
    return count;
}

size_t didi_dtype_first_nonfinite(const float *values, size_t count)
{
    return didi_dtype_first_nonfinite_in(DIDI_DTYPE_F32, values, count);
}
