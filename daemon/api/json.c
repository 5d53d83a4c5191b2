/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of JSON and lookups that several resources need. */
#include "daemon/api/api_internal.h"
#include "daemon/base/base.h"
#include "src/base/base.h"

#include <math.h>
#include <string.h>

json_t *api_failure(const char *status_name, const char *message, const char *subject)
{
    if (status_name == NULL)
        return json_null();
    bool reuses = subject != NULL && strcmp(subject, "/from_job") == 0;
    problem type = reuses ? PROBLEM_NOT_REUSABLE : problem_from_status_name(status_name);
    return json_pack("{s:s, s:s, s:s, s:s*}", "type", problem_type(type), "title",
                     problem_title(type), "detail", message == NULL ? "" : message, "subject",
                     subject);
}

bool api_page_asked(http_request *request, bool (*is_valid)(const char *text), const char *expected,
                    const char **ret_after, size_t *ret_limit)
{
    long long limit = LIMIT_PAGE_DEFAULT;
    if (!http_query_number(request, "limit", 1, LIMIT_PAGE, &limit))
        return false;
    *ret_limit = (size_t)limit;
    *ret_after = http_query(request, "after");
    return *ret_after == NULL || is_valid(*ret_after) ||
           http_refuse_parameter(request, "after", expected);
}

json_t *api_page(json_t *data, bool has_more, const char *next)
{
    return json_pack("{s:o, s:b, s:s?}", "data", data, "has_more", has_more, "next", next);
}

void api_reply_job_error(http_request *request, const didi_error *error)
{
    problem type = error->status == DIDI_NOT_FOUND ? PROBLEM_UNKNOWN_JOB
                   : error->status == DIDI_INVALID ? PROBLEM_INVALID_REQUEST
                   : error->status == DIDI_FORMAT  ? PROBLEM_IO
                   : store_artifacts_over(error)   ? PROBLEM_ARTIFACT_LIMIT
                                                   : problem_from_status(error->status);
    http_reply_error(request, type, error);
}

bool api_find_job(api *self, http_request *request, store_job *ret_job)
{
    didi_error error = {0};
    int status = store_job_get(self->records, http_path_part(request, 0), ret_job, &error);
    if (status != DIDI_OK)
        api_reply_job_error(request, &error);
    return status == DIDI_OK;
}

json_t *api_job_tasks(const store_job *job)
{
    json_t *wanted = json_load_own(job->specification);
    json_t *names = json_array();
    json_t *task;
    size_t index;
    json_array_foreach(json_object_get(wanted, "tasks"), index, task)
    {
        json_array_append(names, json_object_get(task, "name"));
    }
    json_decref(wanted);
    return names;
}

json_t *api_eta_json(int64_t ends_ms)
{
    const double left = (double)(ends_ms - clock_now_ms()) / 1000;
    return ends_ms == 0 ? json_null() : json_real(left > 0 ? left : 0);
}

/* What lists and a job have in common; NULL when out of memory or a row is damaged. */
static json_t *job_members(const store_job *job)
{
    return json_pack(
        "{s:s, s:s, s:s, s:s?, s:f, s:i, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:I, "
        "s:b, s:I, s:b, s:s?, s:o, s:s?}",
        "id", job->id, "name", job->name, "state", job_state_name(job->state), "stage",
        job->stage[0] == '\0' ? NULL : job->stage, "progress",
        isfinite(job->progress) ? job->progress : 0.0, "attempt", (int)job->attempt,
        "cancel_requested", job->cancel_requested, "priority", job->priority, "labels",
        json_load_own(job->labels), "created_at", clock_json(job->created_ms), "updated_at",
        clock_json(job->updated_ms), "started_at", clock_json(job->started_ms), "finished_at",
        clock_json(job->finished_ms), "error",
        api_failure(job->error_status, job->error_message, job->error_subject), "last_event",
        (json_int_t)job->event_count, "reusable",
        job->state == JOB_SUCCEEDED && job->kept_bytes > 0, "kept_bytes",
        (json_int_t)job->kept_bytes, "survey", (int)job->survey, "traceparent",
        job->traceparent[0] != '\0' ? job->traceparent : NULL, "eta_seconds",
        api_eta_json(job->ends_ms), "bakeoff", job->bakeoff[0] != '\0' ? job->bakeoff : NULL);
}

json_t *api_job_json(const store_job *job, json_t *result)
{
    json_t *value = job_members(job);
    if (value != NULL &&
        json_object_set_new(value, "specification", json_load_own(job->specification)) != 0) {
        json_decref(value);
        value = NULL;
    }
    if (value == NULL)
        json_decref(result);
    else if (result != NULL)
        json_object_set_new(value, "result", result);
    return value;
}

/* Adds what an unfinished job waits for beyond its turn. */
static json_t *with_waiting(const api *self, const store_job *job, json_t *value)
{
    const bool unfinished = job->state == JOB_QUEUED || job->state == JOB_RUNNING;
    if (value != NULL && unfinished && scheduler_waits_for_disk(self->jobs))
        json_object_set_new(value, "waiting", json_string("disk"));
    return value;
}

json_t *api_job_shown(const api *self, const store_job *job, json_t *result)
{
    return with_waiting(self, job, api_job_json(job, result));
}

static json_t *result_json(const store_job *job)
{
    const store_result *result = &job->result;
    return job->state != JOB_SUCCEEDED || isnan(result->error) || isnan(result->ratio)
               ? json_null()
               : json_pack("{s:f, s:f, s:I}", "relative_error", result->error, "ratio",
                           result->ratio, "bytes", (json_int_t)result->bytes);
}

json_t *api_job_row_json(const api *self, const store_job *job)
{
    json_t *value = job_members(job);
    json_t *budget = job->budget != NULL
                         ? json_load(job->budget, strlen(job->budget), JSON_DECODE_ANY, NULL, NULL)
                         : json_null();
    json_t *more =
        json_pack("{s:s, s:s, s:I, s:o, s:s?, s:o}", "base", job->base, "method", job->method,
                  "tasks", (json_int_t)job->task_count, "budget", budget, "dtype",
                  job->dtype[0] != '\0' ? job->dtype : NULL, "result", result_json(job));
    if (value != NULL && (more == NULL || json_object_update(value, more) != 0)) {
        json_decref(value);
        value = NULL;
    }
    json_decref(more);
    return with_waiting(self, job, value);
}
