/* SPDX-License-Identifier: Apache-2.0 */
/* Named fault points: tests make the n-th pass through a point fail, as a disk or an allocator would.
 * Set DIDI_FAULT="name:nth[:errno]" (comma-separated list) in the environment before start;
 * compiled into all builds, one relaxed atomic load when unused. */
#pragma once

/* Points: alloc, pwrite, fsync, rename. */
#define DIDI_FAULT_TABLE(X) X(ALLOC, "alloc") X(PWRITE, "pwrite") X(FSYNC, "fsync") X(RENAME, "rename")

typedef enum fault_point {
#define FAULT_ENUMERATOR(id, name) FAULT_##id,
    DIDI_FAULT_TABLE(FAULT_ENUMERATOR)
#undef FAULT_ENUMERATOR
        FAULT_COUNT
} fault_point;

/* 0 normally; the errno to pretend when this pass is the one chosen. Thread-safe. */
int fault_at(fault_point point);
