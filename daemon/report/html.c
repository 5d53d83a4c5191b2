/* SPDX-License-Identifier: Apache-2.0 */
/* Texts and numbers into HTML: escapes. */
#include "daemon/report/html.h"

#include <stdint.h>
#include <string.h>

static const char *entity_of(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

static void print_escaped(FILE *out, const char *text, size_t bytes)
{
    char escape[TEXT_ESCAPE_BYTES];
    while (bytes > 0) {
        size_t length = text_printable_character(text, bytes);
        const char *entity = length == 1 ? entity_of(*text) : NULL;
        if (entity != NULL) {
            fputs(entity, out);
        } else if (length > 0) {
            (void)fwrite(text, 1, length, out);
        } else {
            length = text_escape_character(text, bytes, escape);
            fputs(escape, out);
        }
        text += length;
        bytes -= length;
    }
}

void html_text(FILE *out, const char *text)
{
    text = text != NULL ? text : "-";
    print_escaped(out, text, strlen(text));
}

void html_lines(FILE *out, const char *text)
{
    for (size_t bytes = strcspn(text, "\n"); *text != '\0'; bytes = strcspn(text, "\n")) {
        print_escaped(out, text, bytes);
        text += bytes;
        if (*text == '\n') {
            (void)fputc('\n', out);
            text++;
        }
    }
}

/* As JSON writes a character by its number: above U+FFFF as two surrogates. */
static void print_units(FILE *out, uint32_t point)
{
    if (point < 0x10000) {
        fprintf(out, "\\u%04x", (unsigned)point);
        return;
    }
    point -= 0x10000;
    fprintf(out, "\\u%04x\\u%04x", (unsigned)(0xd800 + (point >> 10)),
            (unsigned)(0xdc00 + (point & 0x3ff)));
}

void html_data(FILE *out, const char *json)
{
    for (size_t left = strlen(json), length; left > 0; json += length, left -= length) {
        length = text_character(json, left);
        length = length > 0 ? length : 1;
        if (*json == '<' || *json == '>' || *json == '&' ||
            text_printable_character(json, left) == 0)
            print_units(out, text_code_point(json, length));
        else
            (void)fwrite(json, 1, length, out);
    }
}

static void print_grouped(FILE *out, json_int_t number)
{
    char digits[32];
    int count = snprintf(digits, sizeof digits, "%lld", (long long)number);
    for (int i = 0; i < count; i++) {
        (void)fputc(digits[i], out);
        if (i + 1 < count && (count - i - 1) % 3 == 0)
            (void)fputc(',', out);
    }
}

void html_bytes(FILE *out, const json_t *bytes)
{
    if (json_is_integer(bytes) && json_integer_value(bytes) >= 0)
        print_grouped(out, json_integer_value(bytes));
    else
        (void)fputc('-', out);
}

void html_number(FILE *out, const json_t *number, int digits)
{
    if (json_is_number(number))
        fprintf(out, "%.*g", digits, json_number_value(number));
    else
        (void)fputc('-', out);
}

const char *html_member(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}
