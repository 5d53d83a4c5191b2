/* SPDX-License-Identifier: Apache-2.0 */
/* Range and the conditions on ETags (RFC 9110 sections 8.8.3, 13.1 and 14). Pure functions. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef enum http_range_kind {
    HTTP_RANGE_WHOLE,         /* no range, another unit, several ranges, or not well-formed */
    HTTP_RANGE_PART,          /* one range within the file */
    HTTP_RANGE_UNSATISFIABLE, /* well-formed, but outside the file */
} http_range_kind;

/* Reads a Range header (may be NULL) for a file of `bytes` bytes. For PART, *ret_first and
 * *ret_last are the first and last byte. */
http_range_kind http_range_parse(const char *text, uint64_t bytes, uint64_t *ret_first,
                                 uint64_t *ret_last);

/* True if the list of ETags (If-Match, If-None-Match) is "*" or holds `etag` (quoted, strong).
 * `weak`: W/"x" matches "x" too, as If-None-Match wants. A malformed list matches nothing. */
bool http_etag_in_list(const char *list, const char *etag, bool weak);

/* True if an If-Range header allows the range: it is absent, or exactly this strong ETag. */
bool http_etag_allows_range(const char *if_range, const char *etag);

/* A whole number of ASCII digits without leading zeros between lowest and highest. */
bool http_number_parse(const char *text, long long lowest, long long highest,
                       long long *ret_number);
