/* SPDX-License-Identifier: Apache-2.0 */
/* A small plot made of characters. */
#include "client/view/plot.h"

#include "client/view/terminal.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    PLOT_COLUMNS_MIN = 16,
    PLOT_COLUMNS_MAX = 100,
    PLOT_ROWS = 14,
    PLOT_AXIS_COLUMNS = 10 /* number, blank, axis */
};

typedef struct plot_area {
    plot_point least, greatest;
    int columns;
    char cells[PLOT_ROWS][PLOT_COLUMNS_MAX];
} plot_area;

static int cell_of(double value, double least, double greatest, int cells)
{
    double span = greatest - least;
    return span > 0.0 ? (int)lround((value - least) / span * (cells - 1)) : 0;
}

static void area_begin(plot_area *self, const plot_point *points, size_t count, size_t columns)
{
    const size_t room = columns > PLOT_AXIS_COLUMNS ? columns - PLOT_AXIS_COLUMNS - 1 : 0;
    self->columns = room < PLOT_COLUMNS_MIN   ? PLOT_COLUMNS_MIN
                    : room > PLOT_COLUMNS_MAX ? PLOT_COLUMNS_MAX
                                              : (int)room;
    self->least = self->greatest = points[0];
    for (size_t i = 1; i < count; i++) {
        self->least.x = fmin(self->least.x, points[i].x);
        self->least.y = fmin(self->least.y, points[i].y);
        self->greatest.x = fmax(self->greatest.x, points[i].x);
        self->greatest.y = fmax(self->greatest.y, points[i].y);
    }
    memset(self->cells, ' ', sizeof self->cells);
}

static void area_set(plot_area *self, const plot_point *point)
{
    assert(isfinite(point->x) && isfinite(point->y));
    assert(point->mark >= ' ' && point->mark <= '~');
    int column = cell_of(point->x, self->least.x, self->greatest.x, self->columns);
    int row = PLOT_ROWS - 1 - cell_of(point->y, self->least.y, self->greatest.y, PLOT_ROWS);
    self->cells[row][column] = point->mark;
}

/* Without the blanks at its end. */
static void print_row(const plot_area *self, FILE *stream, int row, bool unicode)
{
    int end = self->columns;
    while (end > 0 && self->cells[row][end - 1] == ' ')
        end--;
    for (int column = 0; column < end; column++) {
        const char mark = self->cells[row][column];
        if (mark == '*' && unicode)
            fputs("\u2022", stream);
        else
            fputc(mark, stream);
    }
    fputc('\n', stream);
}

void plot_print(FILE *stream, const plot_point *points, size_t count, const char *x_label,
                const char *y_label)
{
    assert(count > 0);
    const bool unicode = terminal_unicode();
    plot_area area;
    area_begin(&area, points, count, terminal_columns(stream));
    for (size_t i = 0; i < count; i++)
        if (points[i].mark == '*')
            area_set(&area, &points[i]);
    for (size_t i = 0; i < count; i++)
        if (points[i].mark != '*')
            area_set(&area, &points[i]);
    fprintf(stream, "%s\n", y_label);
    for (int row = 0; row < PLOT_ROWS; row++) {
        const bool first = row == 0;
        if (first || row == PLOT_ROWS - 1)
            fprintf(stream, "%8.4f %s", first ? area.greatest.y : area.least.y,
                    unicode ? "\u2524" : "|");
        else
            fprintf(stream, "%8s %s", "", unicode ? "\u2502" : "|");
        print_row(&area, stream, row, unicode);
    }
    fprintf(stream, "%8s %s", "", unicode ? "\u2514" : "+");
    for (int column = 0; column < area.columns; column++)
        fputs(unicode ? "\u2500" : "-", stream);
    fprintf(stream, "\n%9s %-8.4f%*s%8.4f\n%9s ", "", area.least.x,
            area.columns > 16 ? area.columns - 16 : 1, "", area.greatest.x, "");
    (void)terminal_print(stream, x_label, terminal_columns(stream) - PLOT_AXIS_COLUMNS - 1,
                         unicode);
    fputc('\n', stream);
}
