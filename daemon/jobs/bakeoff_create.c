/* SPDX-License-Identifier: Apache-2.0 */
/* A bake-off made of a request: the specification of each member, checked by the headers of the
 * models as any job's. */
#include "daemon/jobs/bakeoff_internal.h"
#include "proto/proto.h"
#include "src/base/base.h"
#include "src/didi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int member_draft_read(member_draft *self, json_t *document, didi_error *error)
{
    int status = document != NULL
                     ? DIDI_OK
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a bake-off");
    if (status == DIDI_OK)
        status = specification_read(document, 0, &self->specification, error);
    if (status == DIDI_OK)
        status = specification_render(self->specification, &self->canonical, error);
    if (status == DIDI_OK)
        status = specification_render_labels(self->specification, &self->labels, error);
    json_decref(document);
    return status;
}

void member_draft_clear(member_draft *self)
{
    specification_free(self->specification);
    free(self->canonical);
    free(self->labels);
    *self = (member_draft){0};
}

store_new_member member_draft_row(const member_draft *self, member_role role, const char *options)
{
    const specification *wanted = self->specification;
    return (store_new_member){.role = role,
                              .label = wanted->name,
                              .method = wanted->method,
                              .options = options,
                              .job = {.name = wanted->name,
                                      .base = wanted->base,
                                      .specification = self->canonical,
                                      .labels = self->labels,
                                      .priority = (int)wanted->priority,
                                      .from_job = wanted->from_job}};
}

/* One method of a request on its way to a row. */
typedef struct candidate {
    member_draft draft;
    char *options;
    didi_error why; /* where it is refused */
    store_new_member row;
} candidate;

typedef struct candidates {
    scheduler *scheduler;
    const bakeoff_order *order;
    candidate *all;
    size_t count;
    uint64_t model_bytes;
    bool scored; /* there is a scorer */
} candidates;

/* What is wrong with the models or the request is no member's fault. */
static bool is_of_all(const didi_error *why)
{
    const size_t length = strlen(why->subject);
    if (why->status == DIDI_INVALID && length > 5 &&
        strcmp(why->subject + length - 5, "/gram") == 0)
        return false; /* a method lacks them */
    return why->status == DIDI_NO_MEMORY || why->status == DIDI_IO ||
           strncmp(why->subject, "/base", 5) == 0 || strncmp(why->subject, "/tasks", 6) == 0 ||
           why->status == DIDI_MISMATCH || why->status == DIDI_FORMAT;
}

static int plan_member(candidates *self, candidate *one, didi_error *error)
{
    const inputs_places nowhere = INPUTS_NOWHERE;
    didi_merge *merge = NULL;
    int status = scheduler_open_merge(self->scheduler, one->draft.specification, &nowhere, NULL,
                                      &merge, error);
    if (status == DIDI_OK) {
        const didi_plan *plan = didi_merge_plan(merge);
        self->model_bytes = memory_multiply(plan->parameters, 2);
        one->row.job.artifact_bytes = plan->artifact_bytes;
    }
    didi_merge_close(merge);
    return status;
}

/* Adds the member of a specification, which is taken; its role and options. */
static int add_member(candidates *self, json_t *document, member_role role, const json_t *options,
                      didi_error *error)
{
    const config *settings = self->scheduler->config;
    candidate *one = &self->all[self->count++];
    one->options = json_dumps(options, JSON_COMPACT);
    int status = one->options != NULL
                     ? member_draft_read(&one->draft, document, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a bake-off");
    if (status != DIDI_OK)
        return status;
    one->row = member_draft_row(&one->draft, role, one->options);
    status = plan_member(self, one, error);
    one->row.job.traceparent = self->order->traceparent;
    one->row.job.active_max = settings->queued_jobs_max;
    one->row.job.artifact_bytes_max = settings->artifact_bytes_max;
    return status;
}

/* An error of the specification's method lies in the request's list of them. */
static void point_to_method(size_t index, didi_error *error)
{
    didi_error found = *error;
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    (void)snprintf(pointer, sizeof pointer, "/methods/%zu%.200s", index, found.subject);
    didi_fail(error, found.status, pointer, "%s", found.message);
}

static bool has_name(const json_t *known, const char *name)
{
    const json_t *row;
    size_t index;
    json_array_foreach((json_t *)known, index, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0)
            return true;
    }
    return false;
}

/* A method that there is, and whose options are right, but that cannot be used here, is listed with
 * the reason. */
static int add_method(candidates *self, const json_t *known, size_t index, didi_error *error)
{
    const json_t *request = self->order->request;
    const json_t *entry = json_array_get(json_object_get(request, "methods"), index);
    const json_t *options = json_object_get(entry, "method_options");
    const char *label = json_string_value(json_object_get(entry, "label"));
    const char *method = json_string_value(json_object_get(entry, "method"));
    candidate *one = &self->all[self->count];
    int status = add_member(self, bakeoff_request_method(request, label, method, options),
                            MEMBER_METHOD, options, error);
    if (status == DIDI_OK || is_of_all(error))
        return status;
    const bool wrong = strncmp(error->subject, "/method", 7) == 0 &&
                       !(strcmp(error->subject, "/method") == 0 && has_name(known, method));
    if (wrong) {
        point_to_method(index, error);
        return status;
    }
    one->why = *error;
    one->row.refused = &one->why;
    *error = (didi_error){0};
    return DIDI_OK;
}

/* What all scores are relative to: the fine-tunes themselves, unless they are there already. */
static int add_reference(candidates *self, const json_t *none, didi_error *error)
{
    const json_t *methods = json_object_get(self->order->request, "methods");
    const json_t *entry;
    size_t index;
    json_array_foreach((json_t *)methods, index, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "method")), REFERENCE_METHOD) == 0)
            return DIDI_OK;
    }
    return add_member(
        self,
        bakeoff_request_method(self->order->request, REFERENCE_METHOD, REFERENCE_METHOD, none),
        MEMBER_METHOD, none, error);
}

/* The base alone: there is no job of it. */
static void add_base(candidates *self)
{
    const json_t *base = json_object_get(self->order->request, "base");
    self->all[self->count++].row = (store_new_member){
        .role = MEMBER_BASE, .label = "base", .method = json_string_value(base), .options = "{}"};
}

static int add_others(candidates *self, didi_error *error)
{
    json_t *none = json_object();
    int status =
        none != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a bake-off");
    if (status == DIDI_OK && self->scored)
        status = add_reference(self, none, error);
    if (status == DIDI_OK && self->scored)
        add_base(self);
    if (status == DIDI_OK)
        status = add_member(self, bakeoff_request_survey(self->order->request), MEMBER_SURVEY, none,
                            error);
    json_decref(none);
    return status;
}

static int store_candidates(candidates *self, char ret_id[ID_BYTES],
                            store_submit_outcome *ret_outcome, didi_error *error)
{
    store_new_member rows[LIMIT_BAKEOFF_MEMBERS];
    const json_t *request = self->order->request;
    char *text = document_render(request);
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a bake-off");
    for (size_t i = 0; i < self->count; i++)
        rows[i] = self->all[i].row;
    const store_new_bakeoff made = {
        .name = json_string_value(json_object_get(request, "name")),
        .request = text,
        .scored = self->scored,
        .model_bytes = self->model_bytes,
        .members = rows,
        .member_count = self->count,
        .idempotency_key = self->order->idempotency_key,
        .body_digest = self->order->body_digest,
    };
    int status = bakery_take(self->scheduler, &made, ret_id, ret_outcome, error);
    free(text);
    return status;
}

int scheduler_bakeoff_create(scheduler *self, const bakeoff_order *order, char ret_id[ID_BYTES],
                             store_submit_outcome *ret_outcome, didi_error *error)
{
    const size_t methods = json_array_size(json_object_get(order->request, "methods"));
    candidates made = {.scheduler = self, .order = order, .scored = scorings_possible(self)};
    char *text = didi_methods_json();
    json_t *known = text != NULL ? json_load_own(text) : NULL;
    made.all = memory_zeroed(LIMIT_BAKEOFF_MEMBERS, sizeof *made.all);
    int status = known != NULL && made.all != NULL
                     ? DIDI_OK
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a bake-off");
    for (size_t i = 0; i < methods && i < LIMIT_BAKEOFF_METHODS && status == DIDI_OK; i++)
        status = add_method(&made, json_object_get(known, "methods"), i, error);
    if (status == DIDI_OK)
        status = add_others(&made, error);
    if (status == DIDI_OK)
        status = store_candidates(&made, ret_id, ret_outcome, error);
    for (size_t i = 0; made.all != NULL && i < made.count; i++) {
        member_draft_clear(&made.all[i].draft);
        free(made.all[i].options);
    }
    free(made.all);
    json_decref(known);
    free(text);
    return status;
}
