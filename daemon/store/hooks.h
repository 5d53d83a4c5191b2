/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks: what operators wrote of them, deliveries, polls, and results to be registered. */
#pragma once

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <stddef.h>

typedef struct store store;

enum {
    STORE_HOOKS_MAX = 200,
    STORE_DELIVERIES_KEPT_MAX = 10000,    /* of a hook, that ended */
    STORE_REGISTRATIONS_KEPT_MAX = 10000, /* that ended */
};

typedef struct store_hook {
    char *name;
    char *document; /* canonical JSON, without the secret */
    char *secret;
    int64_t created_ms, updated_ms;
} store_hook;

void store_hook_clear(store_hook *hook);
void store_hooks_free(store_hook *hooks, size_t count);

/* Makes a hook or replaces its document; with `secret` NULL the old one stays. Errors:
 * DIDI_INVALID with the subject "/secret" (a new hook without one), DIDI_CONFLICT (too many). */
int store_hook_put(store *self, const char *name, const char *document, const char *secret,
                   bool *ret_created, didi_error *error);
/* DIDI_NOT_FOUND. */
int store_hook_get(store *self, const char *name, store_hook *ret_hook, didi_error *error);
/* By name, those above `after` (NULL: all), at most `limit`. */
int store_hook_list(store *self, const char *after, size_t limit, store_hook **ret_hooks,
                    size_t *ret_count, bool *ret_more, didi_error *error);
/* Its deliveries go with it, its jobs stay. DIDI_NOT_FOUND. */
int store_hook_delete(store *self, const char *name, didi_error *error);

#define RECEIPT_STATE_TABLE(X)                                                                     \
    X(PENDING, "pending")                                                                          \
    X(WAITING, "waiting") /* for a fetch */                                                        \
    X(DONE, "done")                                                                                \
    X(IGNORED, "ignored") /* no rule matched */                                                    \
    X(FAILED, "failed")
typedef enum receipt_state {
#define RECEIPT_STATE_ENUMERATOR(id, word) RECEIPT_##id,
    RECEIPT_STATE_TABLE(RECEIPT_STATE_ENUMERATOR)
#undef RECEIPT_STATE_ENUMERATOR
        RECEIPT_STATE_COUNT
} receipt_state;

const char *receipt_state_name(receipt_state state);

typedef struct store_receipt {
    char id[ID_BYTES];
    char *hook, *delivery; /* the sender's id, or "" */
    char *origin;          /* "webhook", "poll" */
    receipt_state state;
    char *rule; /* NULL: none matched */
    char job_id[ID_BYTES], fetch_id[ID_BYTES];
    char *reason;  /* NULL: nothing to say */
    char *excerpt; /* of the payload */
    char *work;    /* JSON; NULL when it ended */
    int64_t attempts, created_ms, finished_ms;
    char *registered, *model, *version, *register_error; /* NULL where nothing is registered */
} store_receipt;

void store_receipt_clear(store_receipt *delivery);
void store_receipts_free(store_receipt *deliveries, size_t count);

typedef struct store_arrival {
    const char *hook, *key;
    const char *subject; /* NULL: none */
    const char *delivery, *origin, *rule, *reason, *excerpt, *work;
    receipt_state state; /* pending with work; ignored or failed without */
    int64_t since_ms;    /* the same subject told the other way since then is the same */
} store_arrival;

/* Notes a delivery, or finds the one it repeats: on disk when this returns 0. Errors:
 * DIDI_NOT_FOUND (the hook is gone). */
int store_receipt_add(store *self, const store_arrival *arrival, char ret_id[ID_BYTES],
                      bool *ret_repeated, didi_error *error);

/* DIDI_NOT_FOUND. */
int store_receipt_get(store *self, const char *id, store_receipt *ret_delivery, didi_error *error);
typedef struct store_receipt_page {
    const char *hook;
    const char *before; /* an id: those older than it; NULL: from the newest */
    size_t limit;
} store_receipt_page;
/* Newest first. */
int store_receipt_list(store *self, const store_receipt_page *page, store_receipt **ret_deliveries,
                       size_t *ret_count, bool *ret_more, didi_error *error);
/* The unfinished one that has waited longest of those due; *ret_next_ms: when the next one is, 0 if
 * none is left. */
int store_receipt_due(store *self, store_receipt *ret_delivery, bool *ret_found,
                      int64_t *ret_next_ms, didi_error *error);

/* How a delivery goes on. */
typedef struct store_receipt_step {
    const char *id;
    receipt_state state;
    const char *job_id, *fetch_id, *reason; /* NULL: none */
    int64_t wait_ms;                        /* until it is due again */
    bool counts;                            /* as an attempt */
    const char *hook, *model, *experiment;  /* the job's result is to be registered; or NULL */
} store_receipt_step;
int store_receipt_move(store *self, const store_receipt_step *step, didi_error *error);

typedef struct store_poll {
    char *seen;         /* NULL: nothing yet */
    int64_t checked_ms; /* 0: never */
    int64_t due_ms;
    char *error; /* of the last time; NULL: none */
} store_poll;
void store_poll_clear(store_poll *poll);
/* All zero when there is none. */
int store_poll_get(store *self, const char *hook, const char *source, store_poll *ret_poll,
                   didi_error *error);
typedef struct store_poll_result {
    const char *hook, *source;
    const char *seen; /* NULL: as before */
    const char *why;  /* it failed; NULL: it did not */
    int64_t interval_ms;
} store_poll_result;
int store_poll_put(store *self, const store_poll_result *result, didi_error *error);
/* All of a hook are due now. DIDI_NOT_FOUND (the hook). */
int store_poll_hurry(store *self, const char *hook, didi_error *error);

/* A succeeded job whose result is to be registered. */
typedef struct store_registration {
    char job_id[ID_BYTES];
    char *hook, *model, *experiment, *job_name;
    int64_t attempts;
} store_registration;
void store_registration_clear(store_registration *registration);
int store_registration_due(store *self, store_registration *ret_registration, bool *ret_found,
                           didi_error *error);
/* Registered as `version`; or, `version` NULL, not yet: again in wait_ms, never if that is 0. */
int store_registration_move(store *self, const char *job_id, const char *version, const char *why,
                            int64_t wait_ms, didi_error *error);
