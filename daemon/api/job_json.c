/* SPDX-License-Identifier: Apache-2.0 */
/* A job as the wire has it. */
#include "daemon/api/api_internal.h"

json_t *api_job_json(const store_job *job, json_t *result)
{
    json_t *wanted = json_loads(job->specification, 0, NULL);
    json_t *labels = json_loads(job->labels, 0, NULL);
    json_t *value =
        json_pack("{s:s, s:s, s:s, s:o, s:f, s:i, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:I, "
                  "s:b, s:I, s:o}",
                  "id", job->id, "name", job->name, "state", job_state_name(job->state), "stage",
                  api_text(job->stage[0] == '\0' ? NULL : job->stage), "progress", job->progress,
                  "attempt", (int)job->attempt, "cancel_requested", job->cancel_requested,
                  "priority", job->priority, "labels", labels, "created_at",
                  api_time(job->created_ms), "updated_at", api_time(job->updated_ms), "started_at",
                  api_time(job->started_ms), "finished_at", api_time(job->finished_ms), "error",
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
