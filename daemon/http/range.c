/* SPDX-License-Identifier: Apache-2.0 */
/* Range headers and lists of ETags. */
#include "daemon/http/range.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* Digits at *text; saturates. False when there are none. */
static bool range_digits(const char **text, uint64_t *ret_number)
{
    const char *start = *text;
    uint64_t number = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++) {
        uint64_t digit = (uint64_t)(**text - '0');
        number = number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : number * 10 + digit;
    }
    *ret_number = number;
    return *text != start;
}

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

http_range_kind http_range_parse(const char *text, uint64_t bytes, uint64_t *ret_first,
                                 uint64_t *ret_last)
{
    uint64_t first;
    uint64_t last;
    if (text == NULL || strncasecmp(text, "bytes=", 6) != 0)
        return HTTP_RANGE_WHOLE;
    text = skip_blanks(text + 6);
    bool from_start = range_digits(&text, &first);
    if (*text++ != '-')
        return HTTP_RANGE_WHOLE;
    bool to_end = !range_digits(&text, &last);
    if (*skip_blanks(text) != '\0' || (!from_start && to_end) ||
        (from_start && !to_end && last < first))
        return HTTP_RANGE_WHOLE;
    if (!from_start) { /* the last `last` bytes */
        if (last == 0 || bytes == 0)
            return HTTP_RANGE_UNSATISFIABLE;
        *ret_first = last >= bytes ? 0 : bytes - last;
        *ret_last = bytes - 1;
        return HTTP_RANGE_PART;
    }
    if (first >= bytes)
        return HTTP_RANGE_UNSATISFIABLE;
    *ret_first = first;
    *ret_last = to_end || last >= bytes ? bytes - 1 : last;
    return HTTP_RANGE_PART;
}

bool http_etag_in_list(const char *list, const char *etag, bool weak)
{
    size_t length = strlen(etag);
    assert(etag[0] == '"'); /* strong */
    list = skip_blanks(list);
    if (*list == '*')
        return *skip_blanks(list + 1) == '\0';
    while (*list != '\0') {
        bool is_weak = strncmp(list, "W/", 2) == 0;
        list += is_weak ? 2 : 0;
        const char *end = *list == '"' ? strchr(list + 1, '"') : NULL;
        if (end == NULL)
            return false;
        if ((weak || !is_weak) && (size_t)(end + 1 - list) == length &&
            strncmp(list, etag, length) == 0)
            return true;
        list = skip_blanks(end + 1);
        if (*list != ',' && *list != '\0')
            return false;
        list += strspn(list, ", \t");
    }
    return false;
}

bool http_etag_allows_range(const char *if_range, const char *etag)
{
    return if_range == NULL || strcmp(if_range, etag) == 0;
}
