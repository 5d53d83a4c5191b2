/* SPDX-License-Identifier: Apache-2.0 */
/* Events and their keys. A key is a letter for what it is made of, and a digest of that: "d" the
 * sender's signed id, "r" repository, ref and commit, "f" the fields that "dedupe" names, "b" the
 * body, "p" what a poll found and when. */
#include "daemon/hooks/event.h"

#include "daemon/hooks/rules.h"
#include "daemon/hooks/template.h"
#include "proto/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int key_make(char letter, const char *text, size_t bytes, char ret_key[EVENT_KEY_BYTES],
                    didi_error *error)
{
    ret_key[0] = letter;
    return file_sha256_bytes(text, bytes, ret_key + 1, error);
}

/* Lengths keep "a" "bc" and "ab" "c" apart. */
static int key_of_three(char letter, const char *const texts[3], char ret_key[EVENT_KEY_BYTES],
                        didi_error *error)
{
    char *all = memory_format("%zu:%s %zu:%s %zu:%s", strlen(texts[0]), texts[0], strlen(texts[1]),
                              texts[1], strlen(texts[2]), texts[2]);
    int status = all != NULL ? key_make(letter, all, strlen(all), ret_key, error)
                             : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an event");
    free(all);
    return status;
}

static int key_of_fields(const json_t *pointers, json_t *payload, char ret_key[EVENT_KEY_BYTES],
                         didi_error *error)
{
    json_t *values = json_array();
    for (size_t i = 0; i < json_array_size(pointers); i++) {
        const char *pointer = json_string_value(json_array_get(pointers, i));
        json_t *value = pointer_find(payload, pointer);
        if (value == NULL) {
            json_decref(values);
            return didi_fail(error, DIDI_INVALID, "/dedupe",
                             "the payload has nothing at %.200s, which tells deliveries apart",
                             pointer);
        }
        json_array_append(values, value);
    }
    char *text = values != NULL ? json_dumps(values, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(values);
    int status = text != NULL ? key_make('f', text, strlen(text), ret_key, error)
                              : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an event");
    free(text);
    return status;
}

static const char *text_at(json_t *payload, const char *pointer)
{
    const char *text = json_string_value(pointer_find(payload, pointer));
    return text != NULL ? text : "";
}

/* ---- one delivery ---- */

/* `version` may come as a number. */
static int subject_of_alias(hook_event *event, didi_error *error)
{
    char version[TEMPLATE_VALUE_BYTES_MAX + 1];
    didi_error unheard = {0};
    bool is_alias = strcmp(text_at(event->payload, "/entity"), "model_version_alias") == 0 &&
                    strcmp(text_at(event->payload, "/action"), "created") == 0;
    if (!is_alias || pointer_text(event->payload, "/data/version", version, &unheard) != DIDI_OK)
        return DIDI_OK;
    const char *const parts[3] = {text_at(event->payload, "/data/name"),
                                  text_at(event->payload, "/data/alias"), version};
    return key_of_three('a', parts, event->subject, error);
}

static int event_finish(const json_t *hook, const hook_message *message, hook_event *event,
                        didi_error *error)
{
    bool is_signed = false;
    const char *kind = rules_kind(hook);
    const char *id = signature_delivery(hook, message, &is_signed);
    const json_t *dedupe = json_object_get(hook, "dedupe");
    const char *sha = text_at(event->payload, "/updatedRefs/0/newSha");
    text_copy_printable(event->delivery, sizeof event->delivery, id != NULL ? id : "");
    if (strcmp(kind, "huggingface") == 0 && sha[0] != '\0') {
        const char *const parts[3] = {text_at(event->payload, "/repo/name"),
                                      text_at(event->payload, "/updatedRefs/0/ref"), sha};
        return key_of_three('r', parts, event->key, error);
    }
    if (json_array_size(dedupe) > 0)
        return key_of_fields(dedupe, event->payload, event->key, error);
    if (is_signed && strcmp(kind, "mlflow") == 0) {
        int status = subject_of_alias(event, error);
        if (status != DIDI_OK)
            return status;
    }
    return is_signed ? key_make('d', id, strlen(id), event->key, error)
                     : key_make('b', message->body, message->bytes, event->key, error);
}

static void excerpt_make(const hook_message *message, char ret_excerpt[EVENT_EXCERPT_BYTES])
{
    char raw[EVENT_EXCERPT_BYTES];
    (void)snprintf(raw, sizeof raw, "%.*s", (int)smaller(message->bytes, EVENT_EXCERPT_BYTES - 1),
                   message->body);
    text_copy_printable(ret_excerpt, EVENT_EXCERPT_BYTES, raw);
}

/* A copy of the payload with one of its refs. */
static json_t *payload_of_ref(json_t *payload, const json_t *refs, size_t index)
{
    json_t *copy = json_copy(payload);
    json_t *one = json_array();
    if (copy == NULL || one == NULL || json_array_append(one, json_array_get(refs, index)) != 0 ||
        json_object_set(copy, "updatedRefs", one) != 0) {
        json_decref(copy);
        copy = NULL;
    }
    json_decref(one);
    return copy;
}

int events_read(const json_t *hook, const hook_message *message, hook_event **ret_events,
                size_t *ret_count, didi_error *error)
{
    json_t *payload = NULL;
    hook_event *events = NULL;
    size_t count = 0;
    int status = document_parse(message->body, message->bytes, message->bytes, &payload, error);
    if (status != DIDI_OK)
        return status;
    const json_t *refs = strcmp(rules_kind(hook), "huggingface") == 0
                             ? json_object_get(payload, "updatedRefs")
                             : NULL;
    size_t wanted = json_array_size(refs) > 1 ? json_array_size(refs) : 1;
    if (!json_is_object(payload))
        status = didi_fail(error, DIDI_FORMAT, NULL, "the payload is no JSON object");
    else if (wanted > EVENT_REFS_MAX)
        status =
            didi_fail(error, DIDI_INVALID, "/updatedRefs",
                      "%zu refs in one delivery; at most %d are taken", wanted, EVENT_REFS_MAX);
    else if ((events = memory_zeroed(wanted, sizeof *events)) == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an event");
    while (status == DIDI_OK && count < wanted) {
        hook_event *event = &events[count++];
        event->payload =
            wanted > 1 ? payload_of_ref(payload, refs, count - 1) : json_incref(payload);
        excerpt_make(message, event->excerpt);
        status = event->payload != NULL
                     ? event_finish(hook, message, event, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an event");
    }
    json_decref(payload);
    if (status != DIDI_OK) {
        events_free(events, count);
        return status;
    }
    *ret_events = events;
    *ret_count = count;
    return DIDI_OK;
}

void events_free(hook_event *events, size_t count)
{
    for (size_t i = 0; events != NULL && i < count; i++)
        json_decref(events[i].payload);
    free(events);
}

/* ---- polls ---- */

/* Takes the payload. */
static int event_create(json_t *payload, hook_event **ret_event, didi_error *error)
{
    hook_event *event = memory_zeroed(1, sizeof *event);
    char *text = payload != NULL ? json_dumps(payload, JSON_COMPACT) : NULL;
    if (event == NULL || text == NULL) {
        free(event);
        free(text);
        json_decref(payload);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an event");
    }
    event->payload = payload;
    text_copy_printable(event->excerpt, sizeof event->excerpt, text);
    free(text);
    *ret_event = event;
    return DIDI_OK;
}

int event_of_ref(const char *repository, const char *ref, const char *sha, hook_event **ret_event,
                 didi_error *error)
{
    const char *const parts[3] = {repository, ref, sha};
    hook_event *event = NULL;
    int status = event_create(json_pack("{s:{s:s, s:s}, s:{s:s, s:s, s:s}, s:[{s:s, s:n, s:s}]}",
                                        "event", "action", "update", "scope", "repo.content",
                                        "repo", "type", "model", "name", repository, "headSha", sha,
                                        "updatedRefs", "ref", ref, "oldSha", "newSha", sha),
                              &event, error);
    if (status == DIDI_OK)
        status = key_of_three('r', parts, event->key, error);
    if (status == DIDI_OK)
        *ret_event = event;
    else
        events_free(event, 1);
    return status;
}

int event_of_alias(const char *model, const char *alias, const char *version, int64_t now_ms,
                   hook_event **ret_event, didi_error *error)
{
    const char *const parts[3] = {model, alias, version};
    char unique[EVENT_KEY_BYTES + 32];
    hook_event *event = NULL;
    int status = event_create(json_pack("{s:s, s:s, s:{s:s, s:s, s:s}}", "entity",
                                        "model_version_alias", "action", "created", "data", "name",
                                        model, "alias", alias, "version", version),
                              &event, error);
    if (status == DIDI_OK)
        status = key_of_three('a', parts, event->subject, error);
    if (status == DIDI_OK) {
        (void)snprintf(unique, sizeof unique, "%s %lld", event->subject, (long long)now_ms);
        status = key_make('p', unique, strlen(unique), event->key, error);
    }
    if (status == DIDI_OK)
        *ret_event = event;
    else
        events_free(event, 1);
    return status;
}
