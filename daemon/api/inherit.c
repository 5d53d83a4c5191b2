/* SPDX-License-Identifier: Apache-2.0 */
/* What a new job takes over from another: the inputs of the one whose spectra it starts from, or
 * all of the one it extends. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"

#include <stdio.h>
#include <string.h>

static int reuse_refuse(didi_error *error, const char *id, const char *why)
{
    return didi_fail(error, DIDI_NOT_FOUND, "/from_job",
                     "job %.64s %s; leave from_job out to merge afresh", id, why);
}

static int reuse_check(const store_job *job, didi_error *error)
{
    char why[160];
    if (job->state != JOB_SUCCEEDED) {
        snprintf(why, sizeof why, "is %s, and only a succeeded one can be started from",
                 job_state_name(job->state));
        return reuse_refuse(error, job->id, why);
    }
    return job->kept_bytes > 0
               ? DIDI_OK
               : reuse_refuse(error, job->id, "keeps nothing to start from (reusable is false)");
}

/* Base and tasks of the job it starts from become its own. */
static int reuse_inherit(api *self, specification *wanted, didi_error *error)
{
    store_job job = {0};
    specification *parent = NULL;
    int status = store_job_get(self->records, wanted->from_job, &job, error);
    if (status == DIDI_NOT_FOUND)
        return reuse_refuse(error, wanted->from_job, "does not exist");
    if (status != DIDI_OK)
        return status;
    status = reuse_check(&job, error);
    if (status == DIDI_OK) {
        size_t bytes = strlen(job.specification);
        status = specification_parse(job.specification, bytes, bytes, &parent, error);
    }
    if (status == DIDI_OK)
        status = specification_inherit(wanted, parent, error);
    specification_free(parent);
    store_job_clear(&job);
    return status;
}

int api_inherit_read(api *self, json_t *body, specification **ret_specification, didi_error *error)
{
    specification *wanted = NULL;
    int status = specification_read(body, 0, &wanted, error);
    if (status == DIDI_OK && wanted->from_job != NULL)
        status = reuse_inherit(self, wanted, error);
    if (status != DIDI_OK)
        specification_free(wanted);
    else
        *ret_specification = wanted;
    return status;
}

/* The job must have succeeded: else DIDI_INVALID at `/extend/job`. */
static int extend_check(api *self, const char *id, didi_error *error)
{
    store_job job = {0};
    int status = store_job_get(self->records, id, &job, error);
    if (status == DIDI_NOT_FOUND)
        return didi_fail(error, DIDI_INVALID, "/extend/job",
                         "no job has the id '%.64s'; give that of a succeeded one", id);
    if (status == DIDI_OK && job.state != JOB_SUCCEEDED)
        status = didi_fail(error, DIDI_INVALID, "/extend/job",
                           "job %s is %s; only a succeeded job can be extended", id,
                           job_state_name(job.state));
    store_job_clear(&job);
    return status;
}

int api_inherit_extend(api *self, json_t *request, specification **ret_specification,
                       didi_error *error)
{
    const char *id = NULL;
    json_t *manifest = NULL;
    int status = extension_request_job(request, &id, error);
    if (status == DIDI_OK)
        status = extend_check(self, id, error);
    if (status == DIDI_OK && api_manifest_read(self->jobs, id, &manifest, error) != DIDI_OK)
        status = didi_fail(error, DIDI_INVALID, "/extend/job",
                           "the manifest of job %s cannot be read: %s", id, error->message);
    if (status == DIDI_OK)
        status = extension_request_resolve(request, manifest, ret_specification, error);
    json_decref(manifest);
    return status;
}
