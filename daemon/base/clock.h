/* SPDX-License-Identifier: Apache-2.0 */
/* Wall and monotonic time. */
#pragma once

#include <stdint.h>

enum { CLOCK_TEXT_BYTES = 25 }; /* "2026-01-02T03:04:05.678Z" and NUL */

/* Milliseconds since the epoch. */
int64_t clock_now_ms(void);

/* Milliseconds of a clock that never goes back; only differences mean something. */
int64_t clock_monotonic_ms(void);

/* RFC 3339 UTC with milliseconds. Times outside the years 0 to 9999 are clamped. */
void clock_format(int64_t milliseconds, char ret_text[CLOCK_TEXT_BYTES]);
