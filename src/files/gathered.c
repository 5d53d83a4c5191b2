/* SPDX-License-Identifier: Apache-2.0 */
/* Small tensors gathered in one. */
#include "src/files/gathered.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FNV_START 0xCBF29CE484222325U
#define FNV_PRIME 0x100000001B3U

enum { KEY_BITS = 64 - GATHERED_LENGTH_BITS };

struct gathered {
    size_t count;
    uint64_t *keys;
    uint64_t *shapes;
    safetensors_tensor *parts;
};

uint64_t gathered_key(const char *name)
{
    uint64_t hash = FNV_START;
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * FNV_PRIME;
    return (hash ^ hash >> KEY_BITS) & (((uint64_t)1 << KEY_BITS) - 1);
}

void gathered_write_index(const safetensors_tensor *parts, size_t count, uint8_t *out)
{
    uint32_t length = (uint32_t)count;
    assert(count <= SAFETENSORS_TENSORS_MAX);
    memcpy(out, &length, sizeof length);
    for (size_t i = 0; i < count; i++) {
        assert(parts[i].bytes >> GATHERED_LENGTH_BITS == 0);
        uint64_t entry = gathered_key(parts[i].name) << GATHERED_LENGTH_BITS | parts[i].bytes;
        memcpy(out + GATHERED_COUNT_BYTES + i * sizeof entry, &entry, sizeof entry);
    }
}

void gathered_free(gathered *self)
{
    if (self == NULL)
        return;
    free(self->keys);
    free(self->shapes);
    free(self->parts);
    free(self);
}

static int fail_index(const char *file, const safetensors_tensor *from, didi_error *error)
{
    return didi_fail(error, DIDI_FORMAT, from->name, "what is gathered in %s does not add up",
                     file);
}

/* Turns the entries, which stand in `keys`, into keys and parts. */
static int place_parts(gathered *self, const char *file, const safetensors_tensor *from,
                       didi_error *error)
{
    uint64_t at = GATHERED_COUNT_BYTES + self->count * GATHERED_ENTRY_BYTES;
    for (size_t i = 0; i < self->count; i++) {
        uint64_t bytes = self->keys[i] & (((uint64_t)1 << GATHERED_LENGTH_BITS) - 1);
        self->keys[i] >>= GATHERED_LENGTH_BITS;
        if (bytes == 0 || bytes > from->bytes - at || (i > 0 && self->keys[i] <= self->keys[i - 1]))
            return fail_index(file, from, error);
        self->shapes[i] = bytes;
        self->parts[i] = (safetensors_tensor){.name = from->name,
                                              .dtype = DIDI_DTYPE_U8,
                                              .dimensions = 1,
                                              .shape = &self->shapes[i],
                                              .elements = bytes,
                                              .offset = from->offset + at,
                                              .bytes = bytes};
        at += bytes;
    }
    return at == from->bytes ? DIDI_OK : fail_index(file, from, error);
}

int gathered_open(int fd, const char *file, const safetensors_tensor *from, gathered **ret_gathered,
                  didi_error *error)
{
    uint32_t count = 0;
    if (from->dtype != DIDI_DTYPE_U8 || from->bytes < GATHERED_COUNT_BYTES)
        return fail_index(file, from, error);
    int status = file_pread_all(fd, &count, sizeof count, from->offset, file, error);
    if (status == DIDI_OK && count > (from->bytes - GATHERED_COUNT_BYTES) / GATHERED_ENTRY_BYTES)
        status = fail_index(file, from, error);
    if (status != DIDI_OK)
        return status;
    gathered *self = memory_zeroed(1, sizeof *self);
    if (self != NULL) {
        self->count = count;
        self->keys = memory_zeroed(count, sizeof *self->keys);
        self->shapes = memory_zeroed(count, sizeof *self->shapes);
        self->parts = memory_zeroed(count, sizeof *self->parts);
    }
    if (self == NULL || self->keys == NULL || self->shapes == NULL || self->parts == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, file, "index of %u parts", count);
    if (status == DIDI_OK)
        status = file_pread_all(fd, self->keys, count * sizeof *self->keys,
                                from->offset + GATHERED_COUNT_BYTES, file, error);
    if (status == DIDI_OK)
        status = place_parts(self, file, from, error);
    if (status != DIDI_OK)
        gathered_free(self);
    else
        *ret_gathered = self;
    return status;
}

const safetensors_tensor *gathered_find(const gathered *self, const char *name)
{
    size_t low = 0;
    size_t high = self != NULL ? self->count : 0;
    uint64_t key = gathered_key(name);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (self->keys[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return self != NULL && low < self->count && self->keys[low] == key ? &self->parts[low] : NULL;
}
