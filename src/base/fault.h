/* SPDX-License-Identifier: Apache-2.0 */
/* Named fault points: tests make the n-th pass through a point fail, as a disk or an allocator
 * would. Set DIDI_FAULT="name:nth[+][:errno]" (comma-separated list) in the environment before
 * start: the nth pass (from 1), with '+' every later one too, fails with errno (a number, or
 * ENOSPC, EDQUOT, EIO, ENOMEM, EACCES, or KILL: the process ends there as by kill -9, or STOP: it
 * stands still until SIGCONT and goes on, or HANG: the thread never comes back, or WAIT: it goes on
 * after 20 ms; default ENOMEM for alloc, else EIO). A value that does not parse ends the process
 * with status 2. Compiled into all builds, one plain load when unused. */
#pragma once

#include "src/base/error.h"

/* Points: alloc, pwrite, fsync, rename, of any file; before a job is inserted, claimed, ended;
 * before and after a commit; before a migration is committed; before the snapshot of an item
 * appears; before and after artifacts do; before and after an uploaded model does; before an export
 * does; before a webhook's event is sent, before and after its answer is recorded; before a piece
 * of a file is digested; before a file of a package is written; before a piece of an artifact goes
 * to object storage, and before it is noted there; before a step of the learned ranks, of which
 * jobs that are to last have many. */
/* clang-format off */
#define DIDI_FAULT_TABLE(X) \
    X(ALLOC, "alloc") \
    X(PWRITE, "pwrite") \
    X(FSYNC, "fsync") \
    X(RENAME, "rename") \
    X(SUBMIT, "submit") \
    X(CLAIM, "claim") \
    X(FINISH, "finish") \
    X(COMMIT, "commit") \
    X(COMMITTED, "committed") \
    X(MIGRATE, "migrate") \
    X(LAYER, "layer") \
    X(PUBLISH, "publish") \
    X(PUBLISHED, "published") \
    X(UPLOAD, "upload") \
    X(UPLOADED, "uploaded") \
    X(EXPORT, "export") \
    X(SEND, "send") \
    X(ANSWER, "answer") \
    X(ANSWERED, "answered") \
    X(DIGEST, "digest") \
    X(WRITE, "write") \
    X(STORE, "store") \
    X(STORED, "stored") \
    X(STEP, "step")
/* clang-format on */

typedef enum fault_point {
#define FAULT_ENUMERATOR(id, name) FAULT_##id,
    DIDI_FAULT_TABLE(FAULT_ENUMERATOR)
#undef FAULT_ENUMERATOR
        FAULT_COUNT
} fault_point;

/* 0 normally; the errno to pretend when this pass is the one chosen. Thread-safe. */
int fault_at(fault_point point);

/* The same as a status: DIDI_OK, or the failure in *error. */
int fault_check(fault_point point, const char *subject, didi_error *error);

/* Arms the points as DIDI_FAULT would; all others are disarmed. NULL or "" disarms everything. For
 * tests; not while other threads pass fault points. Returns 0, or -1 (nothing armed) if it does not
 * parse. */
int fault_arm(const char *specification);

/* True if every armed point has failed at least once since fault_arm. */
int fault_all_fired(void);
