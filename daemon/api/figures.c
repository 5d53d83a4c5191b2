/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of a job: ranks, frontier and similarity. The manifest has them; what is known of a job
 * before it has one lies in its work directory. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"
#include "src/base/base.h"
#include "src/didi.h"

#include <stdio.h>
#include <stdlib.h>

enum { OUTLOOK_BYTES_MAX = 256 << 20 };

/* Errors: DIDI_NOT_FOUND (not known yet, or not any more), DIDI_IO, DIDI_FORMAT, DIDI_NO_MEMORY. */
static int outlook_read(api *self, const char *job_id, json_t **ret_outlook, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    int work_fd = -1;
    bool refused = false;
    int status = scheduler_open_files(self->jobs, job_id, "work", &work_fd, error);
    if (status == DIDI_OK)
        status =
            file_read_text(work_fd, DIDI_OUTLOOK_FILE, OUTLOOK_BYTES_MAX, &text, &bytes, error);
    file_close(work_fd);
    json_t *found = status == DIDI_OK ? json_load(text, bytes, 0, NULL, &refused) : NULL;
    free(text);
    if (status == DIDI_OK && refused)
        return didi_fail(error, DIDI_NO_MEMORY, DIDI_OUTLOOK_FILE, "no memory for figures");
    if (status == DIDI_OK && found == NULL)
        return didi_fail(error, DIDI_FORMAT, DIDI_OUTLOOK_FILE, "it is damaged");
    *ret_outlook = found;
    return status;
}

static void reply_none(http_request *request, const char *member, const char *detail)
{
    http_reply_problem(
        request, &(http_problem){.type = PROBLEM_NO_RESULT, .detail = detail, .subject = member});
}

/* `figures` is taken; `lack` is said where they have none of these. */
static void reply_member(http_request *request, const char *member, json_t *figures,
                         const char *lack)
{
    json_t *value = json_incref(json_object_get(figures, member));
    if (value != NULL && !json_is_null(value)) {
        http_reply_json(request, 200, value);
    } else {
        json_decref(value);
        reply_none(request, member,
                   json_is_true(json_object_get(figures, "survey"))
                       ? "a survey ends before there are such figures"
                       : lack);
    }
    json_decref(figures);
}

static void reply_of_manifest(api *self, http_request *request, const char *job_id,
                              const char *member)
{
    didi_error error = {0};
    json_t *manifest = NULL;
    int status = api_manifest_read(self->jobs, job_id, &manifest, &error);
    if (status == DIDI_OK)
        reply_member(request, member, manifest, "the method of this job gives no such figures");
    else
        http_reply_error(request, status == DIDI_NOT_FOUND ? PROBLEM_UNKNOWN_ARTIFACT : PROBLEM_IO,
                         &error);
}

void api_ranks_get(void *context, http_request *request)
{
    api *self = context;
    store_job job;
    if (!api_find_succeeded(self, request, &job))
        return;
    reply_of_manifest(self, request, job.id, "ranks");
    store_job_clear(&job);
}

/* True: a reply was made. */
static bool reply_early(api *self, http_request *request, const char *job_id, const char *member)
{
    didi_error error = {0};
    json_t *outlook = NULL;
    int status = outlook_read(self, job_id, &outlook, &error);
    if (status == DIDI_OK)
        reply_member(request, member, outlook, "this is known when the job has succeeded");
    else if (status != DIDI_NOT_FOUND)
        http_reply_error(request, status == DIDI_NO_MEMORY ? PROBLEM_OUT_OF_MEMORY : PROBLEM_IO,
                         &error);
    return status != DIDI_NOT_FOUND;
}

/* True: a reply was made, of a result that is published and not recorded yet. */
static bool reply_published(api *self, http_request *request, const char *job_id,
                            const char *member)
{
    json_t *manifest = NULL;
    if (api_manifest_read(self->jobs, job_id, &manifest, NULL) != DIDI_OK)
        return false;
    reply_member(request, member, manifest, "the method of this job gives no such figures");
    return true;
}

/* Of a job that ends meanwhile, the manifest is there when the outlook is gone. */
static void early_member(api *self, http_request *request, const char *member)
{
    char detail[128];
    store_job job;
    bool answered = false;
    for (int look = 0; look < 2 && !answered; look++) {
        if (!api_find_job(self, request, &job))
            return;
        answered = job.state != JOB_SUCCEEDED && reply_early(self, request, job.id, member);
        if (!answered && job.state == JOB_SUCCEEDED) {
            reply_of_manifest(self, request, job.id, member);
            answered = true;
        } else if (!answered && job.state == JOB_RUNNING) {
            answered = reply_published(self, request, job.id, member);
        }
        (void)snprintf(detail, sizeof detail, "the job is %s, and this is not known yet",
                       job_state_name(job.state));
        store_job_clear(&job);
    }
    if (!answered)
        reply_none(request, member, detail);
}

void api_frontier_get(void *context, http_request *request)
{
    early_member(context, request, "frontier");
}

void api_similarity_get(void *context, http_request *request)
{
    early_member(context, request, "similarity");
}
