/* SPDX-License-Identifier: Apache-2.0 */
/* The last line of `didid run`. */
#pragma once

/* Prints what the package `name` below parent_fd takes, in the unit its budget was given in, its
 * relative error and the seconds; `out` is what the user calls it. */
void run_summary_print(const char *out, int parent_fd, const char *name, double seconds);
