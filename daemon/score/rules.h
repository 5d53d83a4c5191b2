/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a scorer may read and write: a ruleset of Landlock, by its system calls. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

/* What the kernel knows of Landlock: 0 nothing, else the version of its interface. */
int rules_version(void);
/* A version from which it keeps signals inside. */
enum { RULES_VERSION_SIGNALS = 6 };

/* Makes a ruleset: writing only beneath the directory and to devices that keep nothing or compute;
 * reading everywhere but at the `hidden` paths; no TCP and no signals to others where the kernel
 * can. The caller closes *ret_fd. Errors: DIDI_INVALID (no Landlock), DIDI_IO, DIDI_NO_MEMORY. */
int rules_make(int directory_fd, const char *const *hidden, size_t hidden_count, int *ret_fd,
               didi_error *error);
