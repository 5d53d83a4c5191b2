/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks of registries: deliveries that start jobs, polls for those that were missed, and results
 * told back to MLflow. docs/hooks.md is the view from outside.
 *
 * Threads: handlers call hooks_receive and the like; one thread works off deliveries (a fetch, then
 * the submission), another asks registries. What a handler answered is a row by then, and both
 * threads go on from rows after kill -9. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/fetch/fetch.h"
#include "daemon/hooks/event.h"
#include "daemon/hooks/rules.h"
#include "daemon/models/models.h"
#include "daemon/store/store.h"
#include "proto/proto.h"

#include <jansson.h>

typedef struct hooks hooks;

/* What the interface does for hooks; thread-safe. */
typedef struct hooks_service {
    void *context;
    /* As POST /v1/jobs with an idempotency key and, unless NULL, a trace (as trace_read gives it);
     * with *ret_plan, as its dry run. One of ret_id and ret_plan is NULL. Errors: DIDI_CONFLICT
     * when the queue is full; those of a specification. */
    int (*submit)(void *context, json_t *body, const char *key, const char *trace, char *ret_id,
                  json_t **ret_plan, didi_error *error);
    /* Budget and errors of a succeeded job; a new reference, or NULL. */
    json_t *(*figures)(void *context, const char *job_id);
} hooks_service;

/* Keeps the pointers; they must outlive it. Errors: DIDI_INVALID (a setting), DIDI_IO,
 * DIDI_NO_MEMORY. */
int hooks_create(const config *settings, store *records, registry *models, fetcher *fetches,
                 hooks **ret_hooks, didi_error *error);

/* Starts both threads; must be called once. Errors: DIDI_NO_MEMORY. */
int hooks_start(hooks *self, const hooks_service *service, didi_error *error);

/* Ends them. */
void hooks_stop(hooks *self);

/* hooks_stop must have been called. NULL is fine. */
void hooks_free(hooks *self);

enum { HOOKS_SECRET_BYTES = 65 }; /* generated: 64 hex digits, NUL */

/* Saves the document {"kind", "rules", ...}, whose member "secret" is taken out of it: a string, or
 * true to have one made, or absent to keep the old one. ret_secret is "" unless one was made.
 * Errors: DIDI_INVALID with a JSON pointer, DIDI_CONFLICT (too many hooks), those of the store. */
int hooks_save(hooks *self, const char *name, json_t *document, bool *ret_created,
               char ret_secret[HOOKS_SECRET_BYTES], didi_error *error);

typedef struct hooks_receipt {
    char ids[EVENT_REFS_MAX][ID_BYTES]; /* of deliveries */
    bool repeated[EVENT_REFS_MAX];
    size_t count;
    int64_t wait_seconds; /* of a refusal that is PROBLEM_TOO_MANY_FAILURES */
} hooks_receipt;

/* Takes a delivery from `peer`: on disk when this returns 0. Else *ret_problem says what it is on
 * the wire. */
int hooks_receive(hooks *self, const char *name, const char *peer, const hook_message *message,
                  hooks_receipt *ret_receipt, problem *ret_problem, didi_error *error);

/* What a payload would do: {"rule", "work", "plan", "error"}, whose signature is not looked at.
 * Caller owns *ret_report. Errors: those of store_hook_get and events_read. */
int hooks_try(hooks *self, const char *name, const hook_message *message, json_t **ret_report,
              didi_error *error);

/* Has what a hook polls looked at now. */
int hooks_poll(hooks *self, const char *name, didi_error *error);
