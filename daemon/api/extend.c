/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to extend a finished job. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"

/* The job must have succeeded: else DIDI_INVALID at `/extend/job`. */
static int extend_check_job(api *self, const char *id, didi_error *error)
{
    store_job job = {0};
    didi_error missing = {0};
    int status =
        id_is_valid(id) ? store_job_get(self->records, id, &job, &missing) : DIDI_NOT_FOUND;
    if (status == DIDI_NOT_FOUND) {
        return didi_fail(error, DIDI_INVALID, "/extend/job",
                         "no job has the id '%.64s'; give that of a succeeded one", id);
    }
    if (status != DIDI_OK)
        return didi_fail(error, status, missing.subject, "%s", missing.message);
    if (job.state != JOB_SUCCEEDED) {
        status = didi_fail(error, DIDI_INVALID, "/extend/job",
                           "job %s is %s; only a succeeded job can be extended", id,
                           job_state_name(job.state));
    }
    store_job_clear(&job);
    return status;
}

int api_extend_resolve(api *self, json_t *request, specification **ret_specification,
                       didi_error *error)
{
    const char *id = NULL;
    json_t *manifest = NULL;
    didi_error reading = {0};
    int status = extension_request_job(request, &id, error);
    if (status == DIDI_OK)
        status = extend_check_job(self, id, error);
    if (status == DIDI_OK && api_manifest_read(self->jobs, id, &manifest, &reading) != DIDI_OK)
        status = didi_fail(error, DIDI_INVALID, "/extend/job",
                           "the manifest of job %s cannot be read: %s", id, reading.message);
    if (status == DIDI_OK)
        status = extension_request_resolve(request, manifest, ret_specification, error);
    json_decref(manifest);
    return status;
}
