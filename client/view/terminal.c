/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream can show. */
#include "client/view/terminal.h"

#include "client/view/format.h"
#include "src/base/base.h"

#include <langinfo.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

size_t terminal_columns(FILE *stream)
{
    struct winsize window = {0};
    if (ioctl(fileno(stream), TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
        return window.ws_col;
    return TERMINAL_COLUMNS_DEFAULT;
}

size_t terminal_rows(FILE *stream)
{
    struct winsize window = {0};
    if (ioctl(fileno(stream), TIOCGWINSZ, &window) == 0 && window.ws_row > 0)
        return window.ws_row;
    return TERMINAL_ROWS_DEFAULT;
}

bool terminal_is(FILE *stream)
{
    return isatty(fileno(stream)) == 1;
}

bool terminal_unicode(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

static int cut_level(int level)
{
    return level < 0 ? 0 : level < TERMINAL_SHADES ? level : TERMINAL_SHADES - 1;
}

const char *terminal_height(bool unicode, int level)
{
    static const char *const blocks[TERMINAL_SHADES] = {"\u2581", "\u2582", "\u2583", "\u2584",
                                                        "\u2585", "\u2586", "\u2587", "\u2588"};
    static const char *const letters[TERMINAL_SHADES] = {"_", ".", ":", "-", "=", "+", "*", "#"};
    return (unicode ? blocks : letters)[cut_level(level)];
}

const char *terminal_shade(bool unicode, int level)
{
    static const char *const blocks[TERMINAL_SHADES] = {" ",      "\u2591", "\u2591", "\u2592",
                                                        "\u2592", "\u2593", "\u2593", "\u2588"};
    static const char *const letters[TERMINAL_SHADES] = {" ", ".", ":", "-", "=", "+", "*", "#"};
    return (unicode ? blocks : letters)[cut_level(level)];
}

size_t terminal_print(FILE *stream, const char *text, size_t columns, bool unicode)
{
    const size_t whole = format_width(text);
    const bool cut = whole > columns;
    const char *mark = unicode ? "\u2026" : "~";
    const size_t room = cut ? columns - (columns > 0 ? 1 : 0) : columns;
    size_t used = 0;
    size_t left = strlen(text);
    while (left > 0) {
        size_t bytes = text_character(text, left);
        bytes = bytes > 0 ? bytes : 1;
        const size_t width = format_character_width(text, bytes);
        if (used + width > room)
            break;
        fwrite(text, 1, bytes, stream);
        used += width;
        text += bytes;
        left -= bytes;
    }
    if (cut && columns > 0) {
        fputs(mark, stream);
        used++;
    }
    return used;
}
