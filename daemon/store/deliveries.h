/* SPDX-License-Identifier: Apache-2.0 */
/* Deliveries of events to endpoints. A row is written in the transaction of the change that it
 * tells of. Those of one endpoint and subject (a job, a model) are due one after the other: the
 * next when the one before succeeded or was given up. */
#pragma once

#include "daemon/base/base.h"
#include "proto/proto.h"
#include "src/base/base.h"

enum {
    STORE_DELIVERIES_QUEUED_MAX = 10000, /* of an endpoint; events beyond are counted, not kept */
    STORE_DELIVERY_ANSWER_BYTES = 4096,  /* of an answer's beginning, escaped */
};

typedef struct store store;

const char *delivery_state_name(delivery_state state);
bool delivery_state_parse(const char *name, delivery_state *ret_state);

typedef struct store_delivery {
    char id[ID_BYTES]; /* also the message's, the same for every attempt */
    char webhook_id[ID_BYTES];
    char *type, *subject, *body;
    delivery_state state;
    int64_t due_ms;        /* 0: has ended, or waits behind another of its subject */
    unsigned attempts;     /* since it was queued, the last time */
    unsigned attempts_all; /* ever */
    int64_t created_ms, sent_ms, finished_ms; /* sent_ms: the last attempt; 0 = not yet */
    int64_t duration_ms;                      /* of the last attempt */
    int http_status;                          /* of the last answer; 0: there was none */
    char *answer, *error;                     /* NULL: none */
    char traceparent[TRACE_BYTES];            /* of the job it tells of; "" for none */
} store_delivery;

void store_delivery_clear(store_delivery *delivery);
void store_deliveries_free(store_delivery *deliveries, size_t count);

/* Errors: DIDI_NOT_FOUND (the endpoint has none of this id). The caller clears *ret_delivery. */
int store_delivery_get(store *self, const char *webhook_id, const char *id,
                       store_delivery *ret_delivery, didi_error *error);

typedef struct store_delivery_filter {
    const char *webhook_id;
    const delivery_state *state; /* NULL: any */
    const char *before;          /* id; NULL: from the newest */
} store_delivery_filter;
int store_delivery_list(store *self, const store_delivery_filter *filter, size_t limit,
                        store_delivery **ret_deliveries, size_t *ret_count, bool *ret_more,
                        didi_error *error);

/* Queues a "webhook.test" that waits for no other. Errors: DIDI_NOT_FOUND; DIDI_CONFLICT (the
 * endpoint is disabled, its queue full). */
int store_delivery_test(store *self, const char *webhook_id, char ret_id[ID_BYTES],
                        didi_error *error);

/* Queues one again, as new: due at once, or after earlier ones of its subject. Errors:
 * DIDI_NOT_FOUND; DIDI_CONFLICT (the endpoint is disabled, its queue full). */
int store_delivery_again(store *self, const char *webhook_id, const char *id, didi_error *error);

/* ---- for the sender ---- */

/* What is due at `now_ms` of endpoints that are enabled, at most `each` of one of them. */
int store_delivery_due(store *self, int64_t now_ms, size_t each, store_delivery **ret_deliveries,
                       size_t *ret_count, didi_error *error);

/* When the next one after `now_ms` is due; 0: never. */
int store_delivery_next_due(store *self, int64_t now_ms, int64_t *ret_due_ms, didi_error *error);

/* How an attempt ended. */
typedef struct store_delivery_outcome {
    delivery_state state; /* DELIVERY_QUEUED: to be tried again at due_ms */
    int64_t due_ms;
    int64_t sent_ms, now_ms;
    int http_status;     /* 0: no answer */
    const char *answer;  /* NULL: none */
    const char *error;   /* NULL after success */
    const char *disable; /* not NULL: the endpoint is disabled, for this reason */
} store_delivery_outcome;
/* One deleted meanwhile is no error. */
int store_delivery_answered(store *self, const store_delivery *delivery,
                            const store_delivery_outcome *outcome, didi_error *error);

/* Keeps the table short: what ended before `before_ms` goes, and what is beyond the newest `most`,
 * some at a time; gives up what waited for a disabled endpoint since then; forgets secrets whose
 * time is over. */
int store_delivery_trim(store *self, int64_t now_ms, int64_t before_ms, size_t most,
                        didi_error *error);
