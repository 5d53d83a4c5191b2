/* SPDX-License-Identifier: Apache-2.0 */
/* What `didid run` shows on standard error: a bar on a terminal, a line a stage elsewhere. */
#pragma once

#include "src/didi.h"

#include <stdbool.h>

typedef struct run_display run_display;

/* `verbose`: one line for each telemetry point, and no bar. Errors: DIDI_NO_MEMORY. */
int run_display_create(bool verbose, run_display **ret_display, didi_error *error);

/* What ratios are called: bytes, or parameters as at first. Before the first event. */
void run_display_count(run_display *self, bool bytes);

/* Clears the bar and frees. NULL is fine. */
void run_display_free(run_display *self);

/* The hook of didi_merge_hooks; `context` is a run_display. Thread-safe. */
void run_display_event(void *context, const didi_event *event);

/* Draws the bar; `progress` in [0, 1]. Call about ten times a second. */
void run_display_draw(run_display *self, didi_stage stage, double progress);

/* Says a line between redraws. */
void run_display_say(run_display *self, const char *text);

/* Removes the bar from the terminal. */
void run_display_clear(run_display *self);
