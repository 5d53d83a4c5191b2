/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: list, show, cancel, retry, delete. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"

#include <stdlib.h>
#include <string.h>

typedef struct list_query {
    store_job_filter filter;
    job_state state;
    char label[LIMIT_LABEL_KEY_BYTES + LIMIT_LABEL_VALUE_BYTES + 2]; /* key NUL value NUL */
    long long limit;
} list_query;

static bool list_label(http_request *request, const char *text, list_query *query)
{
    if (strlen(text) >= sizeof query->label)
        return http_refuse_parameter(request, "label", "label is too long");
    memcpy(query->label, text, strlen(text) + 1);
    char *equals = strchr(query->label, '=');
    if (equals == NULL)
        return http_refuse_parameter(request, "label", "label must be KEY=VALUE");
    *equals = '\0';
    if (!name_is_label_key(query->label) || !name_is_label_value(equals + 1))
        return http_refuse_parameter(request, "label",
                                     "label must be KEY=VALUE with a valid key and value");
    query->filter.label_key = query->label;
    query->filter.label_value = equals + 1;
    return true;
}

static bool list_parse(http_request *request, list_query *query)
{
    const char *state = http_query(request, "state");
    const char *label = http_query(request, "label");
    const char *after = http_query(request, "after");
    const char *method = http_query(request, "method");
    query->limit = LIMIT_PAGE_DEFAULT;
    if (!http_query_number(request, "limit", 1, LIMIT_PAGE, &query->limit))
        return false;
    if (state != NULL) {
        if (!job_state_parse(state, &query->state))
            return http_refuse_parameter(
                request, "state", "state must be queued, running, succeeded, failed or cancelled");
        query->filter.state = &query->state;
    }
    if (method != NULL) {
        if (!name_is_label_key(method))
            return http_refuse_parameter(request, "method", "method must be the name of one");
        query->filter.method = method;
    }
    if (after != NULL) {
        if (!id_is_valid(after))
            return http_refuse_parameter(request, "after", "after must be the next of a page");
        query->filter.before_id = after;
    }
    return label == NULL || list_label(request, label, query);
}

void api_jobs_list(void *context, http_request *request)
{
    api *self = context;
    list_query query = {0};
    didi_error error = {0};
    store_job *rows = NULL;
    size_t count = 0;
    bool more = false;
    if (!list_parse(request, &query))
        return;
    if (store_job_list(self->records, &query.filter, (size_t)query.limit, &rows, &count, &more,
                       &error) != DIDI_OK) {
        http_reply_error(request, problem_from_status(error.status), &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, api_job_row_json(self, &rows[i]));
    http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].id : NULL));
    store_jobs_free(rows, count);
}

void api_jobs_get(void *context, http_request *request)
{
    api *self = context;
    store_job job;
    uint64_t moment = 0;
    if (api_job_cache_reply(self->job_cache, http_path_part(request, 0), request, &moment) ||
        !api_find_job(self, request, &job))
        return;
    const bool has_result = job.state == JOB_SUCCEEDED && !job.survey;
    json_t *result = has_result ? api_figures_get(self->figures, self->jobs, job.id) : NULL;
    /* No change of the job announces that a queued one waits, or that nobody waits any more. */
    /* And what is left to its end shrinks without any change. */
    const bool lasts = job.ends_ms == 0 && job.state != JOB_QUEUED &&
                       !scheduler_waits_for_disk(self->jobs) && (!has_result || result != NULL);
    json_t *value = api_job_shown(self, &job, result);
    char *text = value != NULL ? document_render(value) : NULL;
    json_decref(value);
    if (text != NULL && lasts)
        api_job_cache_put(self->job_cache, job.id, moment, text);
    http_reply_text(request, 200, "application/json", text);
    store_job_clear(&job);
}

/* Does `verb` to the job of the path. False: a reply was made. */
static bool jobs_do(api *self, http_request *request,
                    int (*verb)(scheduler *jobs, const char *id, didi_error *error))
{
    didi_error error = {0};
    int status = verb(self->jobs, http_path_part(request, 0), &error);
    if (status != DIDI_OK)
        api_reply_job_error(request, &error);
    return status == DIDI_OK;
}

void api_jobs_cancel(void *context, http_request *request)
{
    if (jobs_do(context, request, scheduler_job_cancel))
        api_jobs_get(context, request);
}

void api_jobs_retry(void *context, http_request *request)
{
    if (jobs_do(context, request, scheduler_job_retry))
        api_jobs_get(context, request);
}

void api_jobs_delete(void *context, http_request *request)
{
    if (jobs_do(context, request, scheduler_job_delete))
        http_reply_empty(request, 204);
}
