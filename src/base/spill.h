/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that may live on disk: mappings of unlinked files, of which only a bounded part is kept in
 * the process. Pages are dropped from the process (not from the file, nor from the system's cache
 * while it has room) each time SPILL_TOUCHED_BYTES_MAX were touched, so code that walks through
 * such memory reports how much it touched, in pieces of about SPILL_PIECE_BYTES for each operand.
 * The list of mappings is the process's, as an allocator's is. Thread-safe. */
#pragma once

#include <stddef.h>

enum { SPILL_PIECE_BYTES = 16 << 20, SPILL_TOUCHED_BYTES_MAX = 64 << 20 };

/* count * size bytes of zeros, page-aligned, in a file without a name in the directory; its disk
 * space is reserved. NULL with errno set (ENOSPC, ENOMEM, ...) on failure or overflow. */
void *spill_allocate(int directory_fd, size_t count, size_t size);

/* Frees memory from spill_allocate or malloc; NULL is fine. */
void spill_free(void *memory);

/* `bytes` of memory, spilled or not, were touched. One plain load while nothing is spilled. */
void spill_touched(size_t bytes);

/* memcpy in pieces. */
void spill_copy(void *to, const void *from, size_t bytes);
