/* SPDX-License-Identifier: Apache-2.0 */
/* Widths of stored numbers. */
#include "src/package/widths.h"

#include "src/base/base.h"
#include "src/package/packed.h"

#include <assert.h>
#include <math.h>

enum {
    T1 = PACKED_TRELLIS + 1,
    T4 = PACKED_TRELLIS + TRELLIS_BITS_MAX,
    TRELLIS_ROW = 256, /* numbers for which a level is counted: rows are of this order */
};

const unsigned precision_width_bits[PRECISION_WIDTHS] = {T1, T1 + 1, T1 + 2, T4, 1, 2,  3,
                                                         4,  5,      6,      7,  8, 16, 32};

/* All widths from one to another. */
static precision_widths widths_between(unsigned first, unsigned last)
{
    return (2U << precision_width_index(last)) - (1U << precision_width_index(first));
}

bool precision_is_plain(didi_precision precision, didi_dtype *ret_dtype)
{
    didi_dtype dtype = precision == DIDI_PRECISION_F32    ? DIDI_DTYPE_F32
                       : precision == DIDI_PRECISION_BF16 ? DIDI_DTYPE_BF16
                                                          : DIDI_DTYPE_F16;
    if (ret_dtype != NULL)
        *ret_dtype = dtype;
    return precision == DIDI_PRECISION_F32 || precision == DIDI_PRECISION_BF16 ||
           precision == DIDI_PRECISION_F16;
}

didi_dtype precision_values_dtype(didi_precision precision)
{
    didi_dtype dtype = DIDI_DTYPE_BF16;
    return precision_is_plain(precision, &dtype) ? dtype : DIDI_DTYPE_BF16;
}

unsigned precision_plain_bits(unsigned width)
{
    return width > PACKED_TRELLIS ? width - PACKED_TRELLIS : width;
}

unsigned precision_width_index(unsigned bits)
{
    unsigned at = 0;
    while (at + 1 < PRECISION_WIDTHS && precision_width_bits[at] != bits)
        at++;
    assert(precision_width_bits[at] == bits);
    return at;
}

precision_widths precision_of_matrices(didi_precision precision)
{
    static const unsigned bits[] = {
        [DIDI_PRECISION_F32] = 32, [DIDI_PRECISION_BF16] = 16, [DIDI_PRECISION_F16] = 16,
        [DIDI_PRECISION_INT8] = 8, [DIDI_PRECISION_INT4] = 4,  [DIDI_PRECISION_INT3] = 3,
    };
    return (size_t)precision < sizeof bits / sizeof *bits
               ? 1U << precision_width_index(bits[precision])
               : widths_between(1, QUANTISE_BITS_MAX);
}

precision_widths precision_of_factors(didi_precision precision)
{
    return precision == DIDI_PRECISION_AUTO
               ? widths_between(T1, T4) | widths_between(TRELLIS_BITS_MAX + 1, QUANTISE_BITS_MAX)
               : precision_of_matrices(precision);
}

precision_widths precision_of_dense(didi_precision precision)
{
    bool narrow = precision == DIDI_PRECISION_INT4 || precision == DIDI_PRECISION_INT3;
    return narrow ? 1U << precision_width_index(8) : precision_of_matrices(precision);
}

unsigned precision_given_bits(didi_precision precision)
{
    didi_dtype dtype;
    return precision_is_plain(precision, &dtype) ? (unsigned)didi_dtype_bits(dtype) : 0;
}

unsigned precision_bits(precision_widths widths)
{
    assert(widths != 0 && widths >> PRECISION_WIDTHS == 0);
    for (unsigned i = 0; i < PRECISION_WIDTHS; i++)
        if ((widths >> i & 1U) != 0)
            return precision_width_bits[i];
    return 0;
}

double precision_kept_dense(unsigned bits)
{
    assert(bits > 0);
    return bits <= QUANTISE_BITS_MAX ? 1 - quantise_noise(bits) : 1;
}

double precision_kept_factors(unsigned bits)
{
    double kept = bits > PACKED_TRELLIS ? 1 - trellis_noise(bits - PACKED_TRELLIS)
                                        : precision_kept_dense(bits);
    return kept * kept;
}

uint64_t precision_component_bytes(uint64_t m, uint64_t n, unsigned bits)
{
    assert(bits > 0);
    return bits <= QUANTISE_BITS_MAX || bits > PACKED_TRELLIS
               ? packed_component_bytes(m, n, bits)
               : memory_multiply(memory_add(m, n), bits / 8);
}

uint64_t precision_dense_bytes(uint64_t m, uint64_t n, unsigned bits)
{
    assert(bits > 0);
    return bits <= QUANTISE_BITS_MAX ? packed_dense_bytes(m, n, bits)
                                     : memory_multiply(memory_multiply(m, n), bits / 8);
}

double precision_round_up(double value)
{
    assert(value >= 0);
    double unit = value > 0 ? pow(10, floor(log10(value)) - 2) : 1;
    return ceil(value / unit - 1e-9) * unit;
}

double precision_floor(didi_precision precision)
{
    switch (precision) {
    case DIDI_PRECISION_F32:
        return 1e-13;
    case DIDI_PRECISION_F16:
        return 1e-7;
    case DIDI_PRECISION_BF16:
        return 4e-6;
    default:
        break;
    }
    precision_widths widths = precision_of_matrices(precision);
    unsigned bits = precision == DIDI_PRECISION_AUTO ? QUANTISE_BITS_MAX : precision_bits(widths);
    return precision_round_up(1.2 * quantise_noise(bits));
}

double precision_entry_bytes(precision_widths widths)
{
    assert(widths != 0 && widths >> PRECISION_WIDTHS == 0);
    double lowest = INFINITY;
    for (unsigned i = 0; i < PRECISION_WIDTHS; i++) {
        unsigned width = precision_width_bits[i];
        unsigned bits = precision_plain_bits(width);
        double scale = width > PACKED_TRELLIS      ? 8.0 / TRELLIS_ROW
                       : bits <= QUANTISE_BITS_MAX ? 8.0 / QUANTISE_GROUP
                                                   : 0;
        double bytes = (bits + scale) / 8 / precision_kept_factors(width);
        if ((widths >> i & 1U) != 0 && bytes < lowest)
            lowest = bytes;
    }
    return lowest;
}

const char *didi_precision_name(didi_precision precision)
{
    static const char *const names[] = {DIDI_PRECISION_TABLE(TEXT_WORD)};
    return (size_t)precision < sizeof names / sizeof *names ? names[precision] : "unknown";
}

const char *didi_budget_unit_name(didi_budget_unit unit)
{
    static const char *const names[] = {DIDI_BUDGET_TABLE(TEXT_WORD)};
    return (size_t)unit < sizeof names / sizeof *names ? names[unit] : "unknown";
}
