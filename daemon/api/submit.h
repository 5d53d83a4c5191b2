/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked for once however often it is asked: keys of requests, and jobs that no request of a
 * client asks for. */
#pragma once

#include "daemon/api/api_internal.h"

/* The key of a request that makes something, if it has one, and the SHA-256 of its body. */
typedef struct api_idempotency {
    bool keyed;
    char key[LIMIT_IDEMPOTENCY_KEY_BYTES + 1];
    char digest[API_DIGEST_BYTES];
} api_idempotency;
/* Reads the header, not the body. False: a reply was made. */
bool api_idempotency_read(http_request *request, api_idempotency *ret_known);
void api_reply_key_reused(http_request *request);

/* As POST /v1/jobs with this body, idempotency key and trace (NULL: none, else as trace_read gives
 * it); with ret_plan, as its dry run. One of ret_id and ret_plan is NULL. Errors: DIDI_CONFLICT
 * (the queue is full, or the key came with another body); those of the specification. */
int api_submit_document(api *self, json_t *body, const char *key, const char *trace, char *ret_id,
                        json_t **ret_plan, didi_error *error);
