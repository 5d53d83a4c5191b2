/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers, times and foreign texts as people read them. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

enum { FORMAT_BYTES_MAX = 32 }; /* room every function below needs in `target` */

/* "12.3 MB" (powers of 1000), "?" when negative. Returns target. */
char *format_bytes(char target[FORMAT_BYTES_MAX], int64_t bytes);

/* "7.11 M" for counts of parameters or operations; "?" when not finite or negative. */
char *format_count(char target[FORMAT_BYTES_MAX], double count);

/* "0:07", "12:30", "3:05:09"; "-" when not finite or negative. */
char *format_duration(char target[FORMAT_BYTES_MAX], double seconds);

/* `digits` (1 to 17) significant digits, "-" when not finite. */
char *format_number(char target[FORMAT_BYTES_MAX], double number, int digits);

/* Seconds since the epoch of an RFC 3339 time in UTC; NaN when it is none. */
double format_parse_time(const char *text);

/* "12s ago", "3m ago", "5h ago", "2d ago"; "-" when `text` is no time. */
char *format_age(char target[FORMAT_BYTES_MAX], const char *text);

/* What printf makes, fit to be shown (text_printable). Caller frees; NULL when out of memory. */
char *format_printable_values(const char *format, va_list values)
    __attribute__((format(printf, 1, 0)));

/* Columns the character of `bytes` well-formed bytes takes: 0 to 2. */
size_t format_character_width(const char *text, size_t bytes);

/* Columns `text` takes. */
size_t format_width(const char *text);
