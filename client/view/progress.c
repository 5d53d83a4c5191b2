/* SPDX-License-Identifier: Apache-2.0 */
/* Progress for people: a bar that redraws itself, or one line per change. */
#include "client/view/progress.h"

#include "client/view/format.h"
#include "src/base/base.h"

#include <assert.h>
#include <langinfo.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

enum {
    PROGRESS_BAR_COLUMNS = 24,
    PROGRESS_LINE_BYTES_MAX = 512,
    PROGRESS_LABEL_BYTES_MAX = 64,
    PROGRESS_LINE_PERCENT = 5,
    PROGRESS_LINE_SECONDS_MIN = 1,
    PROGRESS_REDRAW_MILLISECONDS_MIN = 80,
};

struct client_progress {
    FILE *stream;
    bool animated, color, blocks; /* blocks: the terminal shows UTF-8 */
    bool drawn;
    char label[PROGRESS_LABEL_BYTES_MAX];
    int line_percent; /* of the last line printed */
    double drawn_at;  /* or printed; seconds, monotonic */
    double rate;      /* fraction per second, smoothed; NaN at first */
    double rate_at, rate_fraction;
};

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

progress_moment progress_unknown(const char *label)
{
    return (progress_moment){.label = label,
                             .fraction = NAN,
                             .loss = NAN,
                             .relative_error = NAN,
                             .ratio = NAN,
                             .ratio_target = NAN,
                             .bytes = NAN,
                             .bytes_total = NAN};
}

client_progress *progress_create(FILE *stream, bool animated, bool color)
{
    client_progress *self = memory_zeroed(1, sizeof *self);
    if (self != NULL) {
        self->stream = stream;
        self->animated = animated;
        self->color = color && animated;
        self->blocks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
        self->line_percent = -1;
        self->rate = NAN;
        self->rate_at = NAN;
    }
    return self;
}

/* Exponential mean over about 20 seconds: stages differ in speed, and an early guess is forgotten.
 */
static double time_left(client_progress *self, double fraction, double now)
{
    if (isnan(self->rate_at) || fraction < self->rate_fraction) {
        self->rate_at = now;
        self->rate_fraction = fraction;
        self->rate = NAN;
        return NAN;
    }
    double elapsed = now - self->rate_at;
    if (elapsed >= 0.5 && fraction > self->rate_fraction) {
        double rate = (fraction - self->rate_fraction) / elapsed;
        double weight = isnan(self->rate) ? 1.0 : 1.0 - exp(-elapsed / 20.0);
        self->rate = isnan(self->rate) ? rate : self->rate + weight * (rate - self->rate);
        self->rate_at = now;
        self->rate_fraction = fraction;
    }
    return fraction < 1.0 ? (1.0 - fraction) / self->rate : NAN;
}

typedef struct text_line {
    char text[PROGRESS_LINE_BYTES_MAX];
    size_t bytes;
} text_line;

static void line_add(text_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void line_add(text_line *line, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int count =
        vsnprintf(line->text + line->bytes, sizeof line->text - line->bytes, format, values);
    va_end(values);
    if (count > 0 && (size_t)count < sizeof line->text - line->bytes)
        line->bytes += (size_t)count;
}

static void line_add_numbers(text_line *line, const progress_moment *moment, double seconds_left)
{
    char number[FORMAT_BYTES_MAX];
    char other[FORMAT_BYTES_MAX];
    if (isfinite(moment->bytes_total))
        line_add(line, "  %s of %s", format_bytes(number, (int64_t)moment->bytes),
                 format_bytes(other, (int64_t)moment->bytes_total));
    if (isfinite(moment->loss))
        line_add(line, "  loss %s", format_number(number, moment->loss, 4));
    if (isfinite(moment->relative_error))
        line_add(line, "  error %s", format_number(number, moment->relative_error, 4));
    if (isfinite(moment->ratio)) {
        assert(moment->ratio_counts != NULL);
        line_add(line, "  %s %s", moment->ratio_counts, format_number(number, moment->ratio, 4));
        if (isfinite(moment->ratio_target))
            line_add(line, " of %s", format_number(number, moment->ratio_target, 4));
    }
    if (isfinite(seconds_left))
        line_add(line, "  ETA %s", format_duration(number, seconds_left));
}

static void draw(client_progress *self, const char *label, const progress_moment *moment,
                 double seconds_left)
{
    text_line before = {.bytes = 0};
    text_line after = {.bytes = 0};
    line_add(&before, "%-10s ", label);
    int filled = (int)lround(moment->fraction * PROGRESS_BAR_COLUMNS);
    line_add(&after, " %3d%%", (int)floor(moment->fraction * 100.0));
    line_add_numbers(&after, moment, seconds_left);

    struct winsize window = {0};
    size_t columns = 80;
    if (ioctl(fileno(self->stream), TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
        columns = window.ws_col;
    /* Stay one column short of the edge: a wrapped line could not be drawn over. */
    size_t label_width = format_width(before.text);
    size_t room = columns > 1 ? columns - 1 : 1;
    if (label_width + PROGRESS_BAR_COLUMNS + 5 > room) {
        fprintf(self->stream, "\r\033[K%.*s", (int)(room < 5 ? room : 5), after.text + 1);
    } else {
        fprintf(self->stream, "\r\033[K%s%s", before.text, self->color ? "\033[32m" : "");
        for (int i = 0; i < PROGRESS_BAR_COLUMNS; i++) {
            const char *full = self->blocks ? "\u2588" : "#";
            const char *empty = self->blocks ? "\u2591" : ".";
            fputs(i < filled ? full : empty, self->stream);
        }
        size_t left = room - label_width - PROGRESS_BAR_COLUMNS;
        fprintf(self->stream, "%s%.*s", self->color ? "\033[0m" : "", (int)left, after.text);
    }
    fflush(self->stream);
    self->drawn = true;
}

void progress_show(client_progress *progress, const progress_moment *moment)
{
    if (progress == NULL)
        return;
    progress_moment shown = *moment;
    if (!(shown.fraction >= 0.0))
        shown.fraction = 0.0;
    shown.fraction = shown.fraction > 1.0 ? 1.0 : shown.fraction;
    char *printable = format_printable(moment->label);
    const char *label = printable != NULL ? printable : "";
    double now = seconds_now();
    double left = shown.ended ? NAN : time_left(progress, shown.fraction, now);
    bool new_label = strncmp(label, progress->label, sizeof progress->label - 1) != 0;
    int percent = (int)floor(shown.fraction * 100.0);
    if (progress->animated) {
        if (new_label || percent == 100 ||
            now - progress->drawn_at >= 0.001 * PROGRESS_REDRAW_MILLISECONDS_MIN) {
            draw(progress, label, &shown, left);
            progress->drawn_at = now;
        }
    } else if (new_label || (percent >= progress->line_percent + PROGRESS_LINE_PERCENT &&
                             now - progress->drawn_at >= PROGRESS_LINE_SECONDS_MIN)) {
        text_line text = {.bytes = 0};
        line_add(&text, "%-10s %3d%%", label, percent);
        line_add_numbers(&text, &shown, left);
        fprintf(progress->stream, "%s\n", text.text);
        fflush(progress->stream);
        progress->line_percent = percent - percent % PROGRESS_LINE_PERCENT;
        progress->drawn_at = now;
    }
    snprintf(progress->label, sizeof progress->label, "%s", label);
    free(printable);
}

void progress_clear(client_progress *progress)
{
    if (progress != NULL && progress->drawn) {
        fputs("\r\033[K", progress->stream);
        fflush(progress->stream);
        progress->drawn = false;
    }
}

void progress_free(client_progress *progress)
{
    progress_clear(progress);
    free(progress);
}
