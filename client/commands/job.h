/* SPDX-License-Identifier: Apache-2.0 */
/* One job as the client handles it: finding, checking, following to its end with progress. */
#pragma once

#include "client/commands/command.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum { JOB_ID_BYTES_MAX = 64 };

/* Turns what a user types (an id, a unique beginning of one, or "@latest") into an id. Caller
 * frees. Errors: CLIENT_USAGE (not an id), CLIENT_FAILURE (no such job, and perhaps another was
 * meant; or several), those of service.h. */
int job_resolve(const command_context *context, const char *reference, char **ret_id,
                didi_error *error);

/* The same of the first word of the command line. */
int job_named(const command_context *context, char **ret_id, didi_error *error);

/* After a refused request: where there is no such job, says so with the one that may have been
 * meant. Asks the server for its jobs. */
void job_advise_unknown(const command_context *context, didi_error *error);

/* "/v1/jobs/ID" and `rest`. Caller frees; NULL when out of memory. */
char *job_target(const char *id, const char *rest);

/* GET of it, and the same of the job named. Caller decrefs *ret_document. */
int job_read(client_service *service, const char *id, const char *rest, json_t **ret_document,
             didi_error *error);
int job_read_named(const command_context *context, const char *rest, json_t **ret_document,
                   didi_error *error);

/* The job, checked to have an id and a known state. Caller decrefs *ret_job. */
int job_get(client_service *service, const char *id, json_t **ret_job, didi_error *error);
int job_check(const json_t *job, didi_error *error);

/* The idempotency key of the command line, or one of our own, which makes a repeated submission
 * after a lost connection the same job. Errors: CLIENT_USAGE, CLIENT_FAILURE. */
int job_choose_key(const command_context *context, char ret_key[LIMIT_IDEMPOTENCY_KEY_BYTES + 1],
                   didi_error *error);

/* True when the job, or a page of its events, tells of a state that is an end. */
bool job_is_over(const json_t *job);

/* CLIENT_OK when it succeeded, else CLIENT_JOB_FAILED with the reason in the message. */
int job_outcome(const command_context *context, const json_t *job, didi_error *error);

/* Where progress goes. */
typedef enum follow_style {
    FOLLOW_SILENT, /* nowhere */
    FOLLOW_BAR,    /* one line redrawn */
    FOLLOW_LINES,  /* a line per change */
    FOLLOW_JSON,   /* a JSON document per change, to stdout */
} follow_style;

/* Follows the job to its end with progress on `stream`; an interrupted connection is retried until
 * the server was silent for the timeout. Caller decrefs *ret_job. Errors: those of service.h; that
 * of an interrupt says that the job goes on. */
int job_follow(const command_context *context, const char *id, FILE *stream, follow_style style,
               json_t **ret_job, didi_error *error);
