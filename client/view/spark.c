/* SPDX-License-Identifier: Apache-2.0 */
/* A curve one line high. */
#include "client/view/spark.h"

#include "client/view/terminal.h"

#include <math.h>

void spark_clear(spark *self)
{
    *self = (spark){.count = 0};
}

void spark_add(spark *self, double number)
{
    if (!isfinite(number))
        return;
    self->step = self->step == 0 ? 1 : self->step;
    self->skipped++;
    if (self->count > 0 && self->skipped < self->step)
        return;
    self->skipped = 0;
    if (self->count == SPARK_POINTS_MAX) {
        for (size_t i = 0; i < SPARK_POINTS_MAX / 2; i++)
            self->points[i] = self->points[2 * i];
        self->count = SPARK_POINTS_MAX / 2;
        self->step *= 2;
    }
    self->points[self->count++] = number;
}

/* Where a number stands between the least and the greatest; in the middle where all are one. */
static int level_of(double number, double least, double greatest)
{
    if (!(greatest > least))
        return TERMINAL_SHADES / 2 - 1;
    return (int)lround((number - least) / (greatest - least) * (TERMINAL_SHADES - 1));
}

/* The mean of the points that share a column. */
static double column_of(const spark *self, size_t column, size_t columns)
{
    size_t first = column * self->count / columns;
    size_t end = (column + 1) * self->count / columns;
    double sum = 0.0;
    for (size_t i = first; i < end; i++)
        sum += self->points[i];
    return sum / (double)(end - first);
}

void spark_print(const spark *self, FILE *stream, size_t columns, bool unicode)
{
    const size_t drawn = self->count < columns ? self->count : columns;
    double least = INFINITY;
    double greatest = -INFINITY;
    for (size_t column = 0; column < drawn; column++) {
        const double number = column_of(self, column, drawn);
        least = fmin(least, number);
        greatest = fmax(greatest, number);
    }
    for (size_t column = 0; column < drawn; column++)
        fputs(terminal_height(unicode, level_of(column_of(self, column, drawn), least, greatest)),
              stream);
    for (size_t column = drawn; column < columns; column++)
        fputc(' ', stream);
}
