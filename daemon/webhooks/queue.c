/* SPDX-License-Identifier: Apache-2.0 */
/* The queue: which deliveries are in progress, and what answers mean. */
#include "daemon/webhooks/queue.h"

#include "daemon/webhooks/retry.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DAY_MS = 24 * 3600 * 1000, ERROR_BYTES = 300 };

struct delivery_queue {
    store *records;
    const secret_key *key;
    queue_rules rules;
    struct in_progress {
        char id[ID_BYTES], webhook_id[ID_BYTES];
    } progress[QUEUE_MAX];
    size_t count;
};

int queue_create(store *records, const secret_key *key, const queue_rules *rules,
                 delivery_queue **ret_queue, didi_error *error)
{
    delivery_queue *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for webhooks");
    self->records = records;
    self->key = key;
    self->rules = *rules;
    *ret_queue = self;
    return DIDI_OK;
}

void queue_free(delivery_queue *self)
{
    assert(self == NULL || self->count == 0);
    free(self);
}

/* ---- what is due ---- */

static bool may_start(const delivery_queue *self, const store_delivery *delivery)
{
    size_t same = 0;
    for (size_t i = 0; i < self->count; i++) {
        if (strcmp(self->progress[i].id, delivery->id) == 0)
            return false;
        same += strcmp(self->progress[i].webhook_id, delivery->webhook_id) == 0;
    }
    return same < QUEUE_ENDPOINT_MAX && self->count < QUEUE_MAX;
}

static void order_free(queue_order *order)
{
    if (order == NULL)
        return;
    store_delivery_clear(&order->delivery);
    free(order->url);
    free(order->signature);
    free(order);
}

/* With the old secret too while its time is not over. */
static int order_sign(const delivery_queue *self, const store_webhook *webhook, int64_t now_ms,
                      queue_order *order, didi_error *error)
{
    const signed_message message = {
        .id = order->delivery.id, .timestamp = now_ms / 1000, .body = order->delivery.body};
    const bool overlaps = webhook->old_secret != NULL && webhook->old_secret_until_ms > now_ms;
    char *secrets[2] = {NULL, NULL};
    int status = secret_open(self->key, webhook->secret, &secrets[0], error);
    if (status == DIDI_OK && overlaps)
        status = secret_open(self->key, webhook->old_secret, &secrets[1], error);
    if (status == DIDI_OK)
        status = secret_sign(&message, (const char *const *)secrets, overlaps ? 2 : 1,
                             &order->signature, error);
    secret_free(secrets[0]);
    secret_free(secrets[1]);
    return status;
}

/* Takes the delivery over. */
static int order_make(const delivery_queue *self, const store_webhook *webhook,
                      store_delivery *delivery, int64_t now_ms, queue_order **ret_order,
                      didi_error *error)
{
    queue_order *order = memory_zeroed(1, sizeof *order);
    if (order == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    order->delivery = *delivery;
    *delivery = (store_delivery){0};
    order->sent_ms = now_ms;
    order->failing_since_ms = webhook->failing_since_ms;
    order->url = memory_string(webhook->url);
    int status = order->url != NULL
                     ? order_sign(self, webhook, now_ms, order, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    if (status == DIDI_OK)
        *ret_order = order;
    else
        order_free(order);
    return status;
}

static const store_webhook *find_webhook(const store_webhook *webhooks, size_t count,
                                         const char *id)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(webhooks[i].id, id) == 0)
            return &webhooks[i];
    return NULL;
}

int queue_each_due(delivery_queue *self, int64_t now_ms,
                   void (*send)(void *context, queue_order *order), void *context,
                   didi_error *error)
{
    store_delivery *due = NULL;
    store_webhook *webhooks = NULL;
    size_t due_count = 0;
    size_t webhook_count = 0;
    assert(error != NULL);
    int status = store_delivery_due(self->records, now_ms, (size_t)2 * QUEUE_ENDPOINT_MAX, &due,
                                    &due_count, error);
    if (status == DIDI_OK && due_count > 0)
        status = store_webhook_list(self->records, NULL, LIMIT_WEBHOOKS, &webhooks, &webhook_count,
                                    NULL, error);
    for (size_t i = 0; i < due_count && status == DIDI_OK; i++) {
        const store_webhook *webhook = find_webhook(webhooks, webhook_count, due[i].webhook_id);
        queue_order *order = NULL;
        if (webhook == NULL || !webhook->enabled || !may_start(self, &due[i]))
            continue;
        status = order_make(self, webhook, &due[i], now_ms, &order, error);
        if (status == DIDI_INVALID) { /* its secret does not open: others go on */
            log_emit(LOG_LEVEL_ERROR, "cannot sign for a webhook", LOG_TEXT("webhook", webhook->id),
                     LOG_TEXT("error", error->message));
            status = DIDI_OK;
            continue;
        }
        if (status != DIDI_OK)
            break;
        struct in_progress *mine = &self->progress[self->count++];
        memcpy(mine->id, order->delivery.id, ID_BYTES);
        memcpy(mine->webhook_id, order->delivery.webhook_id, ID_BYTES);
        (void)fault_at(FAULT_SEND); /* only to be killed here */
        send(context, order);
    }
    store_deliveries_free(due, due_count);
    store_webhooks_free(webhooks, webhook_count);
    return status;
}

int64_t queue_wait_ms(delivery_queue *self, int64_t now_ms, int64_t most)
{
    int64_t due_ms = 0;
    if (store_delivery_next_due(self->records, now_ms, &due_ms, NULL) != DIDI_OK || due_ms == 0)
        return most;
    int64_t wait = due_ms - now_ms;
    return wait < most ? wait : most;
}

/* ---- what came back ---- */

void queue_put_back(delivery_queue *self, queue_order *order)
{
    for (size_t i = 0; i < self->count; i++)
        if (strcmp(self->progress[i].id, order->delivery.id) == 0) {
            self->progress[i] = self->progress[--self->count];
            break;
        }
    order_free(order);
}

static bool is_shown(unsigned long point)
{
    return point >= 0x20 && !(point >= 0x7f && point <= 0x9f) && point != 0xad &&
           !(point >= 0x200b && point <= 0x200f) && !(point >= 0x2028 && point <= 0x202e) &&
           !(point >= 0x2060 && point <= 0x206f) && point != 0x61c && point != 0xfeff;
}

static unsigned long code_point(const unsigned char *text, size_t length)
{
    static const unsigned char masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    unsigned long point = text[0] & masks[length];
    for (size_t i = 1; i < length; i++)
        point = point << 6 | (text[i] & 0x3fU);
    return point;
}

void queue_escape(char *target, size_t room, const char *text, size_t bytes)
{
    size_t used = 0;
    assert(room > 0);
    for (size_t at = 0; at < bytes;) {
        char shown[16];
        size_t length = text_character(text + at, bytes - at);
        unsigned long point = (unsigned char)text[at];
        if (length > 0)
            point = code_point((const unsigned char *)text + at, length);
        if (length > 0 && is_shown(point))
            (void)snprintf(shown, sizeof shown, "%.*s", (int)length, text + at);
        else
            (void)snprintf(shown, sizeof shown, "\\u{%lx}", point);
        size_t more = strlen(shown);
        if (used + more >= room)
            break;
        memcpy(target + used, shown, more);
        used += more;
        at += length > 0 ? length : 1;
    }
    target[used] = '\0';
}

/* Why an attempt failed, for the log of deliveries. */
static void describe(const queue_answer *answer, char ret_text[ERROR_BYTES])
{
    const char *more = "";
    if (answer->error != NULL) {
        queue_escape(ret_text, ERROR_BYTES, answer->error, strlen(answer->error));
        return;
    }
    if (answer->http_status >= 300 && answer->http_status < 400)
        more = "; redirects are not followed";
    (void)snprintf(ret_text, ERROR_BYTES, "answered %d%s", answer->http_status, more);
}

static void log_outcome(const queue_order *order, const store_delivery_outcome *outcome)
{
    const bool given_up = outcome->state == DELIVERY_FAILED;
    log_emit(outcome->error == NULL ? LOG_LEVEL_DEBUG
             : given_up             ? LOG_LEVEL_WARNING
                                    : LOG_LEVEL_INFO,
             outcome->error == NULL ? "event delivered"
             : given_up             ? "delivery given up"
                                    : "delivery failed, will be tried again",
             LOG_TEXT("webhook", order->delivery.webhook_id),
             LOG_TEXT("delivery", order->delivery.id), LOG_TEXT("type", order->delivery.type),
             LOG_INTEGER("attempt", order->delivery.attempts + 1),
             LOG_INTEGER("http_status", outcome->http_status), LOG_TEXT("error", outcome->error));
    if (outcome->disable != NULL)
        log_emit(LOG_LEVEL_WARNING, "webhook disabled",
                 LOG_TEXT("webhook", order->delivery.webhook_id),
                 LOG_TEXT("reason", outcome->disable));
}

static void count_outcome(const queue_order *order, retry_verdict verdict, int64_t now_ms)
{
    static const char *const outcomes[] = {
        [RETRY_SUCCEEDED] = "succeeded", [RETRY_AGAIN] = "failed", [RETRY_GIVEN_UP] = "given_up"};
    const char *const *labels = METRIC_LABELS(outcomes[verdict]);
    metric_add(METRIC_WEBHOOK_DELIVERIES, labels, 1);
    metric_observe(METRIC_WEBHOOK_SECONDS, labels, (double)(now_ms - order->sent_ms) / 1000.0);
}

static retry_decision decide(const delivery_queue *self, const queue_order *order,
                             const queue_answer *answer, int64_t now_ms, double chance)
{
    const retry_attempt attempt = {.http_status = answer->error == NULL ? answer->http_status : 0,
                                   .retry_after_seconds = answer->retry_after_seconds,
                                   .attempts = order->delivery.attempts + 1,
                                   .once = strcmp(order->delivery.type, WEBHOOK_TEST_EVENT) == 0,
                                   .failing_since_ms = order->failing_since_ms,
                                   .failing_ms_max = (int64_t)self->rules.disable_days * DAY_MS};
    return retry_decide(&attempt, now_ms, chance);
}

int queue_settle(delivery_queue *self, queue_order *order, const queue_answer *answer,
                 int64_t now_ms, double chance, didi_error *error)
{
    static const delivery_state states[] = {[RETRY_SUCCEEDED] = DELIVERY_SUCCEEDED,
                                            [RETRY_AGAIN] = DELIVERY_QUEUED,
                                            [RETRY_GIVEN_UP] = DELIVERY_FAILED};
    char why[ERROR_BYTES];
    char shown[STORE_DELIVERY_ANSWER_BYTES];
    char too_long[96];
    char since[CLOCK_TEXT_BYTES];
    const retry_decision decision = decide(self, order, answer, now_ms, chance);
    describe(answer, why);
    queue_escape(shown, sizeof shown, answer->body != NULL ? answer->body : "", answer->bytes);
    clock_format(order->failing_since_ms, since);
    (void)snprintf(too_long, sizeof too_long, "no delivery succeeded since %s", since);
    const store_delivery_outcome outcome = {
        .state = states[decision.verdict],
        .due_ms = decision.due_ms,
        .sent_ms = order->sent_ms,
        .now_ms = now_ms,
        .http_status = answer->http_status,
        .answer = shown[0] != '\0' ? shown : NULL,
        .error = decision.verdict == RETRY_SUCCEEDED ? NULL : why,
        .disable = decision.is_gone          ? "the endpoint answered 410, gone"
                   : decision.fails_too_long ? too_long
                                             : NULL};
    int status = fault_check(FAULT_ANSWER, order->delivery.id, error);
    if (status == DIDI_OK)
        status = store_delivery_answered(self->records, &order->delivery, &outcome, error);
    if (status != DIDI_OK)
        return status;
    (void)fault_at(FAULT_ANSWERED); /* only to be killed here */
    log_outcome(order, &outcome);
    count_outcome(order, decision.verdict, now_ms);
    queue_put_back(self, order);
    return DIDI_OK;
}

int queue_trim(delivery_queue *self, int64_t now_ms, didi_error *error)
{
    return store_delivery_trim(self->records, now_ms,
                               now_ms - (int64_t)self->rules.keep_days * DAY_MS,
                               (size_t)self->rules.keep_deliveries, error);
}
