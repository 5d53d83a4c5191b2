/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of JSON and lookups that several resources need. */
#include "daemon/api/api_internal.h"
#include "daemon/base/base.h"

#include <string.h>

json_t *api_time(int64_t milliseconds)
{
    char text[CLOCK_TEXT_BYTES];
    if (milliseconds == 0)
        return json_null();
    clock_format(milliseconds, text);
    return json_string(text);
}

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
    json_t *wanted = json_loads(job->specification, 0, NULL);
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

json_t *api_job_json(const store_job *job, json_t *result)
{
    json_t *wanted = json_loads(job->specification, 0, NULL);
    json_t *labels = json_loads(job->labels, 0, NULL);
    json_t *value =
        json_pack("{s:s, s:s, s:s, s:s?, s:f, s:i, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:I, "
                  "s:b, s:I, s:o}",
                  "id", job->id, "name", job->name, "state", job_state_name(job->state), "stage",
                  job->stage[0] == '\0' ? NULL : job->stage, "progress", job->progress, "attempt",
                  (int)job->attempt, "cancel_requested", job->cancel_requested, "priority",
                  job->priority, "labels", labels, "created_at", api_time(job->created_ms),
                  "updated_at", api_time(job->updated_ms), "started_at", api_time(job->started_ms),
                  "finished_at", api_time(job->finished_ms), "error",
                  api_failure(job->error_status, job->error_message, job->error_subject),
                  "last_event", (json_int_t)job->event_count, "reusable",
                  job->state == JOB_SUCCEEDED && job->kept_bytes > 0, "kept_bytes",
                  (json_int_t)job->kept_bytes, "specification", wanted);
    if (value == NULL)
        json_decref(result);
    else if (result != NULL)
        json_object_set_new(value, "result", result);
    return value;
}
