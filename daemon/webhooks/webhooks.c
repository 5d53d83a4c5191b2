/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks: settings, key, queue and sender put together. */
#include "daemon/webhooks/webhooks.h"

#include "daemon/webhooks/queue.h"
#include "daemon/webhooks/secret.h"
#include "daemon/webhooks/sender.h"

#include <stdlib.h>

struct webhooks {
    store *records;
    secret_key *key;
    sender_rules rules;
    delivery_queue *queue;
    sender *sender;
};

static void on_queued(void *context)
{
    sender_wake(context);
}

static int check_secret(const webhooks *self, const char *sealed, didi_error *error)
{
    char *text = NULL;
    int status = sealed != NULL ? secret_open(self->key, sealed, &text, error) : DIDI_OK;
    secret_free(text);
    return status;
}

/* Better no start than events that nobody can verify. */
static int check_secrets(const webhooks *self, didi_error *error)
{
    store_webhook *rows = NULL;
    size_t count = 0;
    int status =
        store_webhook_list(self->records, NULL, LIMIT_WEBHOOKS, &rows, &count, NULL, error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++) {
        status = check_secret(self, rows[i].secret, error);
        if (status == DIDI_OK)
            status = check_secret(self, rows[i].old_secret, error);
        if (status != DIDI_OK && error != NULL)
            didi_error_wrap(error, "webhook %s", rows[i].id);
    }
    store_webhooks_free(rows, count);
    return status;
}

int webhooks_start(const config *settings, store *records, webhooks **ret_webhooks,
                   didi_error *error)
{
    const queue_rules rules = {.keep_days = settings->webhook_keep_days,
                               .keep_deliveries = settings->webhook_keep_deliveries,
                               .disable_days = settings->webhook_disable_days};
    webhooks *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for webhooks");
    self->records = records;
    self->rules = (sender_rules){.allow_private = settings->webhook_private != 0,
                                 .hosts = settings->webhook_hosts,
                                 .ca_file = settings->webhook_ca_file};
    int status = secret_key_read(settings->webhook_key_file, &self->key, error);
    if (status == DIDI_OK)
        status = check_secrets(self, error);
    if (status == DIDI_OK)
        status = queue_create(records, self->key, &rules, &self->queue, error);
    if (status == DIDI_OK)
        status = sender_start(&self->rules, self->queue, &self->sender, error);
    if (status != DIDI_OK) {
        webhooks_stop(self);
        return status;
    }
    store_set_delivery_listener(records, on_queued, self->sender);
    sender_wake(self->sender); /* for what was queued before it listened */
    *ret_webhooks = self;
    return DIDI_OK;
}

void webhooks_stop(webhooks *self)
{
    if (self == NULL)
        return;
    store_set_delivery_listener(self->records, NULL, NULL);
    sender_stop(self->sender);
    queue_free(self->queue);
    secret_key_free(self->key);
    free(self);
}

int webhooks_check_url(const webhooks *self, const char *url, didi_error *error)
{
    return sender_check_url(&self->rules, url, error);
}

int webhooks_make_secret(const webhooks *self, const char *wanted, webhook_secret *ret_secret,
                         didi_error *error)
{
    webhook_secret made = {0};
    int status = DIDI_OK;
    if (wanted == NULL) {
        status = secret_make(&made.text, error);
    } else {
        made.text = memory_string(wanted);
        if (made.text == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a secret");
    }
    if (status == DIDI_OK)
        status = secret_seal(self->key, made.text, &made.sealed, error);
    if (status == DIDI_OK)
        *ret_secret = made;
    else
        webhook_secret_clear(&made);
    return status;
}

void webhook_secret_clear(webhook_secret *secret)
{
    secret_free(secret->text);
    secret_free(secret->sealed);
    *secret = (webhook_secret){0};
}
