/* SPDX-License-Identifier: Apache-2.0 */
/* A process from fork to exec. */
#pragma once

#include "src/base/base.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    CHILD_FILE_BYTES_MAX = 1 << 30, /* of one file that a held child writes */
    CHILD_DESCRIPTORS_MAX = 4096,   /* that it has open */
};

/* All that it needs, made before: between fork and exec nothing allocates or locks. */
typedef struct child_order {
    const char *what;             /* in messages: "scorer" */
    int refused;                  /* status where the program cannot be run */
    const char *program;          /* path */
    const char *const *arguments; /* with the program's name first; NULL behind the last */
    const char *const *environment;
    int input_fd;     /* what it reads; -1: nothing */
    int directory_fd; /* to run in */
    bool held;        /* by the limits below, without more privileges, files for itself alone */
    bool changes_user;
    uid_t user;
    gid_t group;
    uint64_t memory_max;             /* bytes; 0: no limit */
    uint64_t cpu_seconds;            /* > 0 where it is held */
    int rules_fd;                    /* Landlock's; -1: none */
    const struct sock_fprog *filter; /* seccomp's; NULL: none */
} child_order;

typedef struct child {
    pid_t pid; /* of the first process, and of its group */
    int out, err;
} child;

/* Starts it in a session of its own, with standard output and error on pipes, which are the
 * caller's to close. It dies when the calling thread ends. Errors: `refused`, DIDI_INVALID (it
 * cannot be held so), DIDI_IO, DIDI_NO_MEMORY. */
int child_start(const child_order *order, child *ret_child, didi_error *error);
