/* SPDX-License-Identifier: Apache-2.0 */
/* Events: what deliveries tell of, and by what a second telling is known. */
#pragma once

#include "daemon/hooks/signature.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stddef.h>

enum {
    EVENT_KEY_BYTES = 66,       /* a letter, a hex SHA-256, NUL */
    EVENT_DELIVERY_BYTES = 257, /* a sender's id, NUL */
    EVENT_REFS_MAX = 16,        /* refs that one delivery of a hub may update */
    EVENT_EXCERPT_BYTES = 2049,
};

typedef struct hook_event {
    json_t *payload;                     /* as rules see it */
    char key[EVENT_KEY_BYTES];           /* deliveries with one key are one */
    char subject[EVENT_KEY_BYTES];       /* what it is about, for the poll; "" for nothing */
    char delivery[EVENT_DELIVERY_BYTES]; /* the sender's id; "" for none */
    char excerpt[EVENT_EXCERPT_BYTES];   /* of the body, printable */
} hook_event;

/* The events of a delivery: one, but one for each ref that a hub's delivery updates. Caller frees
 * with events_free. Errors: DIDI_FORMAT (not JSON, no object), DIDI_INVALID (too many refs; what
 * "dedupe" names is not there), DIDI_NO_MEMORY. */
int events_read(const json_t *hook, const hook_message *message, hook_event **ret_events,
                size_t *ret_count, didi_error *error);
void events_free(hook_event *events, size_t count);

/* What a poll found: a hub's `repository` has `sha` at `ref`, or an MLflow `model` has `version` at
 * `alias`; each as the registry would have told it. Caller frees with events_free(ret_event, 1).
 * Errors: DIDI_NO_MEMORY. */
int event_of_ref(const char *repository, const char *ref, const char *sha, hook_event **ret_event,
                 didi_error *error);
int event_of_alias(const char *model, const char *alias, const char *version, int64_t now_ms,
                   hook_event **ret_event, didi_error *error);
