/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a body in chunks. Its data must not depend on how its bytes arrived. */
#include "daemon/http/chunks.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct decoded {
    char *data;
    size_t bytes, taken;
    int whole, broken;
} decoded;

static void check(int holds)
{
    if (!holds)
        abort();
}

/* Feeds at most `step` bytes at a time. */
static decoded decode(const char *bytes, size_t size, size_t step)
{
    http_chunks chunks = {0};
    decoded found = {.data = malloc(size + 1)};
    const char *fault = NULL;
    check(found.data != NULL);
    while (found.taken < size && fault == NULL && chunks.phase != HTTP_CHUNK_END) {
        const char *piece = NULL;
        size_t piece_bytes = 0;
        size_t count = size - found.taken < step ? size - found.taken : step;
        size_t taken =
            http_chunks_take(&chunks, bytes + found.taken, count, &piece, &piece_bytes, &fault);
        check(taken > 0 && taken <= count && piece_bytes <= taken);
        if (piece_bytes > 0)
            memcpy(found.data + found.bytes, piece, piece_bytes);
        found.bytes += piece_bytes;
        found.taken += taken;
        check(chunks.extra <= HTTP_CHUNK_EXTRA_BYTES || fault != NULL);
    }
    found.whole = chunks.phase == HTTP_CHUNK_END;
    found.broken = fault != NULL;
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 2, 7};
    const char *bytes = (const char *)data;
    decoded whole = decode(bytes, size, size == 0 ? 1 : size);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        decoded parts = decode(bytes, size, steps[i]);
        check(parts.bytes == whole.bytes && parts.taken == whole.taken);
        check(parts.whole == whole.whole && parts.broken == whole.broken);
        check(memcmp(parts.data, whole.data, whole.bytes) == 0);
        free(parts.data);
    }
    free(whole.data);
    return 0;
}
