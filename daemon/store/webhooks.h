/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints that events are sent to. Their secrets are kept as they are given: daemon/webhooks
 * seals them. */
#pragma once

#include "daemon/base/base.h"
#include "proto/proto.h"
#include "src/base/base.h"

typedef struct store store;

typedef struct store_webhook {
    char id[ID_BYTES];
    char *url, *description;
    char *events; /* JSON array of types; "[]": all */
    char *labels; /* JSON object of strings: jobs must have all of them; "{}": all jobs */
    char *secret, *old_secret;   /* sealed; old_secret NULL: none */
    int64_t old_secret_until_ms; /* 0: none */
    bool enabled;
    char *disabled_reason;    /* why the daemon disabled it; NULL: it did not */
    int64_t failing_since_ms; /* the first failure after the last success; 0: none */
    int64_t queued, dropped;  /* deliveries waiting; events not queued since there were too many */
    int64_t created_ms, updated_ms;
} store_webhook;

void store_webhook_clear(store_webhook *webhook);
void store_webhooks_free(store_webhook *webhooks, size_t count);

/* As in store_webhook; none may be NULL. */
typedef struct store_new_webhook {
    const char *url, *description, *events, *labels, *secret;
    bool enabled;
} store_new_webhook;
/* Errors: DIDI_CONFLICT when there are LIMIT_WEBHOOKS already. */
int store_webhook_create(store *self, const store_new_webhook *wanted, char ret_id[ID_BYTES],
                         didi_error *error);

/* Errors: DIDI_NOT_FOUND. The caller clears *ret_webhook. */
int store_webhook_get(store *self, const char *id, store_webhook *ret_webhook, didi_error *error);

/* Newest first, those before the id `before` (NULL: all). */
int store_webhook_list(store *self, const char *before, size_t limit, store_webhook **ret_webhooks,
                       size_t *ret_count, bool *ret_more, didi_error *error);

/* What changes of an endpoint: NULL, or below 0, stays. */
typedef struct store_webhook_change {
    const char *url, *description, *events, *labels;
    int enabled;
} store_webhook_change;
/* Enabling takes the reason for which the daemon had disabled it away. Errors: DIDI_NOT_FOUND. */
int store_webhook_update(store *self, const char *id, const store_webhook_change *change,
                         didi_error *error);

/* Disables one, unless it is already. */
int store_webhook_disable(store *self, const char *id, const char *reason, didi_error *error);

/* Replaces the secret; the one before is signed with too until `until_ms`. Errors: DIDI_NOT_FOUND.
 */
int store_webhook_rotate(store *self, const char *id, const char *secret, int64_t until_ms,
                         didi_error *error);

/* With all its deliveries. Errors: DIDI_NOT_FOUND. */
int store_webhook_delete(store *self, const char *id, didi_error *error);
