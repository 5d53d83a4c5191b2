/* SPDX-License-Identifier: Apache-2.0 */
/* Traces of other systems (W3C Trace Context, level 1): which one a request belongs to. A pure
 * function. */
#pragma once

#include <stdbool.h>

enum { TRACE_BYTES = 56 };

/* Reads a traceparent header strictly: version, trace, parent and flags in lower-case hexadecimal,
 * trace and parent not all zero. A version beyond 00 may go on after a dash, as the specification
 * says; ff is none. *ret_parent is what is kept and sent on: of version 00, with no flag but
 * "sampled". False: the header is as if it were not there. */
bool trace_read(const char *text, char ret_parent[TRACE_BYTES]);
