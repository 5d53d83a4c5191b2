/* SPDX-License-Identifier: Apache-2.0 */
/* What `didid run` shows on standard error, a bar on a terminal, a line a stage elsewhere; and its
 * last line on standard output. */
#pragma once

#include "src/didi.h"

#include <stdbool.h>

typedef struct display display;

/* `verbose`: one line for each telemetry point, and no bar. Errors: DIDI_NO_MEMORY. */
int display_create(bool verbose, display **ret_display, didi_error *error);

/* What ratios are called: bytes, or parameters as at first. Before the first event. */
void display_count(display *self, bool bytes);

/* Clears the bar and frees. NULL is fine. */
void display_free(display *self);

/* The hook of didi_merge_hooks; `context` is a display. Thread-safe. */
void display_event(void *context, const didi_event *event);

/* Draws the bar; `progress` in [0, 1]. Call about ten times a second. */
void display_draw(display *self, didi_stage stage, double progress);

/* Says a line between redraws. */
void display_say(display *self, const char *text);

/* Removes the bar from the terminal. */
void display_clear(display *self);

/* Prints what the package `name` below parent_fd takes, in the unit its budget was given in, its
 * relative error and the seconds; `out` is what the user calls it. */
void display_summary(const char *out, int parent_fd, const char *name, double seconds);
