/* SPDX-License-Identifier: Apache-2.0 */
/* Events sent to endpoints as Standard Webhooks 1.0.0: one thread sends what is due of the store's
 * deliveries, each at least once and in order per job or model, and tries again by a table. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/store/store.h"

typedef struct webhooks webhooks;

/* Takes up what an earlier process left queued, and is the store's delivery listener. Keeps the
 * pointers; they must outlive it. Errors: DIDI_NOT_FOUND, DIDI_IO and DIDI_INVALID (key file; an
 * endpoint's secret that it does not open), DIDI_NO_MEMORY, those of the store. */
int webhooks_start(const config *settings, store *records, webhooks **ret_webhooks,
                   didi_error *error);

/* Gives attempts in progress a moment; those that have not ended are made again at the next start.
 * NULL is fine. */
void webhooks_stop(webhooks *self);

/* Whether the settings let anything be sent there. Errors: DIDI_INVALID, "/url" as subject. */
int webhooks_check_url(const webhooks *self, const char *url, didi_error *error);

/* A secret as receivers have it and as it is stored: `wanted`, or one from the kernel's random
 * numbers if that is NULL. The caller frees both. */
typedef struct webhook_secret {
    char *text, *sealed;
} webhook_secret;
int webhooks_make_secret(const webhooks *self, const char *wanted, webhook_secret *ret_secret,
                         didi_error *error);
void webhook_secret_clear(webhook_secret *secret);
