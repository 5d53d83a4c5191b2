/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of requests about webhooks. */
#include "proto/webhook_request.h"

#include "proto/document.h"
#include "proto/limits.h"
#include "proto/names.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const event_names[] = {WEBHOOK_EVENT_TABLE(TEXT_WORD)};

const char *webhook_event_name(webhook_event event)
{
    assert((unsigned)event < WEBHOOK_EVENT_COUNT);
    return event_names[event];
}

static bool is_url(const char *text)
{
    size_t length = 0;
    while (text[length] > ' ' && text[length] <= '~')
        length++;
    return length > 0 && length <= LIMIT_WEBHOOK_URL_BYTES && text[length] == '\0';
}

static bool is_description(const char *text)
{
    return name_is_plain_text(text, LIMIT_WEBHOOK_DESCRIPTION_CHARACTERS);
}

static bool is_event(const char *text)
{
    return text_find(event_names, WEBHOOK_EVENT_COUNT, text) < WEBHOOK_EVENT_COUNT;
}

/* Base64 as it is written, with its padding: so there is one spelling of each secret. */
static bool is_secret(const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t prefix = strlen(WEBHOOK_SECRET_PREFIX);
    if (strncmp(text, WEBHOOK_SECRET_PREFIX, prefix) != 0)
        return false;
    text += prefix;
    size_t length = strnlen(text, 1000);
    size_t spanned = strspn(text, digits);
    size_t padding = length - spanned;
    if (length % 4 != 0 || length == 0 || padding > 2 || strspn(text + spanned, "=") != padding)
        return false;
    size_t last = (size_t)(strchr(digits, text[spanned - 1]) - digits);
    size_t bytes = length / 4 * 3 - padding;
    if ((padding == 1 && last % 4 != 0) || (padding == 2 && last % 16 != 0))
        return false;
    return bytes >= LIMIT_WEBHOOK_SECRET_BYTES_MIN && bytes <= LIMIT_WEBHOOK_SECRET_BYTES;
}

static int labels_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error)
{
    webhook_request *into = object;
    const char *key;
    json_t *label;
    if (!json_is_object(value))
        return field_fail_type(field->key, "an object", value, pointer, error);
    if (json_object_size(value) > LIMIT_LABELS)
        return didi_fail(error, DIDI_INVALID, pointer, "%zu labels; at most %d are taken",
                         json_object_size(value), LIMIT_LABELS);
    json_object_foreach(value, key, label)
    {
        char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
        field_pointer(child, pointer, key);
        if (!name_is_label_key(key) || !json_is_string(label) ||
            !name_is_label_value(json_string_value(label)))
            return didi_fail(error, DIDI_INVALID, child, "no job can have this label");
    }
    free(into->labels);
    into->labels = document_render(value);
    return into->labels != NULL ? DIDI_OK
                                : didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory for labels");
}

static int secret_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error)
{
    webhook_request *into = object;
    if (!json_is_string(value))
        return field_fail_type(field->key, "a string", value, pointer, error);
    if (!is_secret(json_string_value(value)))
        return didi_fail(
            error, DIDI_INVALID, pointer, "secret must be \"%s\" and the base64 of %d to %d bytes",
            WEBHOOK_SECRET_PREFIX, LIMIT_WEBHOOK_SECRET_BYTES_MIN, LIMIT_WEBHOOK_SECRET_BYTES);
    free(into->secret);
    into->secret = memory_string(json_string_value(value));
    return into->secret != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory");
}

static const field_kind labels_kind = {labels_read, NULL};
static const field_kind secret_kind = {secret_read, NULL};

#define AT(member) .offset = offsetof(webhook_request, member)
#define URL_FIELD                                                                                  \
    .key = "url", FIELD_TEXT(is_url, "a URL of 1 to 2000 printable ASCII characters"), AT(url)
#define OTHER_FIELDS                                                                               \
    {.key = "description",                                                                         \
     FIELD_TEXT(is_description, "at most 256 characters without control characters"),              \
     AT(description)},                                                                             \
        {.key = "events",                                                                          \
         FIELD_LIST(WEBHOOK_EVENT_COUNT, is_event, "an event's type"),                             \
         AT(events)},                                                                              \
        {.key = "labels", .kind = &labels_kind},                                                   \
    {                                                                                              \
        .key = "enabled", .kind = &field_boolean, AT(enabled)                                      \
    }
#define SECRET_FIELD                                                                               \
    {                                                                                              \
        .key = "secret", .kind = &secret_kind                                                      \
    }

static const json_field create_fields[] = {
    {URL_FIELD, .required = true}, OTHER_FIELDS, SECRET_FIELD, {.key = NULL}};
static const json_field update_fields[] = {{URL_FIELD}, OTHER_FIELDS, {.key = NULL}};
static const json_field rotate_fields[] = {SECRET_FIELD,
                                           {.key = "overlap_seconds",
                                            FIELD_INTEGER(0, LIMIT_WEBHOOK_OVERLAP_SECONDS),
                                            AT(overlap_seconds)},
                                           {.key = NULL}};

int webhook_request_parse(webhook_request_kind kind, const char *text, size_t bytes,
                          webhook_request *ret_request, didi_error *error)
{
    static const json_field *const tables[] = {create_fields, update_fields, rotate_fields};
    webhook_request request = {.enabled = true, .overlap_seconds = WEBHOOK_OVERLAP_SECONDS_DEFAULT};
    json_t *document = NULL;
    int status = document_parse(text, bytes, bytes, &document, error);
    if (status != DIDI_OK)
        return status;
    status = field_read_all(tables[kind], document, &request, "", error);
    request.has_events = json_object_get(document, "events") != NULL;
    request.has_enabled = json_object_get(document, "enabled") != NULL;
    json_decref(document);
    if (status != DIDI_OK)
        webhook_request_clear(&request);
    else
        *ret_request = request;
    return status;
}

void webhook_request_clear(webhook_request *request)
{
    free(request->url);
    free(request->description);
    field_texts_clear(&request->events);
    free(request->labels);
    free(request->secret);
    *request = (webhook_request){0};
}

char *webhook_request_events(const webhook_request *request)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < request->events.count; i++)
        if (json_array_append_new(list, json_string(request->events.texts[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    char *text = list != NULL ? document_render(list) : NULL;
    json_decref(list);
    return text;
}
