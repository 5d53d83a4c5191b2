/* SPDX-License-Identifier: Apache-2.0 */
/* A table of texts with columns as wide as their widest cell. */
#include "client/view/table.h"

#include "client/base/base.h"
#include "client/view/format.h"
#include "client/view/terminal.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>

enum { TABLE_GAP_COLUMNS = 2, TABLE_CELL_COLUMNS_MIN = 10 };

struct client_table {
    bool *right; /* of each column */
    size_t column_count, column_room;
    char **cells; /* row by row; the first row is the headings */
    size_t cell_count, cell_room;
    bool headed; /* the headings are shown */
    bool failed; /* out of memory on the way */
};

client_table *table_create(const table_column *columns, size_t count)
{
    client_table *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->headed = true;
    for (size_t i = 0; i < count; i++)
        table_add_column(self, columns[i].heading, columns[i].right);
    return self;
}

void table_free(client_table *table)
{
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->cell_count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table->right);
    free(table);
}

/* Takes the cell, which may be NULL for lack of memory. */
static void take_cell(client_table *self, char *cell)
{
    char **cells = memory_grown(self->cells, self->cell_count, &self->cell_room, sizeof *cells);
    self->cells = cells != NULL ? cells : self->cells;
    if (cells != NULL && cell != NULL)
        cells[self->cell_count++] = cell;
    else
        self->failed = true;
    if (cells == NULL)
        free(cell);
}

void table_add_column(client_table *table, const char *heading, bool right)
{
    if (table == NULL || table->failed)
        return;
    assert(table->cell_count == table->column_count);
    bool *grown =
        memory_grown(table->right, table->column_count, &table->column_room, sizeof *grown);
    if (grown == NULL) {
        table->failed = true;
        return;
    }
    table->right = grown;
    table->right[table->column_count++] = right;
    take_cell(table, text_printable(heading));
}

void table_add(client_table *table, const char *format, ...)
{
    if (table == NULL || table->failed)
        return;
    va_list values;
    va_start(values, format);
    take_cell(table, format_printable_values(format, values));
    va_end(values);
}

client_table *table_create_facts(void)
{
    static const table_column columns[] = {{"", false}, {"", false}};
    client_table *self = table_create(columns, 2);
    if (self != NULL)
        self->headed = false;
    return self;
}

void table_add_fact(client_table *table, const char *name, const char *value)
{
    assert(table == NULL || table->column_count == 2);
    if (value[0] != '\0') {
        table_add(table, "%s", name);
        table_add(table, "%s", value);
    }
}

/* Blanks are owed until text follows them, so that no line ends in blanks. */
static void print_cell(FILE *stream, const char *text, size_t width, bool right, size_t *owed)
{
    size_t own = format_width(text);
    size_t padding = width > own ? width - own : 0;
    *owed += right ? padding : 0;
    if (own > 0) {
        fprintf(stream, "%*s", (int)*owed, "");
        if (own > width) /* of a table that a terminal is too narrow for */
            (void)terminal_print(stream, text, width, terminal_unicode());
        else
            fputs(text, stream);
        *owed = 0;
    }
    *owed += (right ? 0 : padding) + TABLE_GAP_COLUMNS;
}

static void measure(const client_table *table, size_t *widths)
{
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t *width = &widths[i % table->column_count];
        *width = larger(*width, format_width(table->cells[i]));
    }
}

/* The widest column of texts that can do with less: others before the first, which tells the rows
 * apart. Numbers stay whole. The count of columns where there is none. */
static size_t widest_text(const client_table *table, const size_t *widths)
{
    size_t widest = table->column_count;
    for (size_t i = table->column_count; i-- > 0;) {
        if (table->right[i] || widths[i] <= TABLE_CELL_COLUMNS_MIN)
            continue;
        if (widest == table->column_count || (i > 0 && widths[i] > widths[widest]))
            widest = i;
    }
    return widest;
}

/* Takes from texts what there is no room for. */
static void fit(const client_table *table, size_t room, size_t *widths)
{
    size_t total = 0;
    for (size_t i = 0; i < table->column_count; i++)
        total += widths[i] + (i > 0 ? TABLE_GAP_COLUMNS : 0);
    for (; total > room; total--) {
        const size_t widest = widest_text(table, widths);
        if (widest == table->column_count)
            return;
        widths[widest]--;
    }
}

int table_print(const client_table *table, FILE *stream, size_t columns_max, bool color,
                didi_error *error)
{
    size_t *widths = NULL;
    if (table == NULL || table->failed ||
        (widths = memory_zeroed(table->column_count, sizeof *widths)) == NULL)
        return client_fail_memory(error);
    measure(table, widths);
    fit(table, columns_max, widths);
    size_t columns = table->column_count;
    assert(columns > 0 && table->cell_count % columns == 0);
    size_t owed = 0;
    fputs(table->headed && color ? "\033[1m" : "", stream);
    for (size_t i = table->headed ? 0 : columns; i < table->cell_count; i++) {
        size_t column = i % columns;
        print_cell(stream, table->cells[i], widths[column], table->right[column], &owed);
        if (column + 1 == columns) {
            fputs(i < columns && color ? "\033[0m\n" : "\n", stream);
            owed = 0;
        }
    }
    free(widths);
    return CLIENT_OK;
}
