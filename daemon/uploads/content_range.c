/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of Content-Range. Short because one form of it is taken, and no other. */
#include "daemon/uploads/content_range.h"

#include "proto/proto.h"

#include <stddef.h>
#include <strings.h>

/* Digits up to something else; false: none, or beyond 2^53 - 1. */
static bool read_number(const char **text, uint64_t *ret_number)
{
    const char *at = *text;
    uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (uint64_t)(*at - '0');
        if (number > (uint64_t)LIMIT_SAFE_INTEGER)
            return false;
    }
    bool some = at != *text;
    *text = at;
    *ret_number = number;
    return some;
}

bool content_range_parse(const char *text, content_range *ret_range)
{
    content_range range = {.total = CONTENT_RANGE_UNKNOWN};
    if (strncasecmp(text, "bytes ", 6) != 0)
        return false;
    text += 6;
    if (!read_number(&text, &range.first) || *text++ != '-' || !read_number(&text, &range.last) ||
        *text++ != '/' || range.first > range.last)
        return false;
    if (*text == '*' && text[1] == '\0') {
        *ret_range = range;
        return true;
    }
    if (!read_number(&text, &range.total) || *text != '\0' || range.last >= range.total)
        return false;
    *ret_range = range;
    return true;
}
