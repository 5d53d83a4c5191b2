/* SPDX-License-Identifier: Apache-2.0 */
/* Who sent a delivery: the signatures of registries, checked in constant time. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { SIGNATURE_SECONDS_MAX = 300 }; /* between a signed timestamp and now */

/* A delivery as it came. */
typedef struct hook_message {
    const char *(*header)(void *context, const char *name); /* NULL where there is none */
    void *context;
    const char *body;
    size_t bytes;
} hook_message;

/* Checks that who knows `secret` sent the message now: `hook` is a document that document_check
 * passed. Errors: DIDI_INVALID with the reason, and the header at fault as subject;
 * DIDI_NO_MEMORY. */
int signature_check(const json_t *hook, const char *secret, const hook_message *message,
                    int64_t now_ms, didi_error *error);

/* The id that the sender gave the delivery, or NULL. *ret_is_signed: the signature covers it. */
const char *signature_delivery(const json_t *hook, const hook_message *message,
                               bool *ret_is_signed);
