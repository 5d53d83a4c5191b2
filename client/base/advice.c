/* SPDX-License-Identifier: Apache-2.0 */
/* What a user may do about an error. Short because the words are those of who knows the error. */
#include "client/base/advice.h"

#include "src/base/base.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

void advice_give(client_advice *advice, const char *format, ...)
{
    char text[ADVICE_BYTES_MAX];
    if (advice == NULL || advice->text[0] != '\0')
        return;
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    const char *rest = text;
    char named[ADVICE_BYTES_MAX] = "";
    for (const char *job; advice->job[0] != '\0' && (job = strstr(rest, "JOB")) != NULL;
         rest = job + strlen("JOB")) {
        const size_t used = strlen(named);
        snprintf(named + used, sizeof named - used, "%.*s%s", (int)(job - rest), rest, advice->job);
    }
    const size_t used = strlen(named);
    snprintf(named + used, sizeof named - used, "%s", rest);
    text_copy_printable(advice->text, sizeof advice->text, named);
}
