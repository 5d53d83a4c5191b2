/* SPDX-License-Identifier: Apache-2.0 */
/* One job as the client handles it: finding, checking, following to its end. */
#pragma once

#include "client/net/net.h"
#include "client/view/view.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>

enum { JOB_ID_BYTES_MAX = 64, JOB_ID_BYTES_WHOLE = 26 };

/* Turns what a user types (an id, a unique beginning of one, or "@latest") into an id. Caller
 * frees. Errors: CLIENT_USAGE (not an id), CLIENT_FAILURE (no such job, or several), those of
 * service.h. */
int job_resolve(client_service *service, const char *reference, char **ret_id, didi_error *error);

/* "/v1/jobs/ID" and `rest`. Caller frees; NULL when out of memory. */
char *job_target(const char *id, const char *rest);

/* The job, checked to have an id and a known state. Caller decrefs *ret_job. */
int job_get(client_service *service, const char *id, json_t **ret_job, didi_error *error);
int job_check(const json_t *job, didi_error *error);

/* True when the job has ended. */
bool job_is_over(const json_t *job);

/* CLIENT_OK when it succeeded, else CLIENT_JOB_FAILED with the reason in the message. */
int job_outcome(const json_t *job, didi_error *error);

/* Told of every change while following; non-zero (a client_exit) ends it. */
typedef struct job_observer {
    void *context;
    int (*observe)(void *context, const json_t *job, const progress_moment *moment,
                   didi_error *error);
    void (*lost)(void *context, const didi_error *reason); /* connection lost, being retried */
    int wait_seconds;                                      /* longest time between two looks */
} job_observer;

/* Follows the job to its end; an interrupted connection is retried until the server was silent for
 * the timeout. Caller decrefs *ret_job. Errors: those of service.h and of the observer. */
int job_follow(client_service *service, const char *id, const job_observer *observer,
               json_t **ret_job, didi_error *error);
