/* SPDX-License-Identifier: Apache-2.0 */
/* A table of texts with columns as wide as their widest cell. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct table_column {
    const char *heading;
    bool right; /* numbers stand to the right */
} table_column;

typedef struct client_table client_table;

/* Copies the columns; headings are made printable. Caller frees; NULL when out of memory, which
 * every function here accepts and table_print reports. */
client_table *table_create(const table_column *columns, size_t count);

/* One column more, before the first cell. There must be one before table_print. */
void table_add_column(client_table *table, const char *heading, bool right);
void table_free(client_table *table);

/* A table of facts: two columns without headings, a name and a value. NULL as above. */
client_table *table_create_facts(void);

/* Adds a row to it, unless the value is empty. */
void table_add_fact(client_table *table, const char *name, const char *value);

/* Fills the next cell, row by row. The text is made printable. */
void table_add(client_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

enum { TABLE_COLUMNS_ANY = 1 << 30 };

/* Headings (bold if `color`) and rows, the last of which must be whole. What is wider than
 * `columns` has its widest texts cut. Errors: CLIENT_FAILURE (out of memory). */
int table_print(const client_table *table, FILE *stream, size_t columns, bool color,
                didi_error *error);
