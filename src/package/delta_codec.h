/* SPDX-License-Identifier: Apache-2.0 */
/* How the numbers of a tensor kept whole lie in a package: as a dtype, or packed row by row. */
#pragma once

#include "src/package/packed.h"
#include "src/package/widths.h"

typedef struct delta_codec {
    const char *suffix;        /* of the tensor's name in the package */
    const char *masked_suffix; /* where masks take of it */
    const char *stored_as;     /* for messages */
    size_t unit;               /* numbers that are encoded together: one, or a row's */
    size_t unit_bytes;
    size_t header_bytes; /* before the first unit; 0 for none */
    uint8_t header[PACKED_DENSE_HEADER_BYTES];
    didi_dtype dtype; /* where not packed */
    unsigned bits;    /* where packed */
} delta_codec;

/* For rows of `columns` numbers. `bits` is the width where the precision packs; 0 is then one that
 * is not chosen yet: encoded to no bytes, decoded to what was there. */
delta_codec delta_codec_of(didi_precision precision, size_t columns, unsigned bits);

/* Numbers of whole units, about `wanted` and at least one unit. */
size_t delta_codec_room(const delta_codec *self, size_t wanted);
/* Bytes of `count` numbers, and the byte at which number `first` begins; both of whole units. */
size_t delta_codec_bytes(const delta_codec *self, size_t count);
uint64_t delta_codec_place(const delta_codec *self, uint64_t first);

/* Encodes `count` numbers into out[delta_codec_bytes], and back as a reader gets them. Packed
 * numbers must be finite. */
void delta_codec_encode(const delta_codec *self, const float *values, size_t count, void *out);
void delta_codec_decode(const delta_codec *self, const void *bytes, size_t count,
                        float *ret_values);
