/* SPDX-License-Identifier: Apache-2.0 */
/* What didid run takes to extend a finished package in place of a specification file. */
#pragma once

#include "proto/proto.h"

#include <jansson.h>

/* Strings are the command line's. */
typedef struct run_extension {
    const char *package;    /* directory of the package to extend; NULL: none */
    const char *comparison; /* directory of a full merge's package, for the report; may be NULL */
    const char *added[LIMIT_TASKS]; /* NAME=MODEL */
    size_t added_count;
    const char *removed[LIMIT_TASKS];
    size_t removed_count;
    const char *budget; /* of each task added; NULL: as the package's own */
    bool rebalance;
} run_extension;

/* Opens the package (*ret_package_fd) and, where one is named, that to compare with
 * (*ret_comparison_fd); they are the caller's, even after a failure. *ret_specification is the
 * whole one. Errors: DIDI_NOT_FOUND, DIDI_FORMAT, DIDI_INVALID (subject: the field), DIDI_IO,
 * DIDI_NO_MEMORY. */
int run_extension_read(const run_extension *self, int *ret_package_fd, int *ret_comparison_fd,
                       specification **ret_specification, didi_error *error);
