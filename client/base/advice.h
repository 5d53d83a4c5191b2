/* SPDX-License-Identifier: Apache-2.0 */
/* What a user may do about an error: one line that follows it. */
#pragma once

enum { ADVICE_BYTES_MAX = 512 };

/* Initialise with {0}; "" gives none. */
typedef struct client_advice {
    char text[ADVICE_BYTES_MAX];
    char job[64]; /* the one the command is about, "" if there is none */
} client_advice;

/* Keeps the first that was given, fit to be shown: who knows most speaks first. `advice` may be
 * NULL. The word JOB becomes the job's id where that is known. */
void advice_give(client_advice *advice, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
