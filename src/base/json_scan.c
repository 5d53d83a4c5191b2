/* SPDX-License-Identifier: Apache-2.0 */
/* A strict pull scanner of JSON. */
#include "src/base/json_scan.h"

#include "src/base/memory.h"
#include "src/base/text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct json_scan {
    const char *text;
    size_t bytes;
    size_t at;
    bool fresh;    /* a bracket was just opened: no comma before the next value */
    char *strings; /* a decoded string and its NUL never exceed its text and quotes: `bytes` suffice
                    */
    size_t strings_used;
    char *subject;
    const char *what;
};

#define scan_fail(scan, error, ...)                                                                \
    scan_fail_at((scan), (scan)->at, (error), __FILE__, __LINE__, __VA_ARGS__)

static int scan_fail_at(const json_scan *scan, size_t at, didi_error *error, const char *file,
                        int line, const char *expected)
{
    return didi_error_set(error, DIDI_FORMAT, file, line, scan->subject, "%s, byte %zu: %s",
                          scan->what, at, expected);
}

int json_scan_new(const char *text, size_t bytes, const char *subject, const char *what,
                  json_scan **ret_scan, didi_error *error)
{
    assert(text != NULL && subject != NULL && what != NULL);
    json_scan *scan = memory_zeroed(1, sizeof(*scan));
    if (scan == NULL)
        goto no_memory;
    scan->text = text;
    scan->bytes = bytes;
    scan->what = what;
    scan->subject = memory_string(subject);
    scan->strings = memory_resized(NULL, bytes, 1);
    if (scan->subject == NULL || scan->strings == NULL)
        goto no_memory;
    *ret_scan = scan;
    return DIDI_OK;
no_memory:
    json_scan_free(scan);
    return didi_fail(error, DIDI_NO_MEMORY, subject, "no memory for the %s's %zu bytes", what,
                     bytes);
}

void json_scan_free(json_scan *scan)
{
    if (scan == NULL)
        return;
    free(scan->strings);
    free(scan->subject);
    free(scan);
}

/* The next byte after white space, or -1 at the end; not consumed. */
static int peek(json_scan *scan)
{
    assert(scan->text != NULL); /* not after json_scan_detach */
    while (scan->at < scan->bytes) {
        char byte = scan->text[scan->at];
        if (byte != ' ' && byte != '\t' && byte != '\n' && byte != '\r')
            return (unsigned char)byte;
        scan->at++;
    }
    return -1;
}

static bool accept(json_scan *scan, char byte)
{
    if (peek(scan) != (unsigned char)byte)
        return false;
    scan->at++;
    return true;
}

int json_scan_open(json_scan *scan, char bracket, didi_error *error)
{
    assert(bracket == '{' || bracket == '[');
    if (!accept(scan, bracket))
        return scan_fail(scan, error,
                         bracket == '{' ? "an object is expected here"
                                        : "an array is expected here");
    scan->fresh = true;
    return DIDI_OK;
}

int json_scan_next(json_scan *scan, char closing, bool *ret_more, didi_error *error)
{
    assert(closing == '}' || closing == ']');
    bool fresh = scan->fresh;
    scan->fresh = false;
    if (accept(scan, closing)) {
        *ret_more = false;
        return DIDI_OK;
    }
    if (!fresh && !accept(scan, ','))
        return scan_fail(scan, error,
                         closing == '}' ? "',' or '}' is expected here"
                                        : "',' or ']' is expected here");
    *ret_more = true;
    return DIDI_OK;
}

bool json_scan_each(json_scan *scan, char closing, int *status, didi_error *error)
{
    bool more = false;
    if (*status == DIDI_OK)
        *status = json_scan_next(scan, closing, &more, error);
    return *status == DIDI_OK && more;
}

/* Four hex digits at `at`, or -1. */
static int32_t hex_quad(const json_scan *scan, size_t at)
{
    if (scan->bytes - at < 4)
        return -1;
    int32_t value = 0;
    for (size_t i = at; i < at + 4; i++) {
        char digit = scan->text[i];
        int32_t nibble = 0;
        if (digit >= '0' && digit <= '9')
            nibble = digit - '0';
        else if (digit >= 'a' && digit <= 'f')
            nibble = digit - 'a' + 10;
        else if (digit >= 'A' && digit <= 'F')
            nibble = digit - 'A' + 10;
        else
            return -1;
        value = value * 16 + nibble;
    }
    return value;
}

static size_t encode_character(uint32_t code, char *target)
{
    if (code < 0x80) {
        target[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint32_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = length - 1; i > 0; i--) {
        target[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    target[0] = (char)(leads[length] | code);
    return length;
}

/* Decodes "uXXXX" (and the second half of a surrogate pair) with scan->at behind the 'u'. */
static int scan_unicode_escape(json_scan *scan, uint32_t *ret_code, didi_error *error)
{
    int32_t high = hex_quad(scan, scan->at);
    if (high < 0)
        return scan_fail(scan, error, "four hex digits are expected here");
    if (high == 0)
        return scan_fail(scan, error, "a string may not hold U+0000");
    uint32_t code = (uint32_t)high;
    if (high >= 0xDC00 && high <= 0xDFFF)
        return scan_fail(scan, error, "lone low surrogate");
    scan->at += 4;
    if (high >= 0xD800 && high <= 0xDBFF) {
        if (scan->bytes - scan->at < 6 || memcmp(scan->text + scan->at, "\\u", 2) != 0)
            return scan_fail(scan, error, "lone high surrogate");
        int32_t low = hex_quad(scan, scan->at + 2);
        if (low < 0xDC00 || low > 0xDFFF)
            return scan_fail(scan, error, "lone high surrogate");
        code = 0x10000u + (((uint32_t)high - 0xD800u) << 10) + ((uint32_t)low - 0xDC00u);
        scan->at += 6;
    }
    *ret_code = code;
    return DIDI_OK;
}

static int scan_escape(json_scan *scan, char *target, size_t *ret_length, didi_error *error)
{
    static const char escapes[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    if (scan->at >= scan->bytes)
        return scan_fail(scan, error, "unfinished string");
    char byte = scan->text[scan->at];
    if (byte == 'u') {
        scan->at++;
        uint32_t code = 0;
        int status = scan_unicode_escape(scan, &code, error);
        if (status == DIDI_OK)
            *ret_length = encode_character(code, target);
        return status;
    }
    const char *escape = memchr(escapes, byte, sizeof(escapes) - 1);
    if (escape == NULL)
        return scan_fail(scan, error, "unknown escape");
    scan->at++;
    *target = meanings[escape - escapes];
    *ret_length = 1;
    return DIDI_OK;
}

int json_scan_string(json_scan *scan, const char **ret_text, size_t *ret_bytes, didi_error *error)
{
    if (!accept(scan, '"'))
        return scan_fail(scan, error, "a string is expected here");
    char *string = scan->strings + scan->strings_used;
    size_t used = 0;
    for (;;) {
        if (scan->at >= scan->bytes)
            return scan_fail(scan, error, "unfinished string");
        char byte = scan->text[scan->at];
        if (byte == '"')
            break;
        size_t length = 1;
        if (byte == '\\') {
            scan->at++;
            int status = scan_escape(scan, string + used, &length, error);
            if (status != DIDI_OK)
                return status;
        } else if ((unsigned char)byte < 0x20) {
            return scan_fail(scan, error, "control character in a string");
        } else {
            length = text_character(scan->text + scan->at, scan->bytes - scan->at);
            if (length == 0)
                return scan_fail(scan, error, "not UTF-8");
            memcpy(string + used, scan->text + scan->at, length);
            scan->at += length;
        }
        used += length;
    }
    scan->at++;
    string[used] = '\0';
    scan->strings_used += used + 1;
    *ret_text = string;
    if (ret_bytes != NULL)
        *ret_bytes = used;
    return DIDI_OK;
}

int json_scan_key(json_scan *scan, const char **ret_text, size_t *ret_bytes, didi_error *error)
{
    if (peek(scan) != '"')
        return scan_fail(scan, error, "a member's name is expected here");
    int status = json_scan_string(scan, ret_text, ret_bytes, error);
    if (status != DIDI_OK)
        return status;
    if (!accept(scan, ':'))
        return scan_fail(scan, error, "':' is expected here");
    return DIDI_OK;
}

static bool is_digit_at(const json_scan *scan, size_t at)
{
    return at < scan->bytes && scan->text[at] >= '0' && scan->text[at] <= '9';
}

int json_scan_unsigned(json_scan *scan, uint64_t *ret_value, didi_error *error)
{
    static const char expected[] = "a non-negative integer is expected here";
    (void)peek(scan);
    size_t at = scan->at;
    if (!is_digit_at(scan, at) || (scan->text[at] == '0' && is_digit_at(scan, at + 1)))
        return scan_fail(scan, error, expected);
    uint64_t value = 0;
    for (; is_digit_at(scan, at); at++)
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (unsigned)(scan->text[at] - '0'), &value))
            return scan_fail(scan, error, "integer above 18446744073709551615");
    char follows = at < scan->bytes ? scan->text[at] : ' ';
    if (follows == '.' || follows == 'e' || follows == 'E')
        return scan_fail(scan, error, expected);
    scan->at = at;
    *ret_value = value;
    return DIDI_OK;
}

static bool accept_word(json_scan *scan, const char *word)
{
    size_t length = strlen(word);
    (void)peek(scan);
    if (scan->bytes - scan->at < length || memcmp(scan->text + scan->at, word, length) != 0)
        return false;
    scan->at += length;
    return true;
}

bool json_scan_null(json_scan *scan)
{
    return accept_word(scan, "null");
}

static size_t digits_from(const json_scan *scan, size_t at)
{
    size_t end = at;
    while (is_digit_at(scan, end))
        end++;
    return end;
}

/* Skips a JSON number; false, with the scanner where it was, if there is no number. */
static bool accept_number(json_scan *scan)
{
    size_t at = scan->at;
    if (at < scan->bytes && scan->text[at] == '-')
        at++;
    size_t end = digits_from(scan, at);
    if (end == at || (scan->text[at] == '0' && end - at > 1))
        return false;
    if (end < scan->bytes && scan->text[end] == '.') {
        at = end + 1;
        end = digits_from(scan, at);
        if (end == at)
            return false;
    }
    if (end < scan->bytes && (scan->text[end] == 'e' || scan->text[end] == 'E')) {
        at = end + 1;
        if (at < scan->bytes && (scan->text[at] == '+' || scan->text[at] == '-'))
            at++;
        end = digits_from(scan, at);
        if (end == at)
            return false;
    }
    scan->at = end;
    return true;
}

/* A string, number or word. The string's space is given back. */
static int skip_scalar(json_scan *scan, didi_error *error)
{
    if (peek(scan) == '"') {
        size_t used = scan->strings_used;
        const char *text = NULL;
        int status = json_scan_string(scan, &text, NULL, error);
        scan->strings_used = used;
        return status;
    }
    if (accept_word(scan, "true") || accept_word(scan, "false") || accept_word(scan, "null") ||
        accept_number(scan))
        return DIDI_OK;
    return scan_fail(scan, error, "a value is expected here");
}

int json_scan_skip(json_scan *scan, didi_error *error)
{
    char closings[JSON_SCAN_DEPTH_MAX] = {0};
    size_t depth = 0;
    int status = DIDI_OK;
    do {
        int byte = peek(scan);
        if (byte == '{' || byte == '[') {
            if (depth == JSON_SCAN_DEPTH_MAX)
                return scan_fail(scan, error, "values are nested too deeply");
            closings[depth++] = byte == '{' ? '}' : ']';
            status = json_scan_open(scan, (char)byte, error);
        } else {
            status = skip_scalar(scan, error);
        }
        bool more = false;
        while (status == DIDI_OK && depth > 0 && !more) {
            status = json_scan_next(scan, closings[depth - 1], &more, error);
            if (!more)
                depth--;
        }
        if (status == DIDI_OK && depth > 0 && closings[depth - 1] == '}') {
            size_t used = scan->strings_used;
            const char *key = NULL;
            status = json_scan_key(scan, &key, NULL, error);
            scan->strings_used = used;
        }
    } while (status == DIDI_OK && depth > 0);
    return status;
}

int json_scan_end(json_scan *scan, didi_error *error)
{
    if (peek(scan) >= 0)
        return scan_fail(scan, error, "nothing but white space is expected here");
    return DIDI_OK;
}

void json_scan_detach(json_scan *scan)
{
    scan->text = NULL;
    scan->bytes = 0;
    scan->at = 0;
}
