/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies in chunks (RFC 9112 section 7.1), decoded strictly as they come. Pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_CHUNK_DIGITS_MAX = 8,     /* of a chunk's size: below 4 GiB */
    HTTP_CHUNK_LINE_BYTES = 1024,  /* a size with its extensions, or one trailer */
    HTTP_CHUNK_EXTRA_BYTES = 8192, /* all extensions and trailers of a body together */
};

typedef enum http_chunk_phase {
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_DATA,
    HTTP_CHUNK_DATA_END, /* the CR and LF after it */
    HTTP_CHUNK_TRAILER,
    HTTP_CHUNK_END,
} http_chunk_phase;

/* Zeroed at first. */
typedef struct http_chunks {
    http_chunk_phase phase;
    uint64_t left; /* bytes of the chunk that are to come */
    size_t extra;  /* bytes that were neither data nor sizes */
    size_t line_bytes;
    char line[HTTP_CHUNK_LINE_BYTES];
} http_chunks;

/* Takes from `bytes` until there is a piece of data, the end, or no more. Returns how many were
 * taken; *ret_data are *ret_data_bytes of them that are data (0: none). The end is reached when
 * phase says so: what follows belongs to the next request. *fault is set, once for all, when this
 * is no body in chunks (static text). Trailers are checked and dropped. */
size_t http_chunks_take(http_chunks *self, const char *bytes, size_t count, const char **ret_data,
                        size_t *ret_data_bytes, const char **fault);
