/* SPDX-License-Identifier: Apache-2.0 */
/* The specification of a package that extends a finished one, from the command line. */
#pragma once

#include "daemon/foreground/arguments.h"
#include "proto/proto.h"

/* Opens the package (*ret_package_fd) and, where one is named, that to compare with
 * (*ret_comparison_fd); they are the caller's, even after a failure. *ret_specification is the
 * whole one. Errors: DIDI_NOT_FOUND, DIDI_FORMAT, DIDI_INVALID (subject: the field), DIDI_IO,
 * DIDI_NO_MEMORY. */
int extend_read(const arguments *self, int *ret_package_fd, int *ret_comparison_fd,
                specification **ret_specification, didi_error *error);
