/* SPDX-License-Identifier: Apache-2.0 */
/* A curve one line high: numbers as they come, thinned so that all of them have a place. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { SPARK_POINTS_MAX = 512 };

/* Initialise with {0}. */
typedef struct spark {
    double points[SPARK_POINTS_MAX];
    size_t count;
    size_t step;    /* one of so many numbers is kept; 0 at first */
    size_t skipped; /* since the last that was kept */
} spark;

/* Numbers that are not finite are left out. */
void spark_add(spark *self, double number);
void spark_clear(spark *self);

/* Draws `columns` columns from the least to the greatest of the numbers, the newest to the right;
 * blanks stand for numbers that are not there yet. */
void spark_print(const spark *self, FILE *stream, size_t columns, bool unicode);
