/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of names on the wire. */
#include "proto/names.h"

#include "proto/limits.h"

#include <string.h>

static bool name_is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool name_is_component_character(char c)
{
    return name_is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
}

size_t name_component(const char *text)
{
    size_t length = 0;
    if (text[0] == '.')
        return 0;
    while (name_is_component_character(text[length]))
        length++;
    return length;
}

/* Length of the path of components at `text`; 0: none, or too many. */
static size_t name_path(const char *text)
{
    size_t length = 0;
    for (size_t components = 1; components <= LIMIT_MODEL_NAME_COMPONENTS; components++) {
        size_t component = name_component(text + length);
        if (component == 0)
            return 0;
        length += component;
        if (text[length] != '/')
            return length;
        length++;
    }
    return 0;
}

bool name_is_model(const char *text)
{
    if (strnlen(text, LIMIT_MODEL_NAME_BYTES + 1) > LIMIT_MODEL_NAME_BYTES)
        return false;
    size_t length = name_path(text);
    if (length > 0 && text[length] == '@') {
        text += length + 1;
        length = name_path(text);
    }
    return length > 0 && text[length] == '\0';
}

bool name_is_task(const char *text)
{
    size_t length = name_component(text);
    return length > 0 && length <= LIMIT_TASK_NAME_BYTES && text[length] == '\0';
}

bool name_is_label_key(const char *text)
{
    size_t length = name_component(text);
    return length > 0 && length <= LIMIT_LABEL_KEY_BYTES && text[length] == '\0' &&
           name_is_alphanumeric(text[0]);
}

bool name_is_label_value(const char *text)
{
    size_t length = 0;
    while (text[length] >= ' ' && text[length] <= '~')
        length++;
    return text[length] == '\0' && length <= LIMIT_LABEL_VALUE_BYTES;
}

bool name_is_plain_text(const char *text, size_t characters_max)
{
    size_t characters = 0;
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte == 0x7f)
            return false;
        characters += (byte & 0xc0U) != 0x80U;
        if (characters > characters_max)
            return false;
    }
    return true;
}

bool name_is_job(const char *text)
{
    return strlen(text) == LIMIT_JOB_ID_CHARACTERS && text[0] <= '7' &&
           strspn(text, NAME_ID_DIGITS) == LIMIT_JOB_ID_CHARACTERS;
}
