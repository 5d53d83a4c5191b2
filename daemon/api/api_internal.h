/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the interface share. Included by them alone. */
#pragma once

#include "daemon/api/api.h"
#include "daemon/api/digest.h"
#include "daemon/api/job_cache.h"
#include "daemon/api/results.h"

#include <jansson.h>
#include <stdatomic.h>

struct api {
    const config *settings;
    store *records;
    registry *models;
    model_fits *fits;
    scheduler *jobs;
    fetcher *fetcher;
    webhooks *webhooks;
    uploads *uploads;
    hooks *hooks;
    access_control *access;
    dashboard *pages;
    api_digests *digests;
    api_figures *figures;
    int64_t began_ms; /* of the process, about */
    api_job_cache *job_cache;
    atomic_int streams;         /* of models, being sent */
    atomic_int deposit_streams; /* of artifacts at S3 */
    atomic_bool ending;         /* these are cut */
    atomic_bool backing_up;
};

/* ---- json.c ---- */

/* A job as the wire has it; `result` is taken and may be NULL. */
json_t *api_job_json(const store_job *job, json_t *result);
/* A job as lists have it. Both are NULL when out of memory, or of a row that is damaged. */
json_t *api_job_row_json(const api *self, const store_job *job);
/* The same with what a queued job waits for beyond its turn. */
json_t *api_job_shown(const api *self, const store_job *job, json_t *result);
/* Seconds until a running job is expected to end; null where that is not known (0). */
json_t *api_eta_json(int64_t ends_ms);
/* The failure of a job or export: an object, or null when `status_name` is NULL. */
json_t *api_failure(const char *status_name, const char *message, const char *subject);
/* {"data", "has_more", "next"}; takes `data`; `next` may be NULL. */
json_t *api_page(json_t *data, bool has_more, const char *next);

/* Reads `limit` and `after` of a list; *ret_after is NULL where none is given. False: a reply was
 * made, which says `expected` of an `after` that is not valid. */
bool api_page_asked(http_request *request, bool (*is_valid)(const char *text), const char *expected,
                    const char **ret_after, size_t *ret_limit);

/* Reads the job of the path. False: a reply was made. Caller clears *ret_job. */
bool api_find_job(api *self, http_request *request, store_job *ret_job);
/* The same of a job that has succeeded: else the reply is no-result. */
bool api_find_succeeded(api *self, http_request *request, store_job *ret_job);
/* Makes the reply of a call on a job that failed: DIDI_NOT_FOUND is unknown-job. */
void api_reply_job_error(http_request *request, const didi_error *error);
/* The names of a job's tasks: an array of strings, or NULL when out of memory. */
json_t *api_job_tasks(const store_job *job);

/* ---- handlers, by file ---- */
/* What an operator should look at though jobs are accepted: an array of texts. */
json_t *api_warnings(const api *self);

void api_system_live(void *context, http_request *request);
void api_system_ready(void *context, http_request *request);
void api_system_version(void *context, http_request *request);
void api_system_methods(void *context, http_request *request);
void api_system_contract(void *context, http_request *request);
void api_pages_redirect(void *context, http_request *request);
void api_pages_index(void *context, http_request *request);
void api_pages_file(void *context, http_request *request);
void api_metrics(void *context, http_request *request);
void api_status(void *context, http_request *request);
void api_whoami(void *context, http_request *request);
void api_tokens_list(void *context, http_request *request);
void api_tokens_create(void *context, http_request *request);
void api_tokens_get(void *context, http_request *request);
void api_tokens_delete(void *context, http_request *request);
void api_models_list(void *context, http_request *request);
void api_models_rescan(void *context, http_request *request);
void api_models_get(void *context, http_request *request);
void api_models_add(void *context, http_request *request);
void api_bakeoffs_list(void *context, http_request *request);
void api_bakeoffs_create(void *context, http_request *request);
void api_bakeoffs_get(void *context, http_request *request);
void api_bakeoffs_cancel(void *context, http_request *request);
void api_bakeoffs_delete(void *context, http_request *request);
void api_fetches_list(void *context, http_request *request);
void api_fetches_get(void *context, http_request *request);
void api_fetches_cancel(void *context, http_request *request);
void api_fetches_delete(void *context, http_request *request);
void api_webhooks_list(void *context, http_request *request);
void api_webhooks_create(void *context, http_request *request);
void api_webhooks_get(void *context, http_request *request);
void api_webhooks_update(void *context, http_request *request);
void api_webhooks_delete(void *context, http_request *request);
void api_webhooks_rotate(void *context, http_request *request);
void api_webhooks_test(void *context, http_request *request);
void api_deliveries_list(void *context, http_request *request);
void api_deliveries_get(void *context, http_request *request);
void api_deliveries_again(void *context, http_request *request);
void api_jobs_list(void *context, http_request *request);
void api_jobs_get(void *context, http_request *request);
void api_jobs_cancel(void *context, http_request *request);
void api_jobs_retry(void *context, http_request *request);
void api_jobs_delete(void *context, http_request *request);
void api_submit(void *context, http_request *request);
void api_hooks_list(void *context, http_request *request);
void api_hooks_get(void *context, http_request *request);
void api_hooks_put(void *context, http_request *request);
void api_hooks_delete(void *context, http_request *request);
void api_hooks_receive(void *context, http_request *request);
void api_hooks_try(void *context, http_request *request);
void api_hooks_poll(void *context, http_request *request);
void api_hooks_deliveries(void *context, http_request *request);
void api_events_list(void *context, http_request *request);
void api_artifacts_list(void *context, http_request *request);
void api_artifacts_get(void *context, http_request *request);
void api_exports_list(void *context, http_request *request);
void api_exports_create(void *context, http_request *request);
void api_report_get(void *context, http_request *request);
void api_ranks_get(void *context, http_request *request);
void api_frontier_get(void *context, http_request *request);
void api_similarity_get(void *context, http_request *request);

void api_backup_get(void *context, http_request *request);
void api_doctor_get(void *context, http_request *request);
void api_doctor_jobs(void *context, http_request *request);

/* ---- stream.c ---- */

/* Replies with the weights of a task of a succeeded job, made on the way. */
void api_stream_model(api *self, http_request *request, const store_job *job, const char *task);

/* ---- inherit.c ---- */

/* Reads a body; one with `from_job` gets that job's base and tasks. Errors as
 * specification_read; DIDI_NOT_FOUND with the subject "/from_job" when that job keeps nothing. */
int api_inherit_read(api *self, json_t *body, specification **ret_specification, didi_error *error);

/* The specification of a job that extends another. Errors: DIDI_INVALID with the field's pointer
 * (no such job, not succeeded, what cannot be added or removed), DIDI_FORMAT, DIDI_IO. */
int api_inherit_extend(api *self, json_t *request, specification **ret_specification,
                       didi_error *error);
