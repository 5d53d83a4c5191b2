/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the process may map what it will need (RLIMIT_AS, `ulimit -v`). */
#pragma once

#include "src/base/base.h"

#include <stddef.h>
#include <stdint.h>

/* Under a limit of address space: one heap for all threads, and the program once more with
 * OPENBLAS_NUM_THREADS=1, before whose start OpenBLAS would begin a thread with a buffer for each
 * processor, which none of our calls uses. Returns where there is no limit, or the variable is set
 * already. Before any thread is begun. */
void address_space_prepare(char **argv);

/* Refuses with DIDI_NO_MEMORY, naming the figure, where a limit leaves less than is needed: what is
 * mapped now, `bytes`, and `threads` stacks. No limit: DIDI_OK. */
int address_space_check(uint64_t bytes, size_t threads, didi_error *error);
