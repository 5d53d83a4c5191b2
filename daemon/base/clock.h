/* SPDX-License-Identifier: Apache-2.0 */
/* Wall and monotonic time. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { CLOCK_TEXT_BYTES = 25 }; /* "2026-01-02T03:04:05.678Z" and NUL */

/* Milliseconds since the epoch. */
int64_t clock_now_ms(void);

/* Milliseconds of a clock that never goes back; only differences mean something. */
int64_t clock_monotonic_ms(void);

/* Sleeps so long, or until a signal. */
void clock_pause_ms(int64_t milliseconds);

/* The first less the second. Kept from a start, it tells later whether the wall clock was set since
 * then, by more than an hour: ages of rows and files then mean nothing. */
int64_t clock_apart_ms(void);
bool clock_was_set(int64_t apart_ms);

/* The same clock in seconds, as fine as the system has it. */
double clock_seconds(void);

/* RFC 3339 UTC with milliseconds. Times outside the years 0 to 9999 are clamped. */
void clock_format(int64_t milliseconds, char ret_text[CLOCK_TEXT_BYTES]);

/* The same as a JSON string, or null for 0. NULL when out of memory. */
json_t *clock_json(int64_t milliseconds);
