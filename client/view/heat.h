/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as shades: a map of rows by columns. */
#pragma once

#include <stddef.h>
#include <stdio.h>

/* The shade of a number, from blank at 0 to full at `greatest`. Static. */
const char *heat_shade(double number, double greatest);

typedef struct heat_map {
    const char *const *rows; /* their names, made printable here */
    size_t row_count;
    const char *const *columns;
    size_t column_count;
    const double *numbers; /* row by row; NaN where there is none */
} heat_map;

/* Draws a column of shades for each column, under its number, and lists the columns' names; rows'
 * names are cut where the terminal is narrow. */
void heat_print(FILE *stream, const heat_map *map);
