/* SPDX-License-Identifier: Apache-2.0 */
/* The reconcile poll: registries that do not tell twice are asked, and what was missed is noted as
 * if it had been told. What is there at the first look is taken as known. */
#include "daemon/hooks/hooks_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_BYTES_MAX = 4 << 20, SEEN_BYTES_MAX = 256 };

/* ---- asking ---- */

typedef struct answer_text {
    char *text;
    size_t bytes;
} answer_text;

static int answer_take(void *context, uint64_t from, const void *data, size_t bytes,
                       didi_error *error)
{
    answer_text *into = context;
    (void)from;
    if (bytes > ANSWER_BYTES_MAX - into->bytes)
        return didi_fail(error, DIDI_FORMAT, NULL, "the answer is longer than %d bytes",
                         ANSWER_BYTES_MAX);
    char *grown = memory_resized(into->text, into->bytes + bytes, 1);
    if (grown == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an answer");
    memcpy(grown + into->bytes, data, bytes);
    into->text = grown;
    into->bytes += bytes;
    return DIDI_OK;
}

int poll_ask(transfer *through, const char *base, const char *path, json_t *body,
             json_t **ret_answer, didi_error *error)
{
    answer_text answer = {0};
    transfer_answer how;
    json_t *value = NULL;
    size_t length = strlen(base);
    while (length > 0 && base[length - 1] == '/')
        length--;
    char *url = memory_format("%.*s%s", (int)length, base, path);
    char *text = body != NULL ? document_render(body) : NULL;
    int status = url != NULL && (body == NULL || text != NULL)
                     ? DIDI_OK
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory to ask");
    if (status == DIDI_OK) {
        const transfer_order order = {
            .url = url, .json = text, .write = answer_take, .context = &answer};
        status = transfer_run(through, &order, &how, error);
        if (status == DIDI_IO && how.status == 400)
            status = didi_fail(error, DIDI_INVALID, path, "answered 400: refused");
    }
    if (status == DIDI_OK)
        status = document_parse(answer.text != NULL ? answer.text : "", answer.bytes,
                                ANSWER_BYTES_MAX, &value, error);
    if (status == DIDI_OK && !json_is_object(value)) {
        json_decref(value);
        status = didi_fail(error, DIDI_FORMAT, path, "the answer is no JSON object");
    }
    if (status == DIDI_OK)
        *ret_answer = value;
    json_decref(body);
    free(answer.text);
    free(text);
    free(url);
    return status;
}

char *poll_escape(const char *text)
{
    char *escaped = transfer_escape(text); /* which leaves slashes */
    size_t slashes = 0;
    for (const char *at = escaped; at != NULL && *at != '\0'; at++)
        slashes += *at == '/';
    char *whole = escaped != NULL ? memory_zeroed(strlen(escaped) + 2 * slashes + 1, 1) : NULL;
    char *to = whole;
    for (const char *at = escaped; whole != NULL && *at != '\0'; at++) {
        if (*at == '/') {
            *to++ = '%';
            *to++ = '2';
            *to++ = 'F';
        } else {
            *to++ = *at;
        }
    }
    free(escaped);
    return whole;
}

/* ---- one source ---- */

typedef struct poll_source {
    hooks *self;
    const char *hook;
    const json_t *document;
    char *name;                 /* the source as JSON: what its row is called */
    const char *first, *second; /* repository and ref, or model and alias */
    bool is_mlflow;
} poll_source;

/* *ret_seen: the commit or version; "" when the alias names none. */
static int source_look(const poll_source *of, char ret_seen[SEEN_BYTES_MAX], didi_error *error)
{
    const config *settings = of->self->settings;
    char *first = of->is_mlflow ? poll_escape(of->first) : transfer_escape(of->first);
    char *second = poll_escape(of->second);
    char *path = NULL;
    json_t *answer = NULL;
    if (first != NULL && second != NULL)
        path = of->is_mlflow
                   ? memory_format("/api/2.0/mlflow/registered-models/alias?name=%s&alias=%s",
                                   first, second)
                   : memory_format("/api/models/%s/revision/%s", first, second);
    int status = path == NULL ? didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory to ask")
                 : of->is_mlflow
                     ? poll_ask(of->self->mlflow, settings->mlflow_uri, path, NULL, &answer, error)
                     : poll_ask(of->self->hub, settings->hub_endpoint, path, NULL, &answer, error);
    const json_t *holder = of->is_mlflow ? json_object_get(answer, "model_version") : answer;
    const char *seen =
        json_string_value(json_object_get(holder, of->is_mlflow ? "version" : "sha"));
    if (status == DIDI_OK && (seen == NULL || seen[0] == '\0' || strlen(seen) >= SEEN_BYTES_MAX))
        status = didi_fail(error, DIDI_FORMAT, NULL, "the answer tells no %s",
                           of->is_mlflow ? "version" : "commit");
    if (status == DIDI_OK)
        memcpy(ret_seen, seen, strlen(seen) + 1);
    json_decref(answer);
    free(path);
    free(first);
    free(second);
    return status;
}

static const char *no_header(void *context, const char *name)
{
    (void)context;
    (void)name;
    return NULL;
}

static int source_note(const poll_source *of, const char *seen, int64_t since_ms, didi_error *error)
{
    const hook_message message = {.header = no_header, .body = ""};
    hook_event *event = NULL;
    char ref[LIMIT_SOURCE_BYTES];
    char id[ID_BYTES];
    bool repeated = false;
    (void)snprintf(ref, sizeof ref, "%s%s",
                   strncmp(of->second, "refs/", 5) == 0 ? "" : "refs/heads/", of->second);
    int status = of->is_mlflow
                     ? event_of_alias(of->first, of->second, seen, clock_now_ms(), &event, error)
                     : event_of_ref(of->first, ref, seen, &event, error);
    const hooks_news news = {.hook = of->hook,
                             .document = of->document,
                             .event = event,
                             .message = &message,
                             .origin = "poll",
                             .since_ms = since_ms};
    if (status == DIDI_OK)
        status = hooks_note(of->self, &news, id, &repeated, error);
    events_free(event, 1);
    return status;
}

static void source_poll(const poll_source *of, int64_t interval_ms)
{
    store *records = of->self->records;
    store_poll before = {0};
    char seen[SEEN_BYTES_MAX] = "";
    didi_error error = {0};
    int status = store_poll_get(records, of->hook, of->name, &before, &error);
    if (status != DIDI_OK || (before.checked_ms != 0 && before.due_ms > clock_now_ms())) {
        store_poll_clear(&before);
        return;
    }
    status = source_look(of, seen, &error);
    bool is_news = status == DIDI_OK && before.seen != NULL && strcmp(before.seen, seen) != 0;
    if (is_news)
        status = source_note(of, seen, before.checked_ms, &error);
    if (status == DIDI_CANCELLED) {
        store_poll_clear(&before);
        return;
    }
    if (status != DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "poll failed", LOG_TEXT("hook", of->hook),
                 LOG_TEXT("source", of->name), LOG_TEXT("error", error.message));
    const store_poll_result result = {.hook = of->hook,
                                      .source = of->name,
                                      .seen = status == DIDI_OK ? seen : NULL,
                                      .why = status != DIDI_OK ? error.message : NULL,
                                      .interval_ms = interval_ms};
    if (store_poll_put(records, &result, &error) == DIDI_OK && is_news && status == DIDI_OK) {
        pthread_mutex_lock(&of->self->lock);
        of->self->has_work = true;
        pthread_cond_broadcast(&of->self->arrived);
        pthread_mutex_unlock(&of->self->lock);
    }
    store_poll_clear(&before);
}

static void hook_poll(hooks *self, const store_hook *hook)
{
    json_t *document = json_load_own(hook->document);
    const json_t *poll = json_object_get(document, "poll");
    const json_t *sources = json_object_get(poll, "sources");
    int64_t interval = json_integer_value(json_object_get(poll, "minutes")) * 60000;
    bool mlflow = strcmp(rules_kind(document), "mlflow") == 0;
    bool enabled = !json_is_false(json_object_get(document, "enabled"));
    bool possible = enabled && (mlflow ? self->mlflow : self->hub) != NULL;
    for (size_t i = 0; possible && i < json_array_size(sources); i++) {
        const json_t *source = json_array_get(sources, i);
        poll_source of = {
            .self = self,
            .hook = hook->name,
            .document = document,
            .name = json_dumps(source, JSON_COMPACT | JSON_SORT_KEYS),
            .first = json_string_value(json_object_get(source, mlflow ? "model" : "repository")),
            .second = json_string_value(json_object_get(source, mlflow ? "alias" : "ref")),
            .is_mlflow = mlflow};
        if (of.name != NULL && !atomic_load(&self->stopping))
            source_poll(&of, interval);
        free(of.name);
    }
    json_decref(document);
}

void poll_due(hooks *self)
{
    store_hook *rows = NULL;
    size_t count = 0;
    didi_error error = {0};
    if (self->hub == NULL && self->mlflow == NULL)
        return;
    if (store_hook_list(self->records, NULL, STORE_HOOKS_MAX, &rows, &count, NULL, &error) !=
        DIDI_OK)
        return;
    for (size_t i = 0; i < count; i++)
        hook_poll(self, &rows[i]);
    store_hooks_free(rows, count);
}
