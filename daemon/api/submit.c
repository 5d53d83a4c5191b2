/* SPDX-License-Identifier: Apache-2.0 */
/* Submission of jobs: everything that headers can tell is checked before a job is accepted. */
#include "daemon/api/submit.h"
#include "daemon/api/api_internal.h"
#include "daemon/models/models.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct submission {
    bool dry_run;
    api_idempotency known;
    json_t *body;
    bool extends;            /* another job; else the body is a whole specification */
    uint64_t artifact_bytes; /* of the plan */
    const char *traceparent; /* of the request; NULL: none */
    specification *specification;
} submission;

bool api_idempotency_read(http_request *request, api_idempotency *ret_known)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~:+/=-";
    const char *text = http_header(request, "Idempotency-Key");
    if (text == NULL)
        return true;
    size_t length = strlen(text);
    if (length >= 2 && text[0] == '"' && text[length - 1] == '"') {
        text++;
        length -= 2;
    }
    if (length == 0 || length > LIMIT_IDEMPOTENCY_KEY_BYTES || strspn(text, allowed) < length)
        return http_refuse_parameter(
            request, "Idempotency-Key",
            "Idempotency-Key must be 1 to 128 of A-Z, a-z, 0-9, . _ ~ : + / = -");
    memcpy(ret_known->key, text, length);
    ret_known->key[length] = '\0';
    ret_known->keyed = true;
    return true;
}

void api_reply_key_reused(http_request *request)
{
    http_reply_problem(request, &(http_problem){.type = PROBLEM_IDEMPOTENCY_KEY_REUSED,
                                                .detail = "this key came with another body before",
                                                .parameter = "Idempotency-Key"});
}

/* What cannot be started from is a problem of its own, whatever the library calls it. */
static problem submit_problem(const didi_error *error)
{
    return error->status == DIDI_NOT_FOUND && strcmp(error->subject, "/from_job") == 0
               ? PROBLEM_NOT_REUSABLE
               : problem_from_status(error->status);
}

static void submit_reply(api *self, http_request *request, const char *id, int status)
{
    didi_error error = {0};
    store_job job;
    char location[64];
    if (store_job_get(self->records, id, &job, &error) != DIDI_OK) {
        api_reply_job_error(request, &error);
        return;
    }
    snprintf(location, sizeof location, "/v1/jobs/%s", id);
    http_reply_header(request, "Location", location);
    http_reply_json(request, status, api_job_json(&job, NULL));
    store_job_clear(&job);
}

static void submit_answer(api *self, http_request *request, const char *id,
                          store_submit_outcome outcome)
{
    if (outcome == STORE_SUBMIT_KEY_REUSED) {
        api_reply_key_reused(request);
        return;
    }
    scheduler_wake(self->jobs);
    submit_reply(self, request, id, outcome == STORE_SUBMIT_CREATED ? 201 : 200);
}

/* A repeated request gets its job even if the models have changed since. True: a reply was made. */
static bool submit_replay(api *self, http_request *request, const submission *asked)
{
    const store_submission row = {.idempotency_key = asked->known.key,
                                  .body_digest = asked->known.digest};
    char id[ID_BYTES];
    didi_error error = {0};
    bool found = false;
    store_submit_outcome outcome;
    if (!asked->known.keyed)
        return false;
    if (store_job_find_submission(self->records, &row, &found, id, &outcome, &error) != DIDI_OK) {
        http_reply_error(request, problem_from_status(error.status), &error);
        return true;
    }
    if (found)
        submit_answer(self, request, id, outcome);
    return found;
}

/* A whole specification, or what makes one of another job's. */
static int submit_resolve(api *self, submission *asked, didi_error *error)
{
    asked->extends = extension_request_is(asked->body);
    return asked->extends ? api_inherit_extend(self, asked->body, &asked->specification, error)
                          : api_inherit_read(self, asked->body, &asked->specification, error);
}

static int submit_read(api *self, const char *body, size_t bytes, submission *asked,
                       didi_error *error)
{
    int status = document_parse(body, bytes, bytes, &asked->body, error);
    return status == DIDI_OK ? submit_resolve(self, asked, error) : status;
}

static bool submit_parse(api *self, http_request *request, submission *asked)
{
    const char *dry_run = http_query(request, "dry_run");
    didi_error error = {0};
    size_t bytes;
    const char *body = http_body(request, &bytes);
    if (!api_idempotency_read(request, &asked->known))
        return false;
    if (dry_run != NULL && strcmp(dry_run, "true") != 0 && strcmp(dry_run, "false") != 0)
        return http_refuse_parameter(request, "dry_run", "dry_run must be true or false");
    asked->traceparent = http_traceparent(request);
    asked->dry_run = dry_run != NULL && strcmp(dry_run, "true") == 0;
    if (file_sha256_bytes(body, bytes, asked->known.digest, &error) != DIDI_OK) {
        http_reply_error(request, problem_from_status(error.status), &error);
        return false;
    }
    if (!asked->dry_run && submit_replay(self, request, asked))
        return false;
    if (submit_read(self, body, bytes, asked, &error) != DIDI_OK) {
        problem type = error.status == DIDI_FORMAT && !asked->extends ? PROBLEM_MALFORMED_JSON
                                                                      : submit_problem(&error);
        json_decref(asked->body);
        http_reply_error(request, type, &error);
        return false;
    }
    return true;
}

static json_t *plan_layers(const didi_plan *plan)
{
    json_t *layers = json_array();
    for (size_t i = 0; i < plan->layer_count; i++) {
        const didi_plan_layer *layer = &plan->layers[i];
        json_array_append_new(layers, json_pack("{s:s, s:I, s:I, s:I}", "tensor", layer->tensor,
                                                "rows", (json_int_t)layer->rows, "columns",
                                                (json_int_t)layer->columns, "rank_limit",
                                                (json_int_t)layer->rank_limit));
    }
    return layers;
}

/* `seconds` NaN: not known. */
static json_t *plan_json(const didi_plan *plan, const char *canonical, double seconds)
{
    bool sized = plan->budget == 0; /* the method has a size of its own */
    json_t *value = json_pack(
        "{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:{s:I, s:I, s:I, s:I}}",
        "specification", json_load_own(canonical), "tasks", (json_int_t)plan->tasks, "parameters",
        (json_int_t)plan->parameters, "dense_parameters", (json_int_t)plan->dense_parameters,
        "own_parameters", (json_int_t)plan->own_parameters, "own_bytes",
        (json_int_t)plan->own_bytes, "factor_parameters", (json_int_t)plan->factor_parameters,
        "budget", sized ? json_null() : json_real(plan->budget), "budget_unit",
        sized ? json_null() : json_string(didi_budget_unit_name(plan->budget_unit)),
        "budget_minimum", sized ? json_null() : json_real(plan->budget_minimum), "layers",
        plan_layers(plan), "tensors", "low_rank", (json_int_t)plan->layer_count, "dense",
        (json_int_t)plan->dense_count, "passed_through", (json_int_t)plan->passthrough_count,
        "excluded", (json_int_t)plan->excluded_count);
    json_t *cost = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o}", "memory_minimum_bytes",
        (json_int_t)plan->memory_minimum_bytes, "memory_peak_bytes",
        (json_int_t)plan->memory_peak_bytes, "streamed_layers", (json_int_t)plan->streamed_count,
        "disk_bytes", (json_int_t)plan->disk_bytes, "artifact_bytes",
        (json_int_t)plan->artifact_bytes, "bytes_to_read", (json_int_t)plan->bytes_to_read, "flops",
        plan->flops, "seconds_estimate", isnan(seconds) ? json_null() : json_real(seconds));
    if (value != NULL && json_object_update(value, cost) != 0) {
        json_decref(value);
        value = NULL;
    }
    json_decref(cost);
    return value;
}

/* Opens the merge without output: names, shapes, budget and memory are checked from headers. */
static int submit_check(api *self, submission *asked, const char *canonical, json_t **ret_plan,
                        didi_error *error)
{
    const inputs_places nowhere = INPUTS_NOWHERE;
    didi_merge *merge = NULL;
    int status =
        scheduler_open_merge(self->jobs, asked->specification, &nowhere, NULL, &merge, error);
    if (status == DIDI_OK)
        asked->artifact_bytes = didi_merge_plan(merge)->artifact_bytes;
    if (status == DIDI_OK && asked->dry_run)
        *ret_plan = plan_json(
            didi_merge_plan(merge), canonical,
            scheduler_estimate(self->records, asked->specification, didi_merge_plan(merge)));
    didi_merge_close(merge);
    return status;
}

static void submit_store(api *self, http_request *request, const store_submission *row)
{
    char id[ID_BYTES];
    didi_error error = {0};
    store_submit_outcome outcome = STORE_SUBMIT_CREATED;
    int status = store_job_submit(self->records, row, id, &outcome, &error);
    if (status == DIDI_OK) {
        submit_answer(self, request, id, outcome);
    } else {
        didi_error why = {0};
        const bool lost = store_check(self->records, &why) != DIDI_OK;
        problem type = lost                           ? PROBLEM_UNAVAILABLE
                       : store_artifacts_over(&error) ? PROBLEM_ARTIFACT_LIMIT
                       : status == DIDI_CONFLICT      ? PROBLEM_QUEUE_FULL
                                                      : submit_problem(&error);
        http_reply_error(request, type, &error);
    }
}

static store_submission submit_row(const api *self, const submission *asked, const char *canonical,
                                   const char *labels)
{
    return (store_submission){.name = asked->specification->name,
                              .base = asked->specification->base,
                              .specification = canonical,
                              .labels = labels,
                              .priority = (int)asked->specification->priority,
                              .active_max = self->settings->queued_jobs_max,
                              .artifact_bytes = asked->artifact_bytes,
                              .artifact_bytes_max = self->settings->artifact_bytes_max,
                              .idempotency_key = asked->known.keyed ? asked->known.key : NULL,
                              .from_job = asked->specification->from_job,
                              .traceparent = asked->traceparent,
                              .body_digest = asked->known.digest};
}

/* From a good specification to a plan or a job. Errors: those that no reply was made for. */
static int submit_run(api *self, http_request *request, submission *asked, const char *canonical,
                      const char *labels, didi_error *error)
{
    json_t *plan = NULL;
    int status = submit_check(self, asked, canonical, &plan, error);
    const store_submission row = submit_row(self, asked, canonical, labels);
    if (status == DIDI_OK && asked->dry_run)
        http_reply_json(request, 200, plan);
    else if (status == DIDI_OK)
        submit_store(self, request, &row);
    return status;
}

void api_submit(void *context, http_request *request)
{
    api *self = context;
    submission asked = {0};
    char *canonical = NULL;
    char *labels = NULL;
    didi_error error = {0};
    if (!submit_parse(self, request, &asked))
        return;
    assert(asked.specification != NULL);
    int status = specification_render(asked.specification, &canonical, &error);
    if (status == DIDI_OK)
        status = specification_render_labels(asked.specification, &labels, &error);
    if (status == DIDI_OK)
        status = submit_run(self, request, &asked, canonical, labels, &error);
    if (status != DIDI_OK)
        http_reply_error(request, submit_problem(&error), &error);
    free(canonical);
    free(labels);
    specification_free(asked.specification);
    json_decref(asked.body);
}

/* ---- jobs that no request of a client asks for ---- */

static int document_digest(json_t *body, submission *asked, didi_error *error)
{
    char *text = document_render(body);
    int status = text != NULL ? file_sha256_bytes(text, strlen(text), asked->known.digest, error)
                              : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a job");
    free(text);
    return status;
}

static int document_store(api *self, const submission *asked, const char *canonical,
                          const char *labels, char *ret_id, didi_error *error)
{
    const store_submission row = submit_row(self, asked, canonical, labels);
    store_submit_outcome outcome = STORE_SUBMIT_CREATED;
    int status = store_job_submit(self->records, &row, ret_id, &outcome, error);
    if (status == DIDI_OK && outcome == STORE_SUBMIT_KEY_REUSED)
        status = didi_fail(error, DIDI_INVALID, NULL, "this delivery made another job before");
    if (status == DIDI_OK)
        scheduler_wake(self->jobs);
    return status;
}

int api_submit_document(api *self, json_t *body, const char *key, const char *trace, char *ret_id,
                        json_t **ret_plan, didi_error *error)
{
    submission asked = {.dry_run = ret_plan != NULL,
                        .known.keyed = key != NULL,
                        .body = body,
                        .traceparent = trace};
    char *canonical = NULL;
    char *labels = NULL;
    bool found = false;
    store_submit_outcome outcome;
    assert((ret_id == NULL) == (ret_plan != NULL));
    assert(key == NULL || strlen(key) <= LIMIT_IDEMPOTENCY_KEY_BYTES);
    (void)snprintf(asked.known.key, sizeof asked.known.key, "%s", key != NULL ? key : "");
    int status = document_digest(body, &asked, error);
    const store_submission known = {.idempotency_key = asked.known.key,
                                    .body_digest = asked.known.digest};
    if (status == DIDI_OK && asked.known.keyed && !asked.dry_run)
        status = store_job_find_submission(self->records, &known, &found, ret_id, &outcome, error);
    if (status != DIDI_OK || found)
        return status; /* what it would be checked against may have changed since */
    status = submit_resolve(self, &asked, error);
    if (status == DIDI_OK)
        status = specification_render(asked.specification, &canonical, error);
    if (status == DIDI_OK)
        status = specification_render_labels(asked.specification, &labels, error);
    if (status == DIDI_OK)
        status = submit_check(self, &asked, canonical, ret_plan, error);
    if (status == DIDI_OK && !asked.dry_run)
        status = document_store(self, &asked, canonical, labels, ret_id, error);
    free(canonical);
    free(labels);
    specification_free(asked.specification);
    return status;
}
