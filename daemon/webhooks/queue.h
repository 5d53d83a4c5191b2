/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be sent now and what became of it: between the store and the sender. It knows no
 * network and no clock, so that days pass in a test at once. One thread uses it. */
#pragma once

#include "daemon/store/store.h"
#include "daemon/webhooks/secret.h"

#include <stdint.h>

enum {
    QUEUE_ENDPOINT_MAX = 2,                          /* attempts in progress at one endpoint */
    QUEUE_MAX = LIMIT_WEBHOOKS * QUEUE_ENDPOINT_MAX, /* so that no endpoint waits for others */
};

typedef struct delivery_queue delivery_queue;

typedef struct queue_rules {
    uint64_t keep_days, keep_deliveries; /* of deliveries that ended */
    uint64_t disable_days;               /* of nothing but failures; 0: never */
} queue_rules;

/* Keeps the pointers; `key` may be NULL. Errors: DIDI_NO_MEMORY. */
int queue_create(store *records, const secret_key *key, const queue_rules *rules,
                 delivery_queue **ret_queue, didi_error *error);
/* Nothing must be in progress. NULL is fine. */
void queue_free(delivery_queue *self);

/* An attempt to be made. */
typedef struct queue_order {
    store_delivery delivery;
    char *url, *signature;
    int64_t sent_ms;
    int64_t failing_since_ms; /* of the endpoint */
} queue_order;

/* Calls `send` for every attempt that is due and may be made now; the order is in progress, and
 * the callee's, until queue_settle or queue_put_back. What cannot be signed is passed over, which
 * the log tells. `error` must not be NULL. Errors: those of the store. */
int queue_each_due(delivery_queue *self, int64_t now_ms,
                   void (*send)(void *context, queue_order *order), void *context,
                   didi_error *error);

/* Milliseconds until something may be due, `most` at most. */
int64_t queue_wait_ms(delivery_queue *self, int64_t now_ms, int64_t most);

/* How an attempt ended. */
typedef struct queue_answer {
    int http_status;  /* 0: none */
    const char *body; /* its beginning, as it came */
    size_t bytes;
    const char *error; /* why there is no answer; NULL: there is one */
    int64_t retry_after_seconds;
} queue_answer;
/* Records it and frees the order; `chance` as in retry_decide. After a failure the order is in
 * progress as before: its answer can be recorded later. Errors: those of the store. */
int queue_settle(delivery_queue *self, queue_order *order, const queue_answer *answer,
                 int64_t now_ms, double chance, didi_error *error);

/* As if it had not been taken; frees the order. */
void queue_put_back(delivery_queue *self, queue_order *order);

/* Forgets old deliveries. Errors: those of the store. */
int queue_trim(delivery_queue *self, int64_t now_ms, didi_error *error);

/* Copies the beginning of an answer: control characters, those that change direction or cannot be
 * seen, and what is not UTF-8 are written as \u{HEX}. */
void queue_escape(char *target, size_t room, const char *text, size_t bytes);
