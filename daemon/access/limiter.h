/* SPDX-License-Identifier: Apache-2.0 */
/* How often an address may try a wrong token. */
#pragma once

#include "daemon/base/base.h"

#include <stdbool.h>
#include <stdint.h>

/* Counts a wrong token from an address at a time (of any clock that does not go back). An IPv6
 * address stands for its /64. True: within the limit of failures.h. False: beyond it, and
 * *ret_seconds (at least 1) is when the next window begins. */
bool limiter_attempt(failures *self, const char *address, int64_t now_ms, int *ret_seconds);
