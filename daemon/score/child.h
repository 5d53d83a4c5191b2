/* SPDX-License-Identifier: Apache-2.0 */
/* The process of a scorer, from fork to exec. */
#pragma once

#include "src/base/base.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* All that it needs, made before: between fork and exec nothing allocates or locks. */
typedef struct child_order {
    const char *program;          /* path */
    const char *const *arguments; /* with the program's name first; NULL behind the last */
    const char *const *environment;
    int directory_fd; /* to run in */
    bool changes_user;
    uid_t user;
    gid_t group;
    uint64_t memory_max;             /* bytes; 0: no limit */
    uint64_t cpu_seconds;            /* > 0 */
    int rules_fd;                    /* Landlock's; -1: none */
    const struct sock_fprog *filter; /* seccomp's; NULL: none */
} child_order;

typedef struct child {
    pid_t pid; /* of the first process, and of its group */
    int out, err;
} child;

/* Starts it with standard output and error on pipes, which are the caller's to close, and nothing
 * on standard input. It dies when the calling thread ends. Errors: DIDI_SCORER (the program cannot
 * run), DIDI_INVALID (it cannot be confined), DIDI_IO, DIDI_NO_MEMORY. */
int child_start(const child_order *order, child *ret_child, didi_error *error);
