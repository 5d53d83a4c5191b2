/* SPDX-License-Identifier: Apache-2.0 */
/* The client's statuses are its exit codes: every fallible function of client/ returns one of these
 * and puts the same number into didi_error.status. */
#pragma once

#include "src/base/base.h"

typedef enum client_exit {
    CLIENT_OK = 0,
    CLIENT_FAILURE = 1,       /* the server refused, a file could not be written, ... */
    CLIENT_USAGE = 2,         /* the command line or the configuration cannot be used */
    CLIENT_JOB_FAILED = 3,    /* the job waited for ended failed or cancelled */
    CLIENT_DENIED = 4,        /* the server answered 401 or 403 */
    CLIENT_UNREACHABLE = 5,   /* no server answered */
    CLIENT_INTERRUPTED = 130, /* SIGINT or SIGTERM */
} client_exit;

/* Fills *error and returns CLIENT_FAILURE, as didi_fail does. */
#define client_fail_memory(error) didi_fail((error), CLIENT_FAILURE, NULL, "out of memory")
