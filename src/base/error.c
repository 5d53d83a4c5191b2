/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes and the error object every fallible function of the project fills. */
#include "src/base/error.h"

#include "src/base/text.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Formatted text before it is cleaned and cut; a buffer of its own, so that arguments may point
 * into the error itself. */
enum { RAW_BYTES = 2 * DIDI_ERROR_MESSAGE_BYTES_MAX };

const char *didi_status_name(int status)
{
    static const char *const names[] = {DIDI_STATUS_TABLE(TEXT_WORD)};
    return status >= 0 && status < DIDI_STATUS_COUNT ? names[status] : "unknown";
}

static void raw_append(char raw[RAW_BYTES], const char *text)
{
    size_t used = strlen(raw);
    snprintf(raw + used, RAW_BYTES - used, ": %s", text);
}

/* Copies before it writes: `subject` may be the error's own. */
static int error_fill(didi_error *error, int status, const char *file, int line,
                      const char *subject, const char *message)
{
    char copy[DIDI_ERROR_SUBJECT_BYTES_MAX];
    text_copy_printable(copy, sizeof(copy), subject == NULL ? "" : subject);
    memcpy(error->subject, copy, sizeof(copy));
    text_copy_printable(error->message, sizeof(error->message), message);
    error->status = status;
    error->file = file;
    error->line = line;
    return status;
}

int didi_error_set(didi_error *error, int status, const char *file, int line, const char *subject,
                   const char *format, ...)
{
    assert(status > DIDI_OK && format != NULL); /* programs have statuses of their own beyond */
    if (error == NULL)
        return status;
    char raw[RAW_BYTES] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(raw, sizeof(raw), format, arguments);
    va_end(arguments);
    return error_fill(error, status, file, line, subject, raw);
}

static int status_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
        return DIDI_DISK_FULL;
    case ENOENT:
    case ENOTDIR:
        return DIDI_NOT_FOUND;
    case ENOMEM:
        return DIDI_NO_MEMORY;
    default:
        return DIDI_IO;
    }
}

int didi_error_set_errno(didi_error *error, int errno_value, const char *file, int line,
                         const char *subject, const char *format, ...)
{
    assert(errno_value != 0 && format != NULL);
    int status = status_of_errno(errno_value);
    if (error == NULL)
        return status;
    char reason[128];
    const char *text = strerror_r(errno_value, reason, sizeof(reason));
    char raw[RAW_BYTES] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(raw, sizeof(raw), format, arguments);
    va_end(arguments);
    raw_append(raw, text);
    return error_fill(error, status, file, line, subject, raw);
}

int didi_error_wrap(didi_error *error, const char *format, ...)
{
    assert(format != NULL);
    if (error == NULL)
        return DIDI_INTERNAL;
    char raw[RAW_BYTES] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(raw, sizeof(raw), format, arguments);
    va_end(arguments);
    raw_append(raw, error->message);
    text_copy_printable(error->message, sizeof(error->message), raw);
    return error->status;
}

void didi_error_blame(didi_error *error, const char *input, const char *part)
{
    if (error == NULL)
        return;
    char raw[RAW_BYTES] = "";
    snprintf(raw, sizeof(raw), "%s: %s", input, part);
    text_copy_printable(error->subject, sizeof(error->subject), raw);
}
