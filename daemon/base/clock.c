/* SPDX-License-Identifier: Apache-2.0 */
/* Wall and monotonic time. Short because nobody else asks the system. */
#include "daemon/base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

int64_t clock_now_ms(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_monotonic_ms(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_apart_ms(void)
{
    return clock_now_ms() - clock_monotonic_ms();
}

bool clock_was_set(int64_t apart_ms)
{
    enum { HOUR_MILLISECONDS = 60 * 60 * 1000 };
    int64_t moved = clock_apart_ms() - apart_ms;
    return moved > HOUR_MILLISECONDS || moved < -HOUR_MILLISECONDS;
}

double clock_seconds(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void clock_format(int64_t milliseconds, char ret_text[CLOCK_TEXT_BYTES])
{
    int64_t lowest = -INT64_C(62167219200000);
    int64_t highest = INT64_C(253402300799999);
    int64_t clamped = milliseconds < lowest ? lowest : milliseconds;
    struct tm parts = {0};
    char text[64];
    clamped = clamped > highest ? highest : clamped;
    int64_t remainder = clamped % 1000;
    if (remainder < 0)
        remainder += 1000;
    const time_t seconds = (time_t)((clamped - remainder) / 1000);
    gmtime_r(&seconds, &parts);
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900,
             parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
             (int)remainder);
    memcpy(ret_text, text, CLOCK_TEXT_BYTES - 1);
    ret_text[CLOCK_TEXT_BYTES - 1] = '\0';
}

json_t *clock_json(int64_t milliseconds)
{
    char text[CLOCK_TEXT_BYTES];
    if (milliseconds == 0)
        return json_null();
    clock_format(milliseconds, text);
    return json_string(text);
}

void clock_pause_ms(int64_t milliseconds)
{
    const struct timespec time = {.tv_sec = milliseconds / 1000,
                                  .tv_nsec = milliseconds % 1000 * 1000000};
    (void)nanosleep(&time, NULL);
}
