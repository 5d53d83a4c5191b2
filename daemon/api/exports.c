/* SPDX-License-Identifier: Apache-2.0 */
/* Exports of tasks: asking for them and seeing how they stand. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The file to begin with: the only one with weights, or the index of several. */
static json_t *export_artifact(api *self, const store_export *row, export_format format)
{
    struct stat found;
    didi_error error = {0};
    int fd = -1;
    char name[LIMIT_TASK_NAME_BYTES + 64];
    if (row->state != EXPORT_SUCCEEDED)
        return json_null();
    if (format != EXPORT_FORMAT_FULL)
        return json_sprintf("%s/%s/%s", export_format_folder(format), row->task,
                            export_format_files(format)[0]);
    snprintf(name, sizeof name, "models/%s/model.safetensors.index.json", row->task);
    bool sharded =
        scheduler_open_files(self->jobs, row->job_id, "exports", &fd, &error) == DIDI_OK &&
        fstatat(fd, name, &found, AT_SYMLINK_NOFOLLOW) == 0;
    file_close(fd);
    return sharded ? json_string(name) : json_sprintf("models/%s/model.safetensors", row->task);
}

static json_t *export_json(api *self, const store_export *row)
{
    bool done = row->state == EXPORT_SUCCEEDED;
    export_format format = export_format_find(row->format);
    if (format == EXPORT_FORMAT_COUNT)
        return NULL;
    json_t *artifact = export_artifact(self, row, format);
    json_t *max_rank = row->max_rank > 0 ? json_integer((json_int_t)row->max_rank) : json_null();
    return json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "task", row->task, "format",
                     row->format, "max_rank", max_rank, "state", export_state_name(row->state),
                     "artifact", artifact, "bytes",
                     done ? json_integer((json_int_t)row->bytes) : json_null(), "error",
                     api_failure(row->error_status, row->error_message, NULL), "created_at",
                     clock_json(row->created_ms), "finished_at", clock_json(row->finished_ms));
}

/* `asked` NULL: all are. */
static bool export_is_asked(const export_request *asked, const store_export *row)
{
    if (asked == NULL)
        return true;
    if (strcmp(row->format, export_format_name((export_format)asked->format)) != 0)
        return false;
    for (size_t i = 0; i < asked->tasks.count; i++)
        if (strcmp(asked->tasks.texts[i], row->task) == 0)
            return true;
    return asked->tasks.count == 0;
}

static void exports_reply(api *self, http_request *request, const char *job_id,
                          const export_request *asked, int status)
{
    didi_error error = {0};
    store_export *rows = NULL;
    size_t count = 0;
    if (store_export_list(self->records, job_id, &rows, &count, &error) != DIDI_OK) {
        api_reply_job_error(request, &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        if (export_is_asked(asked, &rows[i]))
            json_array_append_new(data, export_json(self, &rows[i]));
    http_reply_json(request, status, api_page(data, false, NULL));
    store_exports_free(rows, count);
}

void api_exports_list(void *context, http_request *request)
{
    api *self = context;
    store_job job;
    if (!api_find_job(self, request, &job))
        return;
    exports_reply(self, request, job.id, NULL, 200);
    store_job_clear(&job);
}

static bool exports_parse(http_request *request, export_request *ret_asked)
{
    didi_error error = {0};
    size_t bytes;
    const char *body = http_body(request, &bytes);
    if (export_request_parse(body, bytes, bytes, ret_asked, &error) == DIDI_OK)
        return true;
    http_reply_error(request,
                     error.status == DIDI_FORMAT    ? PROBLEM_MALFORMED_JSON
                     : error.status == DIDI_INVALID ? PROBLEM_INVALID_REQUEST
                                                    : problem_from_status(error.status),
                     &error);
    return false;
}

static bool exports_has_task(const json_t *tasks, const char *name)
{
    for (size_t i = 0; i < json_array_size(tasks); i++)
        if (strcmp(json_string_value(json_array_get(tasks, i)), name) == 0)
            return true;
    return false;
}

/* Every task asked for must be one of the job's. False: a reply was made. */
static bool exports_check(http_request *request, const export_request *asked, const json_t *tasks)
{
    char pointer[64];
    char detail[200];
    for (size_t i = 0; i < asked->tasks.count; i++) {
        if (!exports_has_task(tasks, asked->tasks.texts[i])) {
            snprintf(pointer, sizeof pointer, "/tasks/%zu", i);
            snprintf(detail, sizeof detail, "\"%s\" is not among the tasks", asked->tasks.texts[i]);
            http_reply_problem(request, &(http_problem){.type = PROBLEM_UNKNOWN_TASK,
                                                        .detail = detail,
                                                        .pointer = pointer});
            return false;
        }
    }
    return true;
}

static void exports_start(api *self, http_request *request, const store_job *job,
                          const export_request *asked, const json_t *tasks)
{
    size_t count = asked->tasks.count == 0 ? json_array_size(tasks) : asked->tasks.count;
    const char **names = calloc(count + 1, sizeof *names);
    const export_kind kind = {(export_format)asked->format, (uint64_t)asked->max_rank};
    didi_error error = {0};
    char location[64];
    if (names == NULL) {
        didi_fail(&error, DIDI_NO_MEMORY, NULL, "no memory for %zu tasks", count);
        api_reply_job_error(request, &error);
        return;
    }
    for (size_t i = 0; i < count; i++)
        names[i] = asked->tasks.count == 0 ? json_string_value(json_array_get(tasks, i))
                                           : asked->tasks.texts[i];
    int status = scheduler_export_request(self->jobs, job->id, kind, names, count, &error);
    free(names);
    if (status != DIDI_OK) {
        api_reply_job_error(request, &error);
        return;
    }
    snprintf(location, sizeof location, "/v1/jobs/%s/exports", job->id);
    http_reply_header(request, "Location", location);
    exports_reply(self, request, job->id, asked, 202);
}

void api_exports_create(void *context, http_request *request)
{
    api *self = context;
    export_request asked = {0};
    store_job job;
    if (!exports_parse(request, &asked))
        return;
    if (api_find_job(self, request, &job)) {
        json_t *tasks = api_job_tasks(&job);
        if (job.state != JOB_SUCCEEDED || job.survey) {
            http_reply_problem(
                request,
                &(http_problem){.type = PROBLEM_NO_RESULT,
                                .detail = job.survey ? "a survey has nothing to export; submit a "
                                                       "job with it as from_job first"
                                                     : "only a succeeded job can be exported"});
        } else if (exports_check(request, &asked, tasks)) {
            exports_start(self, request, &job, &asked, tasks);
        }
        json_decref(tasks);
        store_job_clear(&job);
    }
    export_request_clear(&asked);
}
