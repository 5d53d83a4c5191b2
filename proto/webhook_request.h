/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of requests about webhooks, and the events that there are. */
#pragma once

#include "proto/field.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What endpoints hear of: "job." and what a job has become, "model." and its state. */
#define WEBHOOK_EVENT_TABLE(X)                                                                     \
    X(JOB_QUEUED, "job.queued")                                                                    \
    X(JOB_STARTED, "job.started")                                                                  \
    X(JOB_SUCCEEDED, "job.succeeded")                                                              \
    X(JOB_FAILED, "job.failed")                                                                    \
    X(JOB_CANCELLED, "job.cancelled")                                                              \
    X(MODEL_READY, "model.ready")                                                                  \
    X(MODEL_BROKEN, "model.broken")

#define WEBHOOK_TEST_EVENT "webhook.test" /* sent when asked for, to whom it was asked for */

typedef enum webhook_event {
#define WEBHOOK_EVENT_ENUMERATOR(id, name) WEBHOOK_EVENT_##id,
    WEBHOOK_EVENT_TABLE(WEBHOOK_EVENT_ENUMERATOR)
#undef WEBHOOK_EVENT_ENUMERATOR
        WEBHOOK_EVENT_COUNT
} webhook_event;

/* Static. */
const char *webhook_event_name(webhook_event event);

#define WEBHOOK_SECRET_PREFIX "whsec_"
enum { WEBHOOK_OVERLAP_SECONDS_DEFAULT = 24 * 3600 };

/* What is absent is NULL, in a request that changes an endpoint too. */
typedef struct webhook_request {
    char *url; /* printable ASCII, not parsed */
    char *description;
    field_texts events;
    bool has_events;
    char *labels; /* JSON object of strings */
    char *secret; /* "whsec_" and base64 of 24 to 64 bytes */
    bool has_enabled, enabled;
    int64_t overlap_seconds;
} webhook_request;

typedef enum webhook_request_kind {
    WEBHOOK_REQUEST_CREATE, /* url, and any of events, labels, description, secret, enabled */
    WEBHOOK_REQUEST_UPDATE, /* any of url, events, labels, description, enabled */
    WEBHOOK_REQUEST_ROTATE, /* secret, overlap_seconds */
} webhook_request_kind;

/* Errors as specification_parse; a message never holds the secret. Clear *ret_request with
 * webhook_request_clear. */
int webhook_request_parse(webhook_request_kind kind, const char *text, size_t bytes,
                          webhook_request *ret_request, didi_error *error);
void webhook_request_clear(webhook_request *request);

/* The events as a JSON array; the caller frees. NULL: no memory. */
char *webhook_request_events(const webhook_request *request);
