/* SPDX-License-Identifier: Apache-2.0 */
/* Progress of a foreground merge, and its last line: figures of the manifest. */
#include "daemon/foreground/display.h"

#include "daemon/base/base.h"
#include "src/base/base.h"
#include "src/package/package.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DISPLAY_BAR_CELLS = 24, DISPLAY_LINE_BYTES = 256 };

struct display {
    bool verbose, terminal, drawn;
    bool counts_bytes; /* of ratios; else parameters */
    int64_t began_ms;
    pthread_mutex_t lock; /* guards what follows, and the stream */
    int stage;            /* said last, -1 for none */
    double loss, ratio;
};

int display_create(bool verbose, display **ret_display, didi_error *error)
{
    display *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->verbose = verbose;
    self->terminal = !verbose && isatty(STDERR_FILENO) != 0;
    self->stage = -1;
    self->began_ms = clock_monotonic_ms();
    self->loss = self->ratio = NAN;
    pthread_mutex_init(&self->lock, NULL);
    *ret_display = self;
    return DIDI_OK;
}

void display_count(display *self, bool bytes)
{
    assert(self->stage < 0 && isnan(self->ratio)); /* no event yet */
    self->counts_bytes = bytes;
}

/* Under the lock. */
static void clear_bar(display *self)
{
    if (self->drawn)
        fputs("\r\033[K", stderr);
    self->drawn = false;
}

void display_clear(display *self)
{
    pthread_mutex_lock(&self->lock);
    clear_bar(self);
    pthread_mutex_unlock(&self->lock);
}

void display_free(display *self)
{
    if (self == NULL)
        return;
    clear_bar(self);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

void display_say(display *self, const char *text)
{
    pthread_mutex_lock(&self->lock);
    clear_bar(self);
    fprintf(stderr, "%s\n", text);
    pthread_mutex_unlock(&self->lock);
}

/* Appends " name value" unless the value is not known. */
static void append_number(char *line, const char *name, double value)
{
    size_t length = strlen(line);
    if (!isnan(value))
        snprintf(line + length, DISPLAY_LINE_BYTES - length, "  %s %.6g", name, value);
}

static const char *counted(const display *self)
{
    return self->counts_bytes ? "bytes" : "parameters";
}

static void print_point(const display *self, const didi_event *event)
{
    char line[DISPLAY_LINE_BYTES];
    snprintf(line, sizeof line, "%8.2fs  %-9s  step %" PRIu64, event->seconds,
             didi_stage_name(event->stage), event->step);
    append_number(line, "loss", event->loss);
    append_number(line, "error", event->relative_error);
    append_number(line, counted(self), event->ratio);
    append_number(line, "target", event->ratio_target);
    fprintf(stderr, "%s  items %zu/%zu\n", line, event->items_done, event->items_total);
}

void display_event(void *context, const didi_event *event)
{
    display *self = context;
    pthread_mutex_lock(&self->lock);
    if (event->kind == DIDI_EVENT_POINT) {
        self->loss = event->loss;
        if (!isnan(event->ratio))
            self->ratio = event->ratio;
        if (self->verbose)
            print_point(self, event);
    } else if (event->kind == DIDI_EVENT_STAGE) {
        self->loss = NAN;
        clear_bar(self);
        if (!self->terminal && self->stage != (int)event->stage)
            fprintf(stderr, "%8.2fs  %s\n", event->seconds, didi_stage_name(event->stage));
        self->stage = (int)event->stage;
    } else if (event->text != NULL) {
        clear_bar(self);
        char text[DISPLAY_LINE_BYTES];
        text_copy_printable(text, sizeof text, event->text);
        fprintf(stderr, "note: %s\n", text);
    }
    pthread_mutex_unlock(&self->lock);
}

void display_draw(display *self, didi_stage stage, double progress)
{
    double seconds = (double)(clock_monotonic_ms() - self->began_ms) / 1000.0;
    int full = (int)(progress * DISPLAY_BAR_CELLS + 0.5);
    char line[DISPLAY_LINE_BYTES];
    char bar[DISPLAY_BAR_CELLS + 1];
    if (!self->terminal)
        return;
    for (int i = 0; i < DISPLAY_BAR_CELLS; i++)
        bar[i] = i < full ? '#' : '.';
    bar[DISPLAY_BAR_CELLS] = '\0';
    pthread_mutex_lock(&self->lock);
    snprintf(line, sizeof line, "[%s] %3.0f%%  %-9s", bar, progress * 100.0,
             didi_stage_name(stage));
    append_number(line, "loss", self->loss);
    append_number(line, counted(self), self->ratio);
    if (progress > 0.02 && seconds > 1.0) {
        size_t length = strlen(line);
        snprintf(line + length, sizeof line - length, "  %.0f s left",
                 seconds * (1.0 - progress) / progress);
    }
    fprintf(stderr, "\r%s\033[K", line);
    self->drawn = true;
    pthread_mutex_unlock(&self->lock);
}

/* ---- the last line ---- */

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* Beside a ratio to a model, where tasks left tensors alone, the same to those they changed. */
static void print_of_changed(const json_t *budget, const char *figure)
{
    const json_t *changed = json_object_get(budget, "of_changed");
    double ratio = number(changed, figure);
    if (number(changed, "model_parameters") < 0.999 * number(budget, "model_parameters") &&
        ratio > 0)
        printf(" (%.4fx of what changed)", ratio);
}

static void print_budget(const json_t *budget)
{
    const char *unit = json_string_value(json_object_get(budget, "unit"));
    const char *dtype = json_string_value(json_object_get(budget, "dtype"));
    bool automatic = dtype != NULL && strcmp(dtype, "auto") == 0;
    if (unit == NULL)
        return;
    if (strcmp(unit, "parameters") == 0 && !automatic) {
        printf("parameters %.4fx", number(budget, "parameters"));
        print_of_changed(budget, "parameters");
        printf(", ");
        return;
    }
    printf("%.0f bytes", number(budget, "bytes"));
    if (strcmp(unit, "parameters") == 0) {
        printf(", %.4fx of a 16-bit model", number(budget, "bytes_ratio_16bit"));
        print_of_changed(budget, "bytes_ratio_16bit");
    } else if (strcmp(unit, "bytes_ratio") == 0) {
        printf(", %.4fx of the base's", number(budget, "bytes_ratio"));
        print_of_changed(budget, "bytes_ratio");
    }
    printf(", ");
}

/* What a survey found of the sizes that have names. */
static void print_marks(const json_t *frontier)
{
    const json_t *marks = json_object_get(frontier, "marks");
    printf("a survey, ");
    for (size_t i = 0; i < json_array_size(marks); i++) {
        const json_t *mark = json_array_get(marks, i);
        const char *size = json_string_value(json_object_get(mark, "name"));
        printf("%s %.0f bytes with an error of about %.3g, ", size != NULL ? size : "",
               number(mark, "bytes"), number(mark, "error"));
    }
}

static void print_figures(const json_t *manifest)
{
    if (json_is_true(json_object_get(manifest, "survey"))) {
        print_marks(json_object_get(manifest, "frontier"));
        return;
    }
    print_budget(json_object_get(manifest, "budget"));
    printf("relative error %.4g, ", number(json_object_get(manifest, "error"), "relative"));
}

void display_summary(const char *out, int parent_fd, const char *name, double seconds)
{
    didi_error ignored = {0};
    json_t *manifest = NULL;
    int fd = -1;
    printf("%s: ", out);
    if (file_open_directory(parent_fd, name, 0, &fd, &ignored) == DIDI_OK) {
        if (manifest_file_read(fd, &manifest, &ignored) == DIDI_OK)
            print_figures(manifest);
        close(fd);
    }
    json_decref(manifest);
    printf("%.1f s\n", seconds);
}
