/* SPDX-License-Identifier: Apache-2.0 */
/* Content-Range of a request that sends a part of a file (RFC 9110, 14.4). A pure function. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct content_range {
    uint64_t first, last; /* bytes of the file, first <= last */
    uint64_t total;       /* of the whole file; CONTENT_RANGE_UNKNOWN for "*" */
} content_range;
#define CONTENT_RANGE_UNKNOWN UINT64_MAX

/* Reads "bytes FIRST-LAST/TOTAL" strictly: ASCII digits up to 2^53 - 1, last below the total. False
 * for anything else. */
bool content_range_parse(const char *text, content_range *ret_range);
