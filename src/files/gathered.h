/* SPDX-License-Identifier: Apache-2.0 */
/* Many small tensors as one: what a header says of each, a hundred bytes and more, in eight.
 *
 * The bytes: u32 count; for each, by rising key, u64: key << 20 | length, lengths below 2^20; then
 * what each holds, in the same order. A key is the lower 44 bits of FNV-1a (64 bits) of a name,
 * folded: (h ^ h >> 44). Names are not there: who asks for one knows it. */
#pragma once

#include "src/files/safetensors.h"

#include <stdint.h>

enum {
    GATHERED_COUNT_BYTES = 4,
    GATHERED_ENTRY_BYTES = 8,
    GATHERED_LENGTH_BITS = 20, /* a part is shorter than 2^20 bytes */
};

uint64_t gathered_key(const char *name);

/* What the bytes begin with: room for GATHERED_COUNT_BYTES + count * GATHERED_ENTRY_BYTES. */
void gathered_write_index(const safetensors_tensor *parts, size_t count, uint8_t *out);

typedef struct gathered gathered;

/* Reads the index of the U8 tensor `from` of a file. Errors: DIDI_FORMAT (of another dtype; lengths
 * that do not add up; keys that do not rise), DIDI_IO, DIDI_NO_MEMORY. */
int gathered_open(int fd, const char *file, const safetensors_tensor *from, gathered **ret_gathered,
                  didi_error *error);
void gathered_free(gathered *self);

/* The part of this name, as a tensor of bytes with the name of all of them; NULL if absent (also of
 * NULL). */
const safetensors_tensor *gathered_find(const gathered *self, const char *name);
