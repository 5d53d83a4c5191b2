/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as shades. */
#include "client/view/heat.h"

#include "client/view/format.h"
#include "client/view/terminal.h"
#include "src/base/base.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { HEAT_CELL_COLUMNS = 3, HEAT_NAME_COLUMNS_MIN = 8 };

const char *heat_shade(double number, double greatest)
{
    if (!(number > 0.0) || !(greatest > 0.0))
        return terminal_shade(terminal_unicode(), 0);
    const double part = number < greatest ? number / greatest : 1.0;
    return terminal_shade(terminal_unicode(), 1 + (int)floor(part * (TERMINAL_SHADES - 1 - 1e-9)));
}

static void print_name(FILE *stream, const char *name, size_t columns)
{
    char *printable = text_printable(name);
    const size_t used =
        printable != NULL ? terminal_print(stream, printable, columns, terminal_unicode()) : 0;
    fprintf(stream, "%*s", (int)(columns - used), "");
    free(printable);
}

static size_t name_columns(const heat_map *map, size_t room)
{
    size_t widest = HEAT_NAME_COLUMNS_MIN;
    for (size_t i = 0; i < map->row_count; i++)
        widest = larger(widest, format_width(map->rows[i]));
    const size_t cells = HEAT_CELL_COLUMNS * map->column_count;
    const size_t most = room > cells + HEAT_NAME_COLUMNS_MIN ? room - cells : HEAT_NAME_COLUMNS_MIN;
    return widest < most ? widest : most;
}

/* Which column has which name, in lines as wide as the terminal. */
static void print_legend(FILE *stream, const heat_map *map)
{
    const size_t columns = terminal_columns(stream);
    size_t used = columns;
    for (size_t i = 0; i < map->column_count; i++) {
        const size_t width = format_width(map->columns[i]) + 6;
        const bool fresh = used + width >= columns;
        used = fresh ? width : used + width;
        fprintf(stream, "%s%3zu ", fresh ? "\n" : "  ", i);
        print_name(stream, map->columns[i], format_width(map->columns[i]));
    }
    fputc('\n', stream);
}

void heat_print(FILE *stream, const heat_map *map)
{
    const size_t names = name_columns(map, terminal_columns(stream) - 1);
    double greatest = 0.0;
    for (size_t i = 0; i < map->row_count * map->column_count; i++)
        greatest = map->numbers[i] > greatest ? map->numbers[i] : greatest;
    fprintf(stream, "%*s", (int)names, "");
    for (size_t column = 0; column < map->column_count; column++)
        fprintf(stream, "%*zu", HEAT_CELL_COLUMNS, column);
    fputc('\n', stream);
    for (size_t row = 0; row < map->row_count; row++) {
        print_name(stream, map->rows[row], names);
        for (size_t column = 0; column < map->column_count; column++) {
            const double number = map->numbers[row * map->column_count + column];
            const char *shade = isnan(number) ? "-" : heat_shade(number, greatest);
            fprintf(stream, " %s%s", shade, isnan(number) ? " " : shade);
        }
        fputc('\n', stream);
    }
    char scale[FORMAT_BYTES_MAX];
    fprintf(stream, "\n%s%s is %s", heat_shade(greatest, greatest), heat_shade(greatest, greatest),
            format_number(scale, greatest, 4));
    print_legend(stream, map);
}
