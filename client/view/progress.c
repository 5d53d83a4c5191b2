/* SPDX-License-Identifier: Apache-2.0 */
/* Progress for people: a bar that redraws itself, or one line per change.
 *
 * The cursor waits at the beginning of what was drawn. A terminal that is made narrower breaks
 * lines anew, and keeps the cursor at its character: all that lies behind it can be cleared. */
#include "client/view/progress.h"

#include "client/view/format.h"
#include "client/view/spark.h"
#include "client/view/terminal.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PROGRESS_BAR_COLUMNS_MIN = 6,
    PROGRESS_BAR_COLUMNS_LINE = 20, /* least of a bar that shares its line with the figures */
    PROGRESS_BAR_COLUMNS_MAX = 60,
    PROGRESS_SPARK_COLUMNS_MIN = 6,
    PROGRESS_SPARK_COLUMNS_MAX = 24,
    PROGRESS_PART_BYTES_MAX = 96,
    PROGRESS_LABEL_COLUMNS = 9, /* of the longest stage */
    PROGRESS_PERCENT_COLUMNS = 5,
    PROGRESS_BRIEF_COLUMNS = 64, /* narrower terminals get shorter words */
    PROGRESS_LABEL_BYTES_MAX = 64,
    PROGRESS_LINE_PERCENT = 5,
    PROGRESS_LINE_SECONDS_MIN = 1,
    PROGRESS_REDRAW_MILLISECONDS_MIN = 80,
};

struct client_progress {
    FILE *stream;
    bool animated, color, unicode;
    bool drawn;
    size_t drawn_columns; /* the terminal had then */
    char label[PROGRESS_LABEL_BYTES_MAX];
    progress_moment shown; /* the last; its label is the one above */
    double shown_left;
    spark losses;
    char losses_of[PROGRESS_LABEL_BYTES_MAX]; /* the label they belong to */
    int line_percent;                         /* of the last line printed */
    double drawn_at;                          /* or printed; seconds, monotonic */
    double rate;                              /* fraction per second, smoothed; NaN at first */
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
                             .bytes_total = NAN,
                             .files = NAN,
                             .files_total = NAN,
                             .seconds_left = NAN};
}

client_progress *progress_create(FILE *stream, bool animated, bool color)
{
    client_progress *self = memory_zeroed(1, sizeof *self);
    if (self != NULL) {
        self->stream = stream;
        self->animated = animated;
        self->color = color && animated;
        self->unicode = terminal_unicode();
        self->line_percent = -1;
        self->rate = NAN;
        self->rate_at = NAN;
    }
    return self;
}

void progress_add_loss(client_progress *progress, const char *label, double loss)
{
    if (progress == NULL)
        return;
    if (strncmp(progress->losses_of, label, sizeof progress->losses_of - 1) != 0) {
        spark_clear(&progress->losses);
        snprintf(progress->losses_of, sizeof progress->losses_of, "%s", label);
    }
    spark_add(&progress->losses, loss);
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

/* ---- the figures, each a text of its own; "" where nothing is known ---- */

typedef enum part {
    PART_SIZE,
    PART_LOSS,
    PART_CURVE, /* of the losses; has no text */
    PART_ERROR,
    PART_RATIO,
    PART_ETA,
    PART_COUNT
} part;

typedef struct figures {
    char texts[PART_COUNT][PROGRESS_PART_BYTES_MAX];
    size_t widths[PART_COUNT]; /* with the gap before; of the curve the least; 0: there is none */
    bool shown[PART_COUNT];
    size_t curve; /* columns of the curve */
} figures;

static void write_size(char text[PROGRESS_PART_BYTES_MAX], const progress_moment *moment)
{
    char number[FORMAT_BYTES_MAX];
    char other[FORMAT_BYTES_MAX];
    char files[FORMAT_BYTES_MAX * 2] = "";
    if (isfinite(moment->files_total))
        snprintf(files, sizeof files, "%.0f/%.0f files  ", moment->files, moment->files_total);
    if (isfinite(moment->bytes_total))
        snprintf(text, PROGRESS_PART_BYTES_MAX, "%s%s of %s", files,
                 format_bytes(number, (int64_t)moment->bytes),
                 format_bytes(other, (int64_t)moment->bytes_total));
}

static void write_ratio(char text[PROGRESS_PART_BYTES_MAX], const progress_moment *moment,
                        bool brief)
{
    char number[FORMAT_BYTES_MAX];
    char other[FORMAT_BYTES_MAX];
    if (!isfinite(moment->ratio))
        return;
    assert(moment->ratio_counts != NULL);
    format_number(number, moment->ratio, 4);
    format_number(other, moment->ratio_target, 4);
    if (!isfinite(moment->ratio_target))
        snprintf(text, PROGRESS_PART_BYTES_MAX, "%s %s", moment->ratio_counts, number);
    else if (brief)
        snprintf(text, PROGRESS_PART_BYTES_MAX, "%s/%s", number, other);
    else
        snprintf(text, PROGRESS_PART_BYTES_MAX, "%s %s of %s", moment->ratio_counts, number, other);
}

static figures figures_of(const client_progress *self, bool brief)
{
    figures made = {.curve = 0};
    char number[FORMAT_BYTES_MAX];
    const progress_moment *moment = &self->shown;
    write_size(made.texts[PART_SIZE], moment);
    write_ratio(made.texts[PART_RATIO], moment, brief);
    if (isfinite(moment->loss))
        snprintf(made.texts[PART_LOSS], PROGRESS_PART_BYTES_MAX, "loss %s",
                 format_number(number, moment->loss, 4));
    if (isfinite(moment->relative_error))
        snprintf(made.texts[PART_ERROR], PROGRESS_PART_BYTES_MAX, "%s %s", brief ? "err" : "error",
                 format_number(number, moment->relative_error, 4));
    if (isfinite(self->shown_left))
        snprintf(made.texts[PART_ETA], PROGRESS_PART_BYTES_MAX, "ETA %s",
                 format_duration(number, self->shown_left));
    for (size_t i = 0; i < PART_COUNT; i++)
        made.widths[i] = made.texts[i][0] != '\0' ? 2 + strlen(made.texts[i]) : 0;
    if (made.widths[PART_LOSS] > 0 && self->losses.count >= 2)
        made.widths[PART_CURVE] = 1 + PROGRESS_SPARK_COLUMNS_MIN;
    return made;
}

static size_t figures_width(const figures *self)
{
    size_t width = 0;
    for (size_t i = 0; i < PART_COUNT; i++)
        width += self->widths[i];
    return width;
}

/* Chooses those to be shown on `room` columns, the first of `order` first. Returns what they take.
 */
static size_t figures_choose(figures *self, const part *order, size_t count, size_t room)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const bool alone = order[i] == PART_CURVE && !self->shown[PART_LOSS];
        const size_t width = alone ? 0 : self->widths[order[i]];
        self->shown[order[i]] = width > 0 && used + width <= room;
        used += self->shown[order[i]] ? width : 0;
    }
    self->curve = self->shown[PART_CURVE] ? PROGRESS_SPARK_COLUMNS_MIN : 0;
    return used;
}

/* Widens the curve, a column for each loss at most; returns what is left of `spare` columns. */
static size_t figures_widen(figures *self, size_t losses, size_t spare)
{
    const size_t most = losses < PROGRESS_SPARK_COLUMNS_MAX ? losses : PROGRESS_SPARK_COLUMNS_MAX;
    size_t more = most > PROGRESS_SPARK_COLUMNS_MIN ? most - PROGRESS_SPARK_COLUMNS_MIN : 0;
    if (!self->shown[PART_CURVE])
        return spare;
    more = more < spare ? more : spare;
    self->curve += more;
    return spare - more;
}

/* ---- drawing ---- */

static void print_bar(const client_progress *self, size_t columns)
{
    const size_t filled = (size_t)lround(self->shown.fraction * (double)columns);
    const char *full = self->unicode ? "\u2588" : "#";
    const char *empty = self->unicode ? "\u2591" : ".";
    fputs(self->color ? "\033[32m" : "", self->stream);
    for (size_t i = 0; i < columns; i++)
        fputs(i < filled ? full : empty, self->stream);
    fputs(self->color ? "\033[0m" : "", self->stream);
}

static size_t label_columns(const client_progress *self)
{
    return larger(format_width(self->label), PROGRESS_LABEL_COLUMNS);
}

/* Label, a bar of so many columns, percent. With no columns for a bar the label is cut to fit. */
static void print_head(const client_progress *self, size_t bar, size_t room)
{
    const size_t percent = PROGRESS_PERCENT_COLUMNS;
    if (bar > 0) {
        fprintf(self->stream, "%s%*s", self->label,
                (int)(label_columns(self) - format_width(self->label) + 1), "");
        print_bar(self, bar);
    } else {
        (void)terminal_print(self->stream, self->label, room > percent ? room - percent : 0,
                             self->unicode);
    }
    if (room >= percent)
        fprintf(self->stream, " %3d%%", (int)floor(self->shown.fraction * 100.0));
}

/* Those chosen, in the order of the table; the first of a line of its own has no gap before it. */
static void print_figures(const client_progress *self, const figures *row, bool first)
{
    for (size_t i = 0; i < PART_COUNT; i++) {
        if (!row->shown[i])
            continue;
        if (i == PART_CURVE) {
            fputc(' ', self->stream);
            spark_print(&self->losses, self->stream, row->curve, self->unicode);
        } else {
            fprintf(self->stream, "%s%s", first ? "" : "  ", row->texts[i]);
        }
        first = false;
    }
}

static size_t bar_columns(size_t room)
{
    return room < PROGRESS_BAR_COLUMNS_MIN   ? 0
           : room < PROGRESS_BAR_COLUMNS_MAX ? room
                                             : PROGRESS_BAR_COLUMNS_MAX;
}

static void draw_line(const client_progress *self, figures *row, size_t room, size_t head)
{
    static const part order[] = {PART_ETA,   PART_SIZE,  PART_LOSS,
                                 PART_CURVE, PART_RATIO, PART_ERROR};
    const size_t least = head + PROGRESS_BAR_COLUMNS_MIN;
    const size_t used =
        figures_choose(row, order, sizeof order / sizeof order[0], room > least ? room - least : 0);
    size_t spare = room > least + used ? room - least - used : 0;
    if (spare > PROGRESS_BAR_COLUMNS_LINE) /* the bar first, then the curve, then the bar again */
        spare = PROGRESS_BAR_COLUMNS_LINE +
                figures_widen(row, self->losses.count, spare - PROGRESS_BAR_COLUMNS_LINE);
    print_head(self, room < least ? 0 : bar_columns(PROGRESS_BAR_COLUMNS_MIN + spare), room);
    print_figures(self, row, false);
    fputs("\033[J\r", self->stream);
}

static void draw_two_lines(const client_progress *self, figures *row, size_t room, size_t head)
{
    static const part above[] = {PART_ETA};
    static const part below[] = {PART_LOSS, PART_CURVE, PART_RATIO, PART_ERROR, PART_SIZE};
    const size_t least = head + PROGRESS_BAR_COLUMNS_MIN;
    const size_t used = figures_choose(row, above, 1, room > least ? room - least : 0);
    print_head(self, room < least ? 0 : bar_columns(room - head - used), room);
    print_figures(self, row, false);
    fputs("\033[K\n", self->stream);
    row->shown[PART_ETA] = false;
    /* The first has no gap before it. */
    const size_t taken = figures_choose(row, below, sizeof below / sizeof below[0], room + 2);
    (void)figures_widen(row, self->losses.count, room + 2 - taken);
    print_figures(self, row, true);
    fputs("\033[J\r\033[A", self->stream);
}

/* One line where all fits beside a bar worth looking at, or where there is little to tell; else
 * two. Every line stays one column short of the edge, so that none is broken. */
static void draw(client_progress *self)
{
    const size_t columns = terminal_columns(self->stream);
    const size_t room = columns > 1 ? columns - 1 : 1;
    const size_t head = label_columns(self) + 1 + PROGRESS_PERCENT_COLUMNS;
    figures row = figures_of(self, false);
    const bool little =
        row.widths[PART_LOSS] + row.widths[PART_RATIO] + row.widths[PART_ERROR] == 0;
    /* What was broken anew is cleared first: terminals remember which lines were one. */
    fputs(self->drawn && self->drawn_columns != columns ? "\r\033[J" : "\r", self->stream);
    if (little || head + PROGRESS_BAR_COLUMNS_LINE + figures_width(&row) <= room) {
        draw_line(self, &row, room, head);
    } else {
        row = figures_of(self, columns < PROGRESS_BRIEF_COLUMNS);
        draw_two_lines(self, &row, room, head);
    }
    fflush(self->stream);
    self->drawn = true;
    self->drawn_columns = columns;
}

static void print_line(client_progress *self)
{
    const figures row = figures_of(self, false);
    fprintf(self->stream, "%-10s %3d%%", self->label, (int)floor(self->shown.fraction * 100.0));
    for (size_t i = 0; i < PART_COUNT; i++)
        if (row.texts[i][0] != '\0')
            fprintf(self->stream, "  %s", row.texts[i]);
    fputc('\n', self->stream);
    fflush(self->stream);
}

void progress_show(client_progress *progress, const progress_moment *moment)
{
    if (progress == NULL)
        return;
    progress_moment *shown = &progress->shown;
    *shown = *moment;
    if (!(shown->fraction >= 0.0))
        shown->fraction = 0.0;
    shown->fraction = shown->fraction > 1.0 ? 1.0 : shown->fraction;
    char label[PROGRESS_LABEL_BYTES_MAX];
    text_copy_printable(label, sizeof label, moment->label);
    double now = seconds_now();
    double left = shown->ended ? NAN : time_left(progress, shown->fraction, now);
    progress->shown_left =
        isfinite(shown->seconds_left) && !shown->ended ? shown->seconds_left : left;
    bool new_label = strcmp(label, progress->label) != 0;
    memcpy(progress->label, label, sizeof label);
    shown->label = progress->label;
    int percent = (int)floor(shown->fraction * 100.0);
    if (progress->animated) {
        if (new_label || percent == 100 ||
            now - progress->drawn_at >= 0.001 * PROGRESS_REDRAW_MILLISECONDS_MIN) {
            draw(progress);
            progress->drawn_at = now;
        }
    } else if (new_label || (percent >= progress->line_percent + PROGRESS_LINE_PERCENT &&
                             now - progress->drawn_at >= PROGRESS_LINE_SECONDS_MIN)) {
        print_line(progress);
        progress->line_percent = percent - percent % PROGRESS_LINE_PERCENT;
        progress->drawn_at = now;
    }
}

void progress_resize(client_progress *progress)
{
    if (progress != NULL && progress->drawn &&
        progress->drawn_columns != terminal_columns(progress->stream))
        draw(progress);
}

void progress_clear(client_progress *progress)
{
    if (progress != NULL && progress->drawn) {
        fputs("\r\033[J", progress->stream);
        fflush(progress->stream);
        progress->drawn = false;
    }
}

void progress_free(client_progress *progress)
{
    progress_clear(progress);
    free(progress);
}
