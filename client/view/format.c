/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers, times and foreign texts as people read them. */
#include "client/view/format.h"

#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

static char *format_unknown(char *target, const char *sign)
{
    memcpy(target, sign, strlen(sign) + 1);
    return target;
}

static char *format_scaled(char *target, double value, const char *const *units, size_t count)
{
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < count) {
        value /= 1000.0;
        unit++;
    }
    int digits = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(target, FORMAT_BYTES_MAX, "%.*f%s%s", digits, value, units[unit][0] == '\0' ? "" : " ",
             units[unit]);
    return target;
}

char *format_bytes(char target[FORMAT_BYTES_MAX], int64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    if (bytes < 0)
        return format_unknown(target, "?");
    return format_scaled(target, (double)bytes, units, sizeof units / sizeof units[0]);
}

char *format_count(char target[FORMAT_BYTES_MAX], double count)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};
    if (!isfinite(count) || count < 0)
        return format_unknown(target, "?");
    return format_scaled(target, count, units, sizeof units / sizeof units[0]);
}

char *format_duration(char target[FORMAT_BYTES_MAX], double seconds)
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e9)
        return format_unknown(target, "-");
    long whole = lround(seconds);
    if (whole >= 3600) {
        snprintf(target, FORMAT_BYTES_MAX, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60,
                 whole % 60);
    } else {
        snprintf(target, FORMAT_BYTES_MAX, "%ld:%02ld", whole / 60, whole % 60);
    }
    return target;
}

char *format_number(char target[FORMAT_BYTES_MAX], double number, int digits)
{
    assert(digits >= 1 && digits <= 17);
    if (!isfinite(number))
        return format_unknown(target, "-");
    snprintf(target, FORMAT_BYTES_MAX, "%.*g", digits, number);
    return target;
}

double format_parse_time(const char *text)
{
    struct tm moment = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &moment);
    if (rest == NULL)
        return NAN;
    double fraction = 0.0;
    if (*rest == '.') {
        double place = 0.1;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, place /= 10.0)
            fraction += place * (*rest - '0');
    }
    return strcmp(rest, "Z") == 0 ? (double)timegm(&moment) + fraction : NAN;
}

char *format_age(char target[FORMAT_BYTES_MAX], const char *text)
{
    double seconds = (double)time(NULL) - format_parse_time(text);
    if (!isfinite(seconds))
        return format_unknown(target, "-");
    seconds = seconds < 0 ? 0 : seconds;
    static const struct {
        double limit, unit;
        char letter;
    } rows[] = {{120, 1, 's'}, {7200, 60, 'm'}, {172800, 3600, 'h'}, {INFINITY, 86400, 'd'}};
    size_t row = 0;
    while (seconds >= rows[row].limit)
        row++;
    snprintf(target, FORMAT_BYTES_MAX, "%.0f%c ago", floor(seconds / rows[row].unit),
             rows[row].letter);
    return target;
}

char *format_printable_values(const char *format, va_list values)
{
    char *text = NULL;
    if (vasprintf(&text, format, values) < 0)
        return NULL;
    char *printable = text_printable(text);
    free(text);
    return printable;
}

size_t format_character_width(const char *text, size_t bytes)
{
    int width = bytes > 1 ? wcwidth((wchar_t)text_code_point(text, bytes)) : 1;
    return width >= 0 ? (size_t)width : 1; /* a locale that does not know it */
}

size_t format_width(const char *text)
{
    size_t width = 0;
    size_t left = strlen(text);
    while (left > 0) {
        size_t bytes = text_character(text, left);
        bytes = bytes > 0 ? bytes : 1;
        width += format_character_width(text, bytes);
        text += bytes;
        left -= bytes;
    }
    return width;
}
