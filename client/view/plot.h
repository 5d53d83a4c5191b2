/* SPDX-License-Identifier: Apache-2.0 */
/* A small plot made of characters. */
#pragma once

#include <stddef.h>
#include <stdio.h>

typedef struct plot_point {
    double x, y; /* must be finite */
    char mark; /* must be a printable ASCII character; others cover '*', and later ones earlier ones
                */
} plot_point;

/* Draws count >= 1 points with both axes from the least to the greatest value, as wide as the
 * terminal allows. '*' is drawn as a dot where the locale has one. */
void plot_print(FILE *stream, const plot_point *points, size_t count, const char *x_label,
                const char *y_label);
