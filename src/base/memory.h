/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation with overflow checks and the alloc fault point. Everything is freed with free(). */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* count * size bytes, zeroed; NULL when out of memory or on overflow. A zero size gives 1 byte. */
void *memory_zeroed(size_t count, size_t size);

/* count * size bytes, uninitialised, aligned to 64 bytes (for BLAS); NULL as above. */
void *memory_aligned(size_t count, size_t size);

/* realloc to count * size bytes (a zero size gives 1 byte); NULL as above, `block` then stays. */
void *memory_resized(void *block, size_t count, size_t size);

/* The block with room for one element more than `count`: doubled when it is full, so that memory
 * stays in proportion. *room starts as 0. NULL as above, `block` then stays. */
void *memory_grown(void *block, size_t count, size_t *room, size_t size);

/* Copies a NUL-terminated string; NULL when out of memory. */
char *memory_string(const char *text);

/* printf into fresh memory; NULL when out of memory. */
char *memory_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* a * b and a + b with saturation at UINT64_MAX: estimates that overflow compare as too large. */
uint64_t memory_multiply(uint64_t a, uint64_t b);
uint64_t memory_add(uint64_t a, uint64_t b);

static inline uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
