/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a hook's document, a NUL, a payload. What the check lets pass is matched and expanded as
 * in the daemon; without a NUL the whole is both. */
#include "daemon/hooks/event.h"
#include "daemon/hooks/rules.h"
#include "daemon/hooks/template.h"
#include "proto/proto.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 1 << 16 };

static void check(int holds)
{
    if (!holds)
        abort();
}

/* Every header is there, and says the same. */
static const char *any_header(void *context, const char *name)
{
    (void)name;
    return context;
}

static void run_event(const json_t *hook, const hook_event *event, const hook_message *message)
{
    didi_error error = {0};
    json_t *work = NULL;
    check(strlen(event->key) == EVENT_KEY_BYTES - 1);
    check(strlen(event->excerpt) < EVENT_EXCERPT_BYTES);
    const json_t *rule = rules_match(hook, event->payload, message);
    if (rule == NULL)
        return;
    int status = rules_expand(hook, rule, event->payload, &work, &error);
    check((status == DIDI_OK) == (work != NULL));
    check(status == DIDI_OK || error.message[0] != '\0');
    json_decref(work);
}

static void run_hook(json_t *hook, const char *payload, size_t bytes)
{
    char header[] = "1700000000";
    const hook_message message = {
        .header = any_header, .context = header, .body = payload, .bytes = bytes};
    didi_error error = {0};
    hook_event *events = NULL;
    size_t count = 0;
    if (rules_check(hook, &error) != DIDI_OK)
        return;
    check(signature_check(hook, "a secret nobody has guessed", &message, 1700000000000, &error) !=
          DIDI_OK);
    if (events_read(hook, &message, &events, &count, &error) != DIDI_OK)
        return;
    check(count >= 1 && count <= EVENT_REFS_MAX);
    for (size_t i = 0; i < count; i++)
        run_event(hook, &events[i], &message);
    events_free(events, count);
}

/* The document is a template for itself, whatever it is. */
static void run_template(json_t *document)
{
    didi_error error = {0};
    json_t *made = NULL;
    if (template_expand(document, document, NULL, &made, &error) == DIDI_OK)
        json_decref(made);
    made = NULL;
    if (template_expand(document, NULL, NULL, &made, &error) == DIDI_OK)
        json_decref(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    json_t *hook = NULL;
    didi_error error = {0};
    if (size == 0)
        return 0;
    const char *nul = memchr(text, '\0', size);
    size_t first = nul != NULL ? (size_t)(nul - text) : size;
    const char *payload = nul != NULL ? nul + 1 : text;
    size_t bytes = nul != NULL ? size - first - 1 : size;
    if (document_parse(text, first, INPUT_BYTES_MAX, &hook, &error) == DIDI_OK) {
        run_template(hook);
        if (json_is_object(hook))
            run_hook(hook, payload, bytes);
        json_decref(hook);
    }
    return 0;
}
