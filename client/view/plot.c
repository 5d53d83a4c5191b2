/* SPDX-License-Identifier: Apache-2.0 */
/* A small plot made of characters. Short because it knows nothing of what it draws. */
#include "client/view/plot.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { PLOT_COLUMNS = 60, PLOT_ROWS = 14 };

static long cell_of(double value, double least, double greatest, int cells)
{
    double span = greatest - least;
    return span > 0.0 ? lround((value - least) / span * (cells - 1)) : 0;
}

void plot_print(FILE *stream, const plot_point *points, size_t count, const char *x_label,
                const char *y_label)
{
    assert(count > 0);
    plot_point least = points[0];
    plot_point greatest = points[0];
    for (size_t i = 1; i < count; i++) {
        least.x = fmin(least.x, points[i].x);
        least.y = fmin(least.y, points[i].y);
        greatest.x = fmax(greatest.x, points[i].x);
        greatest.y = fmax(greatest.y, points[i].y);
    }
    char cells[PLOT_ROWS][PLOT_COLUMNS + 1];
    for (size_t row = 0; row < PLOT_ROWS; row++) {
        memset(cells[row], ' ', PLOT_COLUMNS);
        cells[row][PLOT_COLUMNS] = '\0';
    }
    for (size_t i = 0; i < count; i++) {
        assert(isfinite(points[i].x) && isfinite(points[i].y));
        assert(points[i].mark >= ' ' && points[i].mark <= '~');
        long column = cell_of(points[i].x, least.x, greatest.x, PLOT_COLUMNS);
        long row = PLOT_ROWS - 1 - cell_of(points[i].y, least.y, greatest.y, PLOT_ROWS);
        cells[row][column] = points[i].mark;
    }
    fprintf(stream, "%s\n", y_label);
    for (int row = 0; row < PLOT_ROWS; row++)
        if (row == 0 || row == PLOT_ROWS - 1)
            fprintf(stream, "%8.4f |%s\n", row == 0 ? greatest.y : least.y, cells[row]);
        else
            fprintf(stream, "%8s |%s\n", "", cells[row]);
    fprintf(stream, "%8s +", "");
    for (int column = 0; column < PLOT_COLUMNS; column++)
        fputc('-', stream);
    fprintf(stream, "\n%8s  %-8.4f%*s%8.4f  %s\n", "", least.x, PLOT_COLUMNS - 16, "", greatest.x,
            x_label);
}
