/* SPDX-License-Identifier: Apache-2.0 */
/* Which system calls a scorer may make. The only place that knows libseccomp. */
#pragma once

#include "src/base/base.h"

#include <linux/filter.h>
#include <stdbool.h>

/* Makes the program: no sockets and no io_uring, nothing that looks into other processes, leaves
 * the group, or changes owners, modes, times and attributes of files. `may_signal`: Landlock keeps
 * signals inside, so that kill(2) may stay. The caller frees ret_filter->filter. Errors: DIDI_IO,
 * DIDI_NO_MEMORY, DIDI_INTERNAL. */
int filter_make(bool may_signal, struct sock_fprog *ret_filter, didi_error *error);
