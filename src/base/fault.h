/* SPDX-License-Identifier: Apache-2.0 */
/* Named fault points: tests make the n-th pass through a point fail, as a disk or an allocator
 * would. Set DIDI_FAULT="name:nth[+][:errno]" (comma-separated list) in the environment before
 * start: the nth pass (from 1), with '+' every later one too, fails with errno (a number, or
 * ENOSPC, EDQUOT, EIO, ENOMEM, EACCES; default ENOMEM for alloc, else EIO). A value that does not
 * parse ends the process with status 2. Compiled into all builds, one plain load when unused. */
#pragma once

/* Points: alloc, pwrite, fsync, rename. */
#define DIDI_FAULT_TABLE(X)                                                                        \
    X(ALLOC, "alloc") X(PWRITE, "pwrite") X(FSYNC, "fsync") X(RENAME, "rename")

typedef enum fault_point {
#define FAULT_ENUMERATOR(id, name) FAULT_##id,
    DIDI_FAULT_TABLE(FAULT_ENUMERATOR)
#undef FAULT_ENUMERATOR
        FAULT_COUNT
} fault_point;

/* 0 normally; the errno to pretend when this pass is the one chosen. Thread-safe. */
int fault_at(fault_point point);

/* Arms the points as DIDI_FAULT would; all others are disarmed. NULL or "" disarms everything. For
 * tests; not while other threads pass fault points. Returns 0, or -1 (nothing armed) if it does not
 * parse. */
int fault_arm(const char *specification);

/* True if every armed point has failed at least once since fault_arm. */
int fault_all_fired(void);
