/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of tensors kept whole to bytes and back. */
#include "src/package/delta_codec.h"

#include "src/math/math.h"

#include <assert.h>

delta_codec delta_codec_of(didi_precision precision, size_t columns, unsigned bits)
{
    didi_dtype dtype = DIDI_DTYPE_F32;
    if (precision_is_plain(precision, &dtype))
        return (delta_codec){.suffix = "delta",
                             .masked_suffix = "masked",
                             .stored_as = didi_dtype_name(dtype),
                             .unit = 1,
                             .unit_bytes = didi_dtype_bits(dtype) / 8,
                             .dtype = dtype};
    delta_codec self = {.suffix = "delta_packed",
                        .masked_suffix = "masked_packed",
                        .stored_as = "packed numbers",
                        .unit = columns};
    if (bits > 0) {
        self.bits = bits;
        self.unit_bytes = quantise_row_bytes(columns, bits);
        self.header_bytes = sizeof self.header;
        packed_dense_begin(bits, self.header);
    }
    return self;
}

size_t delta_codec_room(const delta_codec *self, size_t wanted)
{
    return self->unit < wanted ? wanted / self->unit * self->unit : self->unit;
}

size_t delta_codec_bytes(const delta_codec *self, size_t count)
{
    assert(count % self->unit == 0);
    return count / self->unit * self->unit_bytes;
}

uint64_t delta_codec_place(const delta_codec *self, uint64_t first)
{
    assert(first % self->unit == 0);
    return self->header_bytes + first / self->unit * self->unit_bytes;
}

void delta_codec_encode(const delta_codec *self, const float *values, size_t count, void *out)
{
    if (self->bits > 0)
        packed_dense_rows(self->unit, self->bits, values, count / self->unit, out);
    else if (self->unit_bytes > 0)
        didi_dtype_from_f32(self->dtype, values, out, count);
}

void delta_codec_decode(const delta_codec *self, const void *bytes, size_t count, float *ret_values)
{
    const uint8_t *row = bytes;
    if (self->bits == 0 && self->unit_bytes > 0)
        didi_dtype_to_f32(self->dtype, bytes, ret_values, count);
    for (size_t i = 0; self->bits > 0 && i < count; i += self->unit, row += self->unit_bytes)
        dequantise_row(row, self->unit, self->bits, ret_values + i);
}
