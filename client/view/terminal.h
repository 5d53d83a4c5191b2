/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream can show: how wide it is, and whether beyond ASCII. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum {
    TERMINAL_COLUMNS_DEFAULT = 80, /* of what is no terminal, or does not say */
    TERMINAL_ROWS_DEFAULT = 24,
    TERMINAL_SHADES = 8,
};

/* Columns of the terminal that the stream is now. */
size_t terminal_columns(FILE *stream);

/* Its lines likewise. */
size_t terminal_rows(FILE *stream);

bool terminal_is(FILE *stream);

/* True where the locale's characters are UTF-8; else drawings are made of ASCII. */
bool terminal_unicode(void);

/* One column filled from the bottom to (level + 1) / TERMINAL_SHADES; level 0 .. TERMINAL_SHADES -
 * 1, others are cut off to it. Static. */
const char *terminal_height(bool unicode, int level);

/* One column darker with the level, from blank to full; levels as above. Static. */
const char *terminal_shade(bool unicode, int level);

/* Prints at most `columns` columns of printable text; what is cut ends in an ellipsis. Returns the
 * columns taken. */
size_t terminal_print(FILE *stream, const char *text, size_t columns, bool unicode);
