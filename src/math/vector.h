/* SPDX-License-Identifier: Apache-2.0 */
/* One copy of a function per instruction set, chosen at load. */
#pragma once

/* Before a function whose loops vectorise. Products and sums are never fused (-ffp-contract=off),
 * so every copy computes the same numbers. Sanitizers do not survive the resolver the choice
 * needs. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTOR_CLONES
#endif
