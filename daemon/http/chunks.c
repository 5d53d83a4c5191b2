/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding of chunks: whole lines are gathered and then read, data is handed on as it is. */
#include "daemon/http/chunks.h"

#include "daemon/http/head.h"

#include <string.h>

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

static const char *skip_token(const char *text)
{
    size_t bytes = strcspn(text, ";= \t\"");
    return http_is_token(text, bytes) ? text + bytes : NULL;
}

static const char *skip_quoted(const char *text)
{
    for (text++; *text != '"'; text++) {
        if (*text == '\\')
            text++;
        if (*text == '\0')
            return NULL;
    }
    return text + 1;
}

/* *( BWS ";" BWS name [ BWS "=" BWS value ] ); nothing else may follow a size. */
static bool extensions_are_fine(const char *text)
{
    while (*text != '\0') {
        text = skip_blanks(text);
        if (*text != ';')
            return false;
        text = skip_token(skip_blanks(text + 1));
        if (text == NULL)
            return false;
        const char *after = skip_blanks(text);
        if (*after != '=')
            continue;
        text = skip_blanks(after + 1);
        text = *text == '"' ? skip_quoted(text) : skip_token(text);
        if (text == NULL)
            return false;
    }
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static const char *read_size(http_chunks *self)
{
    uint64_t size = 0;
    size_t digits = 0;
    for (; hex_value(self->line[digits]) >= 0; digits++) {
        if (digits == HTTP_CHUNK_DIGITS_MAX)
            return "a chunk's size has more than 8 digits";
        size = size * 16 + (uint64_t)hex_value(self->line[digits]);
    }
    if (digits == 0)
        return "a chunk has no size";
    if (!extensions_are_fine(self->line + digits))
        return "a chunk has a broken extension";
    self->extra += self->line_bytes - digits;
    self->left = size;
    self->phase = size == 0 ? HTTP_CHUNK_TRAILER : HTTP_CHUNK_DATA;
    return NULL;
}

static const char *read_trailer(http_chunks *self)
{
    const char *colon = strchr(self->line, ':');
    if (self->line_bytes == 0) {
        self->phase = HTTP_CHUNK_END;
        return NULL;
    }
    if (colon == NULL || !http_is_token(self->line, (size_t)(colon - self->line)))
        return "a trailer has no name, or one that is not a token";
    self->extra += self->line_bytes;
    return NULL;
}

static const char *read_line(http_chunks *self)
{
    const char *fault = NULL;
    self->line[self->line_bytes] = '\0';
    if (!http_is_field_value(self->line, self->line_bytes))
        return "a line between chunks has a control byte";
    if (self->phase == HTTP_CHUNK_SIZE)
        fault = read_size(self);
    else if (self->phase == HTTP_CHUNK_TRAILER)
        fault = read_trailer(self);
    else if (self->line_bytes > 0)
        fault = "a chunk is longer than its size";
    else
        self->phase = HTTP_CHUNK_SIZE;
    if (self->extra > HTTP_CHUNK_EXTRA_BYTES)
        fault = "extensions and trailers are longer than 8192 bytes";
    self->line_bytes = 0;
    return fault;
}

/* One byte of a line. The CR is kept in `line` until its LF is there. */
static const char *take_byte(http_chunks *self, char c)
{
    bool after_cr = self->line_bytes > 0 && self->line[self->line_bytes - 1] == '\r';
    if (c == '\n' && after_cr) {
        self->line_bytes--;
        return read_line(self);
    }
    if (c == '\n' || after_cr)
        return "a line between chunks does not end in CR and LF";
    if (self->phase == HTTP_CHUNK_DATA_END && c != '\r')
        return "a chunk is longer than its size";
    if (self->line_bytes == HTTP_CHUNK_LINE_BYTES - 1)
        return "a line between chunks is longer than 1022 bytes";
    self->line[self->line_bytes++] = c;
    return NULL;
}

size_t http_chunks_take(http_chunks *self, const char *bytes, size_t count, const char **ret_data,
                        size_t *ret_data_bytes, const char **fault)
{
    size_t taken = 0;
    *ret_data_bytes = 0;
    *fault = NULL;
    while (taken < count && self->phase != HTTP_CHUNK_END && *fault == NULL) {
        if (self->phase != HTTP_CHUNK_DATA) {
            *fault = take_byte(self, bytes[taken++]);
            continue;
        }
        size_t piece = count - taken < self->left ? count - taken : (size_t)self->left;
        *ret_data = bytes + taken;
        *ret_data_bytes = piece;
        self->left -= piece;
        if (self->left == 0)
            self->phase = HTTP_CHUNK_DATA_END;
        return taken + piece;
    }
    return taken;
}
