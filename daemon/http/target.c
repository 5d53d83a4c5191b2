/* SPDX-License-Identifier: Apache-2.0 */
/* Splitting and decoding of request targets. */
#include "daemon/http/target.h"

#include "src/base/base.h"

#include <string.h>

/* The parser's place: what is left of the input, where the next decoded byte goes. */
typedef struct cursor {
    const char *from;
    char *to;
} cursor;

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool must_be_escaped(char c)
{
    switch (c) {
    case '#':
    case '"':
    case '<':
    case '>':
    case '^':
    case '`':
    case '{':
    case '|':
    case '}':
        return true;
    default:
        return c <= ' ' || c > '~';
    }
}

/* Decodes up to one of the two characters of `ends` or the end; NUL-terminates the copy. */
static const char *decode(cursor *at, const char ends[2], bool in_query, const char **ret_text)
{
    char *start = at->to;
    for (; *at->from != '\0' && *at->from != ends[0] && *at->from != ends[1]; at->from++) {
        char c = *at->from;
        if (must_be_escaped(c))
            return "the target holds a character that must be escaped";
        if (c == '%') {
            int high = hex_digit(at->from[1]);
            int low = high < 0 ? -1 : hex_digit(at->from[2]);
            if (low < 0)
                return "the target holds a broken escape";
            c = (char)(unsigned char)(high * 16 + low);
            if (c == '\0' || (!in_query && (c == '/' || c == '\\')))
                return "the target holds an escaped NUL, slash or backslash";
            at->from += 2;
        } else if (c == '+' && in_query) {
            c = ' ';
        } else if (c == '\\') {
            return "the target holds a backslash";
        }
        *at->to++ = c;
    }
    *at->to++ = '\0';
    size_t length = (size_t)(at->to - start) - 1;
    if (!text_is_utf8(start, length) || text_has_control(start, length))
        return "the target holds control characters or is not UTF-8";
    *ret_text = start;
    return NULL;
}

static const char *parse_path(cursor *at, http_target *target)
{
    if (at->from[0] != '/')
        return "the target does not start with a slash";
    while (*at->from == '/') {
        const char *segment;
        at->from++;
        if (*at->from == '\0' || *at->from == '?') {
            target->is_folder = target->segment_count > 0;
            return NULL;
        }
        const char *reason = decode(at, "/?", false, &segment);
        if (reason != NULL)
            return reason;
        if (segment[0] == '\0' || strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0)
            return "the path holds an empty or a dot segment";
        if (target->segment_count == HTTP_TARGET_SEGMENTS_MAX)
            return "the path has too many segments";
        target->segments[target->segment_count++] = segment;
    }
    return NULL;
}

static const char *parse_parameter(cursor *at, http_target *target)
{
    http_parameter parameter = {.value = ""};
    const char *reason = decode(at, "=&", true, &parameter.name);
    if (reason != NULL)
        return reason;
    if (*at->from == '=') {
        at->from++;
        reason = decode(at, "&&", true, &parameter.value);
        if (reason != NULL)
            return reason;
    }
    for (size_t i = 0; i < target->parameter_count; i++)
        if (strcmp(target->parameters[i].name, parameter.name) == 0)
            return "a query parameter is there twice";
    if (target->parameter_count == HTTP_TARGET_PARAMETERS_MAX)
        return "the query has too many parameters";
    target->parameters[target->parameter_count++] = parameter;
    return NULL;
}

const char *http_target_parse(const char *raw, http_target *ret_target)
{
    cursor at = {raw, ret_target->storage};
    ret_target->segment_count = 0;
    ret_target->is_folder = false;
    ret_target->parameter_count = 0;
    /* Decoding never lengthens; each separator is replaced by one NUL, the last piece adds one. */
    if (strnlen(raw, HTTP_TARGET_BYTES_MAX) >= HTTP_TARGET_BYTES_MAX - 1)
        return "the target is too long";
    const char *reason = parse_path(&at, ret_target);
    if (reason != NULL || *at.from == '\0')
        return reason;
    at.from++; /* '?' */
    while (*at.from != '\0') {
        reason = parse_parameter(&at, ret_target);
        if (reason != NULL)
            return reason;
        if (*at.from == '&')
            at.from++;
    }
    return NULL;
}

bool http_number_parse(const char *text, long long lowest, long long highest, long long *ret_number)
{
    long long number = 0;
    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || *text - '0' > highest ||
            number > (highest - (*text - '0')) / 10)
            return false;
        number = number * 10 + (*text - '0');
    }
    if (number < lowest)
        return false;
    *ret_number = number;
    return true;
}
