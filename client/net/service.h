/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's resources as JSON: requests, pages, and problem documents as errors.
 * Every function may also fail with the errors of transport_exchange; an answer with an HTTP status
 * of 400 or more is CLIENT_DENIED (401, 403) or CLIENT_FAILURE with the problem in the message. */
#pragma once

#include "client/base/base.h"
#include "client/net/interrupt.h"
#include "client/net/transport.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    SERVICE_PAGE_ITEMS_MAX = 200,
    SERVICE_LIST_ITEMS_MAX = 1000000, /* across all pages */
};

typedef struct client_service client_service;

/* `interrupt` must outlive the object. Caller closes. Errors: CLIENT_USAGE, CLIENT_FAILURE. */
int service_open(const client_settings *settings, client_interrupt *interrupt,
                 client_service **ret_service, didi_error *error);
void service_close(client_service *service);

/* GET of a JSON document at the target that `format` makes; `extra_seconds` as in
 * transport_request. Caller decrefs *ret_document. */
int service_get(client_service *service, int extra_seconds, json_t **ret_document,
                didi_error *error, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* `method` must be POST, PUT or DELETE. `body` may be NULL. With `idempotency_key`, a POST is
 * repeated after a lost connection; the others always are. *ret_document is NULL after an empty
 * answer (204); caller decrefs.
 */
int service_send(client_service *service, const char *method, const char *target,
                 const json_t *body, const char *idempotency_key, json_t **ret_document,
                 didi_error *error);

/* Walks a list of pages at `target` (with or without a query) until `limit` (more than 0) items are
 * there; caller decrefs *ret_items, an array. *ret_more tells whether the server has others. */
int service_list(client_service *service, const char *target, size_t limit, json_t **ret_items,
                 bool *ret_more, didi_error *error);

/* HTTP status of the last answer, 0 before the first. */
int service_last_status(const client_service *service);

/* The last problem document, or texts that are "". */
typedef struct service_problem {
    char type[64], pointer[256];
} service_problem;
const service_problem *service_last_problem(const client_service *service);

/* Why the last request got no answer. */
transport_failure service_last_failure(const client_service *service);

/* An exchange whose body goes to a sink (downloads). Answers of 400 or more, other than 416, are
 * errors as above. Caller clears *ret_response. */
int service_fetch(client_service *service, const transport_request *request,
                  transport_response *ret_response, didi_error *error);

client_interrupt *service_interrupt(const client_service *service);
int service_timeout_seconds(const client_service *service);
