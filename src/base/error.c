/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes and the error object every fallible function of the project fills. */
#include "src/base/error.h"

#include "src/base/text.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char *const status_names[DIDI_STATUS_COUNT] = {
#define DIDI_STATUS_NAME(id, name) [DIDI_##id] = (name),
    DIDI_STATUS_TABLE(DIDI_STATUS_NAME)
#undef DIDI_STATUS_NAME
};

const char *didi_status_name(int status)
{
    if (status < 0 || status >= DIDI_STATUS_COUNT)
        return "unknown";
    return status_names[status];
}

/* Formats through a buffer of its own, so that arguments may point into the error itself. */
__attribute__((format(printf, 4, 0))) static void error_format(char *target, size_t target_bytes,
                                                               const char *suffix,
                                                               const char *format,
                                                               va_list arguments)
{
    char raw[2 * DIDI_ERROR_MESSAGE_BYTES_MAX];
    int length = vsnprintf(raw, sizeof(raw), format, arguments);
    if (length < 0)
        raw[0] = '\0';
    size_t used = strlen(raw);
    if (suffix != NULL)
        snprintf(raw + used, sizeof(raw) - used, ": %s", suffix);
    text_copy_printable(target, target_bytes, raw);
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
    if (error == NULL)
        return status;
    char message[DIDI_ERROR_MESSAGE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    error_format(message, sizeof(message), NULL, format, arguments);
    va_end(arguments);
    return error_fill(error, status, file, line, subject, message);
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
    int status = status_of_errno(errno_value);
    if (error == NULL)
        return status;
    char reason[128];
    const char *text = strerror_r(errno_value, reason, sizeof(reason));
    char message[DIDI_ERROR_MESSAGE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    error_format(message, sizeof(message), text, format, arguments);
    va_end(arguments);
    return error_fill(error, status, file, line, subject, message);
}

int didi_error_wrap(didi_error *error, const char *format, ...)
{
    if (error == NULL)
        return DIDI_INTERNAL;
    char message[DIDI_ERROR_MESSAGE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    error_format(message, sizeof(message), error->message, format, arguments);
    va_end(arguments);
    text_copy_printable(error->message, sizeof(error->message), message);
    return error->status;
}

int didi_error_blame(didi_error *error, const char *format, ...)
{
    if (error == NULL)
        return DIDI_INTERNAL;
    char subject[DIDI_ERROR_SUBJECT_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    error_format(subject, sizeof(subject), NULL, format, arguments);
    va_end(arguments);
    text_copy_printable(error->subject, sizeof(error->subject), subject);
    return error->status;
}
