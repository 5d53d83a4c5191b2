/* SPDX-License-Identifier: Apache-2.0 */
/* Progress for people: a bar that redraws itself, or one line per change. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

/* What is known of something under way; numbers that are not known are NaN. */
typedef struct progress_moment {
    const char *label; /* stage, state or file name */
    double fraction;   /* done, in [0, 1] */
    double loss;
    double relative_error;
    double ratio, ratio_target;
    const char *ratio_counts; /* "parameters" or "bytes"; must not be NULL where ratio is known */
    double bytes, bytes_total;
    bool ended; /* no time is left to tell */
} progress_moment;

/* One of which nothing is known but its label. */
progress_moment progress_unknown(const char *label);

typedef struct client_progress client_progress;

/* `animated` draws one line again and again; else a line comes when the label changes, or
 * 5 percent and a second after the last. NULL when out of memory, which every function here
 * accepts. */
client_progress *progress_create(FILE *stream, bool animated, bool color);

void progress_show(client_progress *progress, const progress_moment *moment);

/* Clears an animated line, so that other text may be printed; the next show draws it again. */
void progress_clear(client_progress *progress);

/* Clears and frees. */
void progress_free(client_progress *progress);
