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
    double files, files_total;
    double seconds_left; /* NaN: measured from the fractions shown */
    bool ended;          /* no time is left to tell */
} progress_moment;

/* One of which nothing is known but its label. */
progress_moment progress_unknown(const char *label);

typedef struct client_progress client_progress;

/* `animated` draws one or two lines again and again, as the terminal is wide, with a curve of the
 * losses since the label changed; else a line comes when the label changes, or 5 percent and a
 * second after the last. NULL when out of memory, which every function here accepts. */
client_progress *progress_create(FILE *stream, bool animated, bool color);

/* Remembers a loss for the curve, without drawing. */
void progress_add_loss(client_progress *progress, const char *label, double loss);

void progress_show(client_progress *progress, const progress_moment *moment);

/* Draws again what was shown last if the terminal is no longer as wide as it was. */
void progress_resize(client_progress *progress);

/* Clears what was drawn, so that other text may be printed; the next show draws it again. */
void progress_clear(client_progress *progress);

/* Clears and frees. */
void progress_free(client_progress *progress);
