/* SPDX-License-Identifier: Apache-2.0 */
/* A table of texts with columns as wide as their widest cell. */
#include "client/view/table.h"

#include "client/base/base.h"
#include "client/view/format.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>

enum { TABLE_GAP_COLUMNS = 2 };

struct client_table {
    char **headings;
    bool *right;
    size_t column_count;
    char **cells;
    size_t cell_count, cell_room;
    bool failed; /* out of memory on the way */
};

client_table *table_create(const table_column *columns, size_t count)
{
    assert(count > 0);
    client_table *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->column_count = count;
    self->headings = memory_zeroed(count, sizeof *self->headings);
    self->right = memory_zeroed(count, sizeof *self->right);
    for (size_t i = 0; i < count && self->headings != NULL && self->right != NULL; i++) {
        self->headings[i] = format_printable(columns[i].heading);
        self->right[i] = columns[i].right;
        self->failed = self->failed || self->headings[i] == NULL;
    }
    if (self->headings == NULL || self->right == NULL || self->failed) {
        table_free(self);
        return NULL;
    }
    return self;
}

void table_free(client_table *table)
{
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->cell_count; i++)
        free(table->cells[i]);
    for (size_t i = 0; table->headings != NULL && i < table->column_count; i++)
        free(table->headings[i]);
    free(table->cells);
    free(table->headings);
    free(table->right);
    free(table);
}

void table_add(client_table *table, const char *format, ...)
{
    if (table == NULL || table->failed)
        return;
    char **cells = memory_grown(table->cells, table->cell_count, &table->cell_room, sizeof *cells);
    if (cells == NULL) {
        table->failed = true;
        return;
    }
    table->cells = cells;
    char *text = NULL;
    va_list values;
    va_start(values, format);
    if (vasprintf(&text, format, values) < 0)
        text = NULL;
    va_end(values);
    char *cell = text != NULL ? format_printable(text) : NULL;
    free(text);
    if (cell == NULL) {
        table->failed = true;
        return;
    }
    table->cells[table->cell_count++] = cell;
}

client_table *table_create_facts(void)
{
    static const table_column columns[] = {{"", false}, {"", false}};
    return table_create(columns, 2);
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
        fprintf(stream, "%*s%s", (int)*owed, "", text);
        *owed = 0;
    }
    *owed += (right ? 0 : padding) + TABLE_GAP_COLUMNS;
}

static void measure(const client_table *table, bool headings, size_t *widths)
{
    for (size_t i = 0; headings && i < table->column_count; i++)
        widths[i] = format_width(table->headings[i]);
    size_t column = 0;
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t width = format_width(table->cells[i]);
        widths[column] = width > widths[column] ? width : widths[column];
        column = column + 1 < table->column_count ? column + 1 : 0;
    }
}

int table_print(const client_table *table, FILE *stream, bool headings, bool color,
                didi_error *error)
{
    size_t *widths = NULL;
    if (table == NULL || table->failed ||
        (widths = memory_zeroed(table->column_count, sizeof *widths)) == NULL)
        return client_fail_memory(error);
    measure(table, headings, widths);
    size_t columns = table->column_count;
    assert(table->cell_count % columns == 0);
    size_t owed = 0;
    fputs(headings && color ? "\033[1m" : "", stream);
    for (size_t i = 0; headings && i < columns; i++)
        print_cell(stream, table->headings[i], widths[i], table->right[i], &owed);
    fputs(headings && color ? "\033[0m" : "", stream);
    fputs(headings ? "\n" : "", stream);
    owed = 0;
    size_t at = 0;
    for (size_t i = 0; i < table->cell_count; i++) {
        print_cell(stream, table->cells[i], widths[at], table->right[at], &owed);
        at++;
        if (at == columns) {
            fputc('\n', stream);
            owed = 0;
            at = 0;
        }
    }
    free(widths);
    return CLIENT_OK;
}
