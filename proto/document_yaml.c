/* SPDX-License-Identifier: Apache-2.0 */
/* YAML into the same tree as JSON; the only file that knows libyaml. */
#include "proto/document.h"

#include "proto/limits.h"
#include "src/base/base.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

typedef struct yaml_reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the one in hand; empty at first */
    const char *text;
    size_t bytes;
    didi_error *error;
} yaml_reader;

static int fail_at(const yaml_reader *self, size_t line, size_t column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static int fail_at(const yaml_reader *self, size_t line, size_t column, const char *format, ...)
{
    char reason[256];
    va_list values;
    va_start(values, format);
    vsnprintf(reason, sizeof reason, format, values);
    va_end(values);
    return didi_fail(self->error, DIDI_FORMAT, NULL, "not YAML: line %zu, column %zu: %s", line + 1,
                     column + 1, reason);
}

/* Of the event in hand. */
static int fail_here(const yaml_reader *self, const char *reason)
{
    const yaml_mark_t place = self->event.start_mark;
    return fail_at(self, place.line, place.column, "%s", reason);
}

/* Bytes that are no characters: libyaml tells how far it came, not in which line that is. */
static int fail_reader(const yaml_reader *self)
{
    const size_t end =
        self->parser.problem_offset < self->bytes ? self->parser.problem_offset : self->bytes;
    size_t line = 0;
    size_t column = 0;
    for (size_t i = 0; i < end; i++) {
        column = self->text[i] == '\n' ? 0 : column + 1;
        line += self->text[i] == '\n' ? 1 : 0;
    }
    return fail_at(self, line, column, "%s", self->parser.problem);
}

static int fail_parser(const yaml_reader *self)
{
    const yaml_parser_t *parser = &self->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return didi_fail(self->error, DIDI_NO_MEMORY, NULL, "no memory for %zu bytes of YAML",
                         self->bytes);
    if (parser->error == YAML_READER_ERROR)
        return fail_reader(self);
    return fail_at(self, parser->problem_mark.line, parser->problem_mark.column, "%s%s%s",
                   parser->context != NULL ? parser->context : "",
                   parser->context != NULL ? ": " : "",
                   parser->problem != NULL ? parser->problem : "it cannot be read");
}

static int fail_memory(const yaml_reader *self)
{
    return didi_fail(self->error, DIDI_NO_MEMORY, NULL, "no memory for %zu bytes of YAML",
                     self->bytes);
}

static int next_event(yaml_reader *self)
{
    yaml_event_delete(&self->event);
    return yaml_parser_parse(&self->parser, &self->event) != 0 ? DIDI_OK : fail_parser(self);
}

/* ---- plain scalars, as the core schema of YAML 1.2 has them (10.3.2) ---- */

static bool is_one_of(const char *text, const char *const *words)
{
    while (*words != NULL && strcmp(*words, text) != 0)
        words++;
    return *words != NULL;
}

static size_t count_digits(const char *text)
{
    return strspn(text, "0123456789");
}

static bool is_decimal(const char *text)
{
    text += *text == '-' || *text == '+' ? 1 : 0;
    return *text != '\0' && text[count_digits(text)] == '\0';
}

/* 0o17 or 0x1F; *ret_base is 8 or 16. */
static bool is_based(const char *text, int *ret_base)
{
    const bool octal = strncmp(text, "0o", 2) == 0;
    if (!octal && strncmp(text, "0x", 2) != 0)
        return false;
    *ret_base = octal ? 8 : 16;
    const char *digits = octal ? "01234567" : "0123456789abcdefABCDEF";
    return text[2] != '\0' && text[2 + strspn(text + 2, digits)] == '\0';
}

static bool is_float(const char *text)
{
    text += *text == '-' || *text == '+' ? 1 : 0;
    size_t whole = count_digits(text);
    text += whole;
    size_t part = 0;
    if (*text == '.') {
        part = count_digits(text + 1);
        text += 1 + part;
    }
    if (whole + part == 0)
        return false;
    if (*text == 'e' || *text == 'E') {
        text += text[1] == '-' || text[1] == '+' ? 2 : 1;
        if (count_digits(text) == 0)
            return false;
        text += count_digits(text);
    }
    return *text == '\0';
}

static int read_integer(const yaml_reader *self, const char *text, int base, json_t **ret_value)
{
    errno = 0;
    const long long value = strtoll(text, NULL, base);
    if (errno != 0)
        return fail_here(self, "the integer is too big");
    *ret_value = json_integer(value);
    return *ret_value != NULL ? DIDI_OK : fail_memory(self);
}

static int read_float(const yaml_reader *self, const char *text, json_t **ret_value)
{
    const double value = strtod(text, NULL);
    if (!isfinite(value))
        return fail_here(self, "the number is too big");
    *ret_value = json_real(value);
    return *ret_value != NULL ? DIDI_OK : fail_memory(self);
}

/* What `text` is where it is no string; *ret_value stays NULL where it is one. */
static int read_plain(const yaml_reader *self, const char *text, json_t **ret_value)
{
    static const char *const nothing[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"true", "True", "TRUE", NULL};
    static const char *const no[] = {"false", "False", "FALSE", NULL};
    static const char *const beyond[] = {".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf",
                                         "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
                                         ".NaN",  ".NAN",  NULL};
    int base = 10;
    if (is_one_of(text, nothing))
        *ret_value = json_null();
    else if (is_one_of(text, yes))
        *ret_value = json_true();
    else if (is_one_of(text, no))
        *ret_value = json_false();
    else if (is_one_of(text, beyond))
        return fail_here(self, "infinity and NaN are no numbers here");
    else if (is_decimal(text))
        return read_integer(self, text, 10, ret_value);
    else if (is_based(text, &base))
        return read_integer(self, text + 2, base, ret_value);
    else if (is_float(text))
        return read_float(self, text, ret_value);
    return DIDI_OK;
}

/* ---- nodes ---- */

/* Only what forces a string is taken: "!" and "!!str". */
static int check_tag(const yaml_reader *self, const yaml_char_t *tag, bool *ret_string)
{
    const char *text = (const char *)tag;
    *ret_string = text != NULL;
    if (text == NULL || strcmp(text, "!") == 0 || strcmp(text, YAML_STR_TAG) == 0)
        return DIDI_OK;
    return fail_here(self, "tags are not taken");
}

static int check_scalar(const yaml_reader *self)
{
    const char *text = (const char *)self->event.data.scalar.value;
    if (memchr(text, '\0', self->event.data.scalar.length) != NULL)
        return fail_here(self, "\\0 is not taken");
    return self->event.data.scalar.anchor != NULL
               ? fail_here(self, "anchors are not taken: write the value where it is used")
               : DIDI_OK;
}

static int read_scalar(const yaml_reader *self, json_t **ret_value)
{
    const char *text = (const char *)self->event.data.scalar.value;
    const bool plain = self->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    bool string = false;
    json_t *value = NULL;
    int status = check_scalar(self);
    if (status == DIDI_OK)
        status = check_tag(self, self->event.data.scalar.tag, &string);
    if (status == DIDI_OK && plain && !string)
        status = read_plain(self, text, &value);
    if (status == DIDI_OK && value == NULL && (value = json_string(text)) == NULL)
        status = fail_memory(self); /* it is UTF-8, libyaml saw to that */
    if (status == DIDI_OK)
        *ret_value = value;
    return status;
}

static int read_node(yaml_reader *self, int depth, json_t **ret_value);

static int read_list(yaml_reader *self, int depth, json_t **ret_value)
{
    json_t *list = json_array();
    int status = list == NULL ? fail_memory(self) : next_event(self);
    while (status == DIDI_OK && self->event.type != YAML_SEQUENCE_END_EVENT) {
        json_t *value = NULL;
        status = read_node(self, depth, &value);
        if (status == DIDI_OK && json_array_append_new(list, value) != 0)
            status = fail_memory(self);
        if (status == DIDI_OK)
            status = next_event(self);
    }
    if (status != DIDI_OK)
        json_decref(list);
    else
        *ret_value = list;
    return status;
}

/* The event in hand is a key: what it names is added to the object. */
static int read_member(yaml_reader *self, int depth, json_t *object)
{
    json_t *value = NULL;
    if (self->event.type != YAML_SCALAR_EVENT)
        return fail_here(self, "a key must be a word");
    int status = check_scalar(self);
    if (status != DIDI_OK)
        return status;
    const char *text = (const char *)self->event.data.scalar.value;
    if (json_object_get(object, text) != NULL)
        return fail_at(self, self->event.start_mark.line, self->event.start_mark.column,
                       "the key '%.64s' stands there twice", text);
    char *key = memory_string(text);
    status = key == NULL ? fail_memory(self) : next_event(self);
    if (status == DIDI_OK)
        status = read_node(self, depth, &value);
    if (status == DIDI_OK && json_object_set_new(object, key, value) != 0)
        status = fail_memory(self);
    free(key);
    return status;
}

static int read_object(yaml_reader *self, int depth, json_t **ret_value)
{
    json_t *object = json_object();
    int status = object == NULL ? fail_memory(self) : next_event(self);
    while (status == DIDI_OK && self->event.type != YAML_MAPPING_END_EVENT) {
        status = read_member(self, depth, object);
        if (status == DIDI_OK)
            status = next_event(self);
    }
    if (status != DIDI_OK)
        json_decref(object);
    else
        *ret_value = object;
    return status;
}

/* The node that the event in hand begins; its last event is in hand afterwards. */
static int read_node(yaml_reader *self, int depth, json_t **ret_value)
{
    bool ignored = false;
    const yaml_event_t *event = &self->event;
    const bool list = event->type == YAML_SEQUENCE_START_EVENT;
    if (event->type == YAML_ALIAS_EVENT)
        return fail_here(self, "aliases are not taken: write the value out");
    if (event->type == YAML_SCALAR_EVENT)
        return read_scalar(self, ret_value);
    assert(list || event->type == YAML_MAPPING_START_EVENT);
    if (depth == LIMIT_JSON_DEPTH)
        return fail_here(self, "nested too deep");
    if ((list ? event->data.sequence_start.anchor : event->data.mapping_start.anchor) != NULL)
        return fail_here(self, "anchors are not taken: write the value where it is used");
    int status = check_tag(
        self, list ? event->data.sequence_start.tag : event->data.mapping_start.tag, &ignored);
    if (status == DIDI_OK)
        status =
            list ? read_list(self, depth + 1, ret_value) : read_object(self, depth + 1, ret_value);
    return status;
}

static int read_document(yaml_reader *self, json_t **ret_value)
{
    json_t *value = NULL;
    int status = next_event(self); /* the stream's begin */
    status = status != DIDI_OK ? status : next_event(self);
    if (status == DIDI_OK && self->event.type == YAML_STREAM_END_EVENT)
        return fail_at(self, 0, 0, "there is nothing in it");
    status = status != DIDI_OK ? status : next_event(self); /* the first node */
    status = status != DIDI_OK ? status : read_node(self, 0, &value);
    status = status != DIDI_OK ? status : next_event(self); /* the document's end */
    status = status != DIDI_OK ? status : next_event(self);
    if (status == DIDI_OK && self->event.type != YAML_STREAM_END_EVENT)
        status = fail_here(self, "only one document is taken");
    if (status != DIDI_OK)
        json_decref(value);
    else
        *ret_value = value;
    return status;
}

int document_parse_yaml(const char *text, size_t bytes, size_t bytes_max, json_t **ret_value,
                        didi_error *error)
{
    yaml_reader self = {.text = text, .bytes = bytes, .error = error};
    if (bytes > bytes_max)
        return didi_fail(error, DIDI_FORMAT, NULL, "%zu bytes of YAML; at most %zu are taken",
                         bytes, bytes_max);
    if (yaml_parser_initialize(&self.parser) == 0)
        return fail_memory(&self);
    yaml_parser_set_encoding(&self.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&self.parser, (const unsigned char *)text, bytes);
    int status = read_document(&self, ret_value);
    yaml_event_delete(&self.event);
    yaml_parser_delete(&self.parser);
    return status;
}

static bool ends_with(const char *name, const char *ending)
{
    const size_t bytes = strlen(name);
    const size_t wanted = strlen(ending);
    return bytes > wanted && strcasecmp(name + bytes - wanted, ending) == 0;
}

bool document_is_yaml(const char *name, const char *text, size_t bytes)
{
    if (ends_with(name, ".yaml") || ends_with(name, ".yml"))
        return true;
    size_t at = 0;
    while (at < bytes && strchr(" \t\r\n", text[at]) != NULL && text[at] != '\0')
        at++;
    return !ends_with(name, ".json") && at < bytes && text[at] != '{' && text[at] != '[';
}

int document_parse_named(const char *name, const char *text, size_t bytes, size_t bytes_max,
                         json_t **ret_value, didi_error *error)
{
    return document_is_yaml(name, text, bytes)
               ? document_parse_yaml(text, bytes, bytes_max, ret_value, error)
               : document_parse(text, bytes, bytes_max, ret_value, error);
}
