/* SPDX-License-Identifier: Apache-2.0 */
/* A table of texts with columns as wide as their widest cell. */
#include "client/table.h"

#include "client/exit_code.h"
#include "client/format.h"
#include "src/base/memory.h"

#include <stdarg.h>
#include <stdlib.h>

struct client_table {
    table_column *columns;
    size_t column_count;
    char **cells;
    size_t cell_count, cell_room;
    bool failed; /* out of memory on the way */
};

client_table *table_create(const table_column *columns, size_t count)
{
    client_table *self = memory_zeroed(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->columns = memory_zeroed(count, sizeof *columns);
    if (self->columns == NULL) {
        free(self);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        self->columns[i] = columns[i];
    }
    self->column_count = count;
    return self;
}

void table_free(client_table *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    free(table->columns);
    free(table);
}

void table_add(client_table *table, const char *format, ...)
{
    if (table == NULL || table->failed) {
        return;
    }
    if (table->cell_count == table->cell_room) {
        size_t room = table->cell_room == 0 ? 64 : 2 * table->cell_room;
        char **cells = reallocarray(table->cells, room, sizeof *cells);
        if (cells == NULL) {
            table->failed = true;
            return;
        }
        table->cells = cells;
        table->cell_room = room;
    }
    char *text = NULL;
    va_list values;
    va_start(values, format);
    if (vasprintf(&text, format, values) < 0) {
        text = NULL;
    }
    va_end(values);
    char *cell = text != NULL ? format_printable(text) : NULL;
    free(text);
    if (cell == NULL) {
        table->failed = true;
        return;
    }
    table->cells[table->cell_count++] = cell;
}

static void print_cell(FILE *stream, const char *text, size_t width, bool right, bool last)
{
    size_t own = format_width(text);
    int padding = (int)(width > own ? width - own : 0);
    if (right) {
        fprintf(stream, "%*s%s", padding, "", text);
    } else if (last) {
        fputs(text, stream);
    } else {
        fprintf(stream, "%s%*s", text, padding, "");
    }
    fputs(last ? "\n" : "  ", stream);
}

static void measure(const client_table *table, bool headings, size_t *widths)
{
    for (size_t i = 0; headings && i < table->column_count; i++) {
        widths[i] = format_width(table->columns[i].heading);
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t width = format_width(table->cells[i]);
        size_t column = i % table->column_count;
        widths[column] = width > widths[column] ? width : widths[column];
    }
}

int table_print(const client_table *table, FILE *stream, bool headings, bool color,
                didi_error *error)
{
    size_t *widths = NULL;
    if (table == NULL || table->failed ||
        (widths = memory_zeroed(table->column_count, sizeof *widths)) == NULL) {
        return didi_fail(error, CLIENT_FAILURE, NULL, "out of memory");
    }
    measure(table, headings, widths);
    size_t columns = table->column_count;
    if (headings) {
        fputs(color ? "\033[1m" : "", stream);
        for (size_t i = 0; i < columns; i++) {
            bool last = i + 1 == columns;
            const table_column *column = &table->columns[i];
            if (last && color) {
                int padding = column->right ? (int)(widths[i] - format_width(column->heading)) : 0;
                fprintf(stream, "%*s%s\033[0m\n", padding, "", column->heading);
            } else {
                print_cell(stream, column->heading, widths[i], column->right, last);
            }
        }
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t at = i % columns;
        print_cell(stream, table->cells[i], widths[at], table->columns[at].right,
                   at + 1 == columns);
    }
    free(widths);
    return CLIENT_OK;
}
