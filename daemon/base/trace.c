/* SPDX-License-Identifier: Apache-2.0 */
/* The header traceparent. Short because it is one format. */
#include "daemon/base/trace.h"

#include <stdio.h>
#include <string.h>

enum { TRACE_AT = 3, PARENT_AT = 36, FLAG_AT = 54 };

static bool is_zero(const char *text, size_t count)
{
    return strspn(text, "0") >= count;
}

bool trace_read(const char *text, char ret_parent[TRACE_BYTES])
{
    static const char shape[] = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    for (size_t i = 0; i < sizeof shape - 1; i++)
        if (text[i] == '\0' ||
            (shape[i] == 'x' ? strchr("0123456789abcdef", text[i]) == NULL : text[i] != shape[i]))
            return false;
    const char *rest = text + sizeof shape - 1;
    const bool first = strncmp(text, "00", 2) == 0;
    if (strncmp(text, "ff", 2) == 0 || (*rest != '\0' && (first || *rest != '-')) ||
        is_zero(text + TRACE_AT, 32) || is_zero(text + PARENT_AT, 16))
        return false;
    const bool sampled = strchr("13579bdf", text[FLAG_AT]) != NULL;
    (void)snprintf(ret_parent, TRACE_BYTES, "00%.50s-%s", text + 2, sampled ? "01" : "00");
    return true;
}
