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

/* E5M2 is the upper byte of a half. */
static inline uint32_t bits_of_e5m2(uint32_t code)
{
    return bits_of_half(code << 8);
}

static inline uint32_t bits_of_e4m3(uint32_t code)
{
    uint32_t magnitude = (code & 0x7Fu) << 20;
    uint32_t normal = magnitude + (120u << 23);
    uint32_t subnormal = bits_of(float_of(magnitude + (121u << 23)) - float_of(121u << 23));
    uint32_t result = choose(magnitude == 0x07F00000u, 0x7FC00000u, normal);
    result = choose(magnitude < 1u << 23, subnormal, result);
    return result | (code & 0x80u) << 24;
}

/* As half_of_bits; the float that is added has the format's smallest step as its last bit. */
static inline uint8_t e5m2_of_bits(uint32_t bits)
{
    uint32_t sign = bits & 0x80000000u;
    uint32_t magnitude = bits ^ sign;
    uint32_t normal = (magnitude - (112u << 23) + 0xFFFFFu + (magnitude >> 21 & 1u)) >> 21;
    uint32_t subnormal = bits_of(float_of(magnitude) + 128.0f) - bits_of(128.0f);
    uint32_t special = choose(magnitude > 0x7F800000u, 0x7Eu, 0x7Cu);
    uint32_t result = choose(magnitude < 113u << 23, subnormal, normal);
    result = choose(magnitude >= 143u << 23, special, result);
    return (uint8_t)(result | sign >> 24);
}

/* What rounds to 480 or more has the code of NaN. */
static inline uint8_t e4m3_of_bits(uint32_t bits)
{
    uint32_t sign = bits & 0x80000000u;
    uint32_t magnitude = bits ^ sign;
    uint32_t normal = (magnitude - (120u << 23) + 0x7FFFFu + (magnitude >> 20 & 1u)) >> 20;
    uint32_t subnormal = bits_of(float_of(magnitude) + 16384.0f) - bits_of(16384.0f);
    uint32_t result = choose(magnitude < 121u << 23, subnormal, normal);
    result = choose(magnitude >= bits_of(480.0f), 0x7Fu, result);
    return (uint8_t)(result | sign >> 24);
}

/* Elements of one type, at any alignment, to those of another: `value` is made of `from`. */
#define CONVERSION(name, from_type, to_type, value)                                                \
    VECTOR_CLONES                                                                                  \
    static void name(const char *restrict source, char *restrict destination, size_t count)        \
    {                                                                                              \
        for (size_t i = 0; i < count; i++) {                                                       \
            from_type from = 0;                                                                    \
            memcpy(&from, source + i * sizeof from, sizeof from);                                  \
            to_type to = (value);                                                                  \
            memcpy(destination + i * sizeof to, &to, sizeof to);                                   \
        }                                                                                          \
    }

CONVERSION(half_to_f32, uint16_t, float, float_of(bits_of_half(from)))
CONVERSION(e5m2_to_f32, uint8_t, float, float_of(bits_of_e5m2(from)))
CONVERSION(e4m3_to_f32, uint8_t, float, float_of(bits_of_e4m3(from)))
CONVERSION(bfloat_to_f32, uint16_t, float, float_of((uint32_t)from << 16))
CONVERSION(double_to_f32, double, float, (float)from)
CONVERSION(half_from_f32, float, uint16_t, half_of_bits(bits_of(from)))
CONVERSION(e5m2_from_f32, float, uint8_t, e5m2_of_bits(bits_of(from)))
CONVERSION(e4m3_from_f32, float, uint8_t, e4m3_of_bits(bits_of(from)))
CONVERSION(bfloat_from_f32, float, uint16_t, bfloat_of_bits(bits_of(from)))
CONVERSION(double_from_f32, float, double, from)

void didi_dtype_to_f32(didi_dtype dtype, const void *source, float *destination, size_t count)
{
    if (dtype == DIDI_DTYPE_F32 && count > 0)
        memcpy(destination, source, count * sizeof(float));
    else if (dtype == DIDI_DTYPE_F16)
        half_to_f32(source, (char *)destination, count);
    else if (dtype == DIDI_DTYPE_BF16)
        bfloat_to_f32(source, (char *)destination, count);
    else if (dtype == DIDI_DTYPE_F64)
        double_to_f32(source, (char *)destination, count);
    else if (dtype == DIDI_DTYPE_F8_E5M2)
        e5m2_to_f32(source, (char *)destination, count);
    else if (dtype == DIDI_DTYPE_F8_E4M3)
        e4m3_to_f32(source, (char *)destination, count);
}

void didi_dtype_from_f32(didi_dtype dtype, const float *source, void *destination, size_t count)
{
    if (dtype == DIDI_DTYPE_F32 && count > 0)
        memcpy(destination, source, count * sizeof(float));
    else if (dtype == DIDI_DTYPE_F16)
        half_from_f32((const char *)source, destination, count);
    else if (dtype == DIDI_DTYPE_BF16)
        bfloat_from_f32((const char *)source, destination, count);
    else if (dtype == DIDI_DTYPE_F64)
        double_from_f32((const char *)source, destination, count);
    else if (dtype == DIDI_DTYPE_F8_E5M2)
        e5m2_from_f32((const char *)source, destination, count);
    else if (dtype == DIDI_DTYPE_F8_E4M3)
        e4m3_from_f32((const char *)source, destination, count);
}

/* Nonzero if the bits of `mask` are all ones in one of the elements: the exponent's, and in E4M3
 * all but the sign. */
#define ANY_NONFINITE(name, type)                                                                  \
    VECTOR_CLONES                                                                                  \
    static type name(const char *source, size_t count, type mask)                                  \
    {                                                                                              \
        type found = 0;                                                                            \
        for (size_t i = 0; i < count; i++) {                                                       \
            type bits = 0;                                                                         \
            memcpy(&bits, source + i * sizeof bits, sizeof bits);                                  \
            found |= (bits & mask) == mask;                                                        \
        }                                                                                          \
        return found;                                                                              \
    }

ANY_NONFINITE(any_nonfinite_8, uint8_t)
ANY_NONFINITE(any_nonfinite_16, uint16_t)
ANY_NONFINITE(any_nonfinite_32, uint32_t)
ANY_NONFINITE(any_nonfinite_64, uint64_t)

static bool any_nonfinite(didi_dtype dtype, const char *source, size_t count)
{
    switch (dtype) {
    case DIDI_DTYPE_F8_E5M2:
        return any_nonfinite_8(source, count, 0x7Cu) != 0;
    case DIDI_DTYPE_F8_E4M3:
        return any_nonfinite_8(source, count, 0x7Fu) != 0;
    case DIDI_DTYPE_F16:
        return any_nonfinite_16(source, count, 0x7C00u) != 0;
    case DIDI_DTYPE_BF16:
        return any_nonfinite_16(source, count, 0x7F80u) != 0;
    case DIDI_DTYPE_F32:
        return any_nonfinite_32(source, count, 0x7F800000u) != 0;
    default:
        return any_nonfinite_64(source, count, (uint64_t)0x7FF00000u << 32) != 0;
    }
}

size_t didi_dtype_first_nonfinite_in(didi_dtype dtype, const void *source, size_t count)
{
    assert(didi_dtype_is_float(dtype));
    size_t size = didi_dtype_bits(dtype) / 8;
    const char *bytes = source;
    for (size_t start = 0; start < count; start += CHECK_BLOCK) {
        size_t block = count - start < CHECK_BLOCK ? count - start : CHECK_BLOCK;
        if (!any_nonfinite(dtype, bytes + start * size, block))
            continue;
        size_t index = start;
        while (!any_nonfinite(dtype, bytes + index * size, 1))
            index++;
        return index;
    }
    return count;
}

size_t didi_dtype_first_nonfinite(const float *values, size_t count)
{
    return didi_dtype_first_nonfinite_in(DIDI_DTYPE_F32, values, count);
}

size_t didi_dtype_round(didi_dtype dtype, float *values, size_t count)
{
    enum { PIECE = 1024 };
    char kept[PIECE * sizeof(double)];
    for (size_t first = 0; first < count; first += PIECE) {
        size_t part = count - first < PIECE ? count - first : PIECE;
        didi_dtype_from_f32(dtype, values + first, kept, part);
        didi_dtype_to_f32(dtype, kept, values + first, part);
        size_t bad = didi_dtype_first_nonfinite(values + first, part);
        if (bad < part)
            return first + bad;
    }
    return count;
}
