/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that makes the attempts, all at once over one libcurl multi handle. */
#pragma once

#include "daemon/webhooks/queue.h"

typedef struct sender sender;

enum {
    SENDER_SECONDS_MAX = 15,             /* an attempt, in all */
    SENDER_ANSWER_BYTES_MAX = 16 * 1024, /* of a body; what is longer is cut off */
    SENDER_EXCERPT_BYTES = 1024,         /* of it are kept */
};

typedef struct sender_rules {
    bool allow_private;  /* addresses that are not public, and http, anywhere */
    const char *hosts;   /* "HOST,.HOST": there; may be NULL */
    const char *ca_file; /* certificates trusted instead of the system's; may be NULL */
} sender_rules;

/* Errors: DIDI_INVALID, "/url" as subject: not https, or not http where that is allowed, with a
 * user, a password or a fragment. */
int sender_check_url(const sender_rules *rules, const char *url, didi_error *error);

/* Keeps the queue, which it alone uses from then on, and what the rules point to. Errors:
 * DIDI_NO_MEMORY. */
int sender_start(const sender_rules *rules, delivery_queue *queue, sender **ret_sender,
                 didi_error *error);

/* There may be something due. Thread-safe, does not block. */
void sender_wake(sender *self);

/* See webhooks_stop. NULL is fine. */
void sender_stop(sender *self);
