/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a succeeded job: the list, and the bytes. */
#include "daemon/api/artifacts.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARTIFACT_NAME_BYTES = 2 * LIMIT_TASK_NAME_BYTES + 128, EXPORT_AFFIX_BYTES = 64 };

const char *api_artifact_media_type(const char *name)
{
    static const char *const types[][2] = {{".json", "application/json"},
                                           {".md", "text/markdown"},
                                           {".txt", "text/plain"},
                                           {".jinja", "text/plain"}};
    const char *end = strrchr(name, '.');
    for (size_t i = 0; end != NULL && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(end, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

/* True for `before` TASK `after` with a task's name between. */
static bool artifact_is(const char *name, const char *before, const char *after)
{
    char task[LIMIT_TASK_NAME_BYTES + 1];
    size_t length = strlen(name);
    size_t fixed = strlen(before) + strlen(after);
    if (length <= fixed || length - fixed > LIMIT_TASK_NAME_BYTES ||
        strncmp(name, before, strlen(before)) != 0 ||
        strcmp(name + length - strlen(after), after) != 0)
        return false;
    memcpy(task, name + strlen(before), length - fixed);
    task[length - fixed] = '\0';
    return name_is_task(task);
}

/* True for models/TASK/FILE; a file's name is of the characters of a task's. */
static bool artifact_is_of_model(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash != NULL && name_is_task(slash + 1) && artifact_is(name, "models/", slash);
}

/* "models/" before a task's name, and "/model.safetensors" behind. */
static void export_affixes(export_format format, const char *file,
                           char ret_before[EXPORT_AFFIX_BYTES], char ret_after[EXPORT_AFFIX_BYTES])
{
    snprintf(ret_before, EXPORT_AFFIX_BYTES, "%s/", export_format_folder(format));
    snprintf(ret_after, EXPORT_AFFIX_BYTES, "/%s", file);
}

static bool artifact_is_exported(const char *name)
{
    char before[EXPORT_AFFIX_BYTES];
    char after[EXPORT_AFFIX_BYTES];
    if (artifact_is_of_model(name))
        return true;
    for (int format = EXPORT_FORMAT_FULL + 1; format < EXPORT_FORMAT_COUNT; format++)
        for (const char *const *file = export_format_files((export_format)format); *file != NULL;
             file++) {
            export_affixes((export_format)format, *file, before, after);
            if (artifact_is(name, before, after))
                return true;
        }
    return false;
}

/* Opens an artifact by its public name. Errors: DIDI_NOT_FOUND, DIDI_IO. */
static int artifact_open(api *self, const char *job_id, const char *name, int *ret_fd,
                         struct stat *ret_status, didi_error *error)
{
    bool exported = artifact_is_exported(name);
    int directory = -1;
    int fd;
    if (!exported && strcmp(name, "manifest.json") != 0 &&
        strcmp(name, "shared.safetensors") != 0 && !artifact_is(name, "experts/", ".safetensors"))
        return didi_fail(error, DIDI_NOT_FOUND, name, "no artifact has the name \"%.200s\"", name);
    int status = scheduler_open_files(self->jobs, job_id, exported ? "exports" : "artifacts",
                                      &directory, error);
    if (status != DIDI_OK)
        return status;
    fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int reason = errno;
    close(directory);
    if (fd < 0)
        return didi_fail_errno(error, reason, name, "cannot open the artifact %s", name);
    if (fstat(fd, ret_status) != 0 || !S_ISREG(ret_status->st_mode)) {
        close(fd);
        return didi_fail(error, DIDI_NOT_FOUND, name, "%s is not a file", name);
    }
    *ret_fd = fd;
    return DIDI_OK;
}

bool api_find_succeeded(api *self, http_request *request, store_job *ret_job)
{
    char detail[128];
    if (!api_find_job(self, request, ret_job))
        return false;
    if (ret_job->state == JOB_SUCCEEDED)
        return true;
    snprintf(detail, sizeof detail, "the job is %s", job_state_name(ret_job->state));
    http_reply_problem(request, &(http_problem){.type = PROBLEM_NO_RESULT, .detail = detail});
    store_job_clear(ret_job);
    return false;
}

static const char *artifact_name(const json_t *list, size_t index)
{
    return json_string_value(json_object_get(json_array_get(list, index), "name"));
}

/* Artifacts of one job, for a list. */
typedef struct artifact_list {
    api *self;
    const char *job_id, *task; /* the task of a model, while its files are added */
    json_t *rows;
    deposit *record; /* NULL: nothing is at S3 */
} artifact_list;

static void artifact_insert(const artifact_list *all, const char *name, uint64_t bytes,
                            const char *hex)
{
    char etag[API_ETAG_BYTES];
    size_t place = json_array_size(all->rows);
    api_digest_etag(hex, etag);
    while (place > 0 && strcmp(name, artifact_name(all->rows, place - 1)) < 0)
        place--;
    json_t *href = json_sprintf("/v1/jobs/%s/artifacts/%s", all->job_id, name);
    json_array_insert_new(all->rows, place,
                          json_pack("{s:s, s:I, s:s, s:s, s:s, s:o}", "name", name, "bytes",
                                    (json_int_t)bytes, "sha256", hex, "etag", etag, "media_type",
                                    api_artifact_media_type(name), "href", href));
}

/* Adds a file at its place by name, if it is there. Errors: DIDI_IO. */
static int artifact_add(const artifact_list *all, const char *name, didi_error *error)
{
    char hex[API_DIGEST_BYTES] = "";
    struct stat found = {0};
    int fd = -1;
    const deposit_file *file = all->record != NULL ? deposit_find(all->record, name) : NULL;
    if (file != NULL) {
        artifact_insert(all, name, file->bytes, file->sha256);
        return DIDI_OK;
    }
    int status = artifact_open(all->self, all->job_id, name, &fd, &found, error);
    if (status != DIDI_OK)
        return status == DIDI_NOT_FOUND ? DIDI_OK : status;
    status = api_digests_of_file(all->self->digests, fd, &found, hex, error);
    close(fd);
    if (status == DIDI_OK)
        artifact_insert(all, name, (uint64_t)found.st_size, hex);
    return status;
}

static int artifact_add_tasks(const artifact_list *all, const json_t *tasks, const char *before,
                              const char *after, didi_error *error)
{
    char name[ARTIFACT_NAME_BYTES];
    int status = DIDI_OK;
    for (size_t i = 0; status == DIDI_OK && i < json_array_size(tasks); i++) {
        snprintf(name, sizeof name, "%s%s%s", before, json_string_value(json_array_get(tasks, i)),
                 after);
        status = artifact_add(all, name, error);
    }
    return status;
}

static int artifact_add_file(void *context, const char *file, didi_error *error)
{
    const artifact_list *all = context;
    char name[ARTIFACT_NAME_BYTES];
    if (!name_is_task(file))
        return DIDI_OK;
    snprintf(name, sizeof name, "models/%s/%s", all->task, file);
    return artifact_add(all, name, error);
}

static int artifact_add_models(artifact_list *all, const json_t *tasks, didi_error *error)
{
    int exports = -1;
    char name[ARTIFACT_NAME_BYTES];
    int status = scheduler_open_files(all->self->jobs, all->job_id, "exports", &exports, error);
    if (status != DIDI_OK)
        return status == DIDI_NOT_FOUND ? DIDI_OK : status;
    for (size_t i = 0; status == DIDI_OK && i < json_array_size(tasks); i++) {
        int fd = -1;
        all->task = json_string_value(json_array_get(tasks, i));
        snprintf(name, sizeof name, "models/%s", all->task);
        status = file_open_directory(exports, name, 0, &fd, error);
        if (status == DIDI_OK)
            status = file_each_entry(fd, artifact_add_file, all, error);
        status = status == DIDI_NOT_FOUND ? DIDI_OK : status;
        file_close(fd);
    }
    file_close(exports);
    return status;
}

static int artifact_add_adapters(const artifact_list *all, const json_t *tasks, didi_error *error)
{
    char before[EXPORT_AFFIX_BYTES];
    char after[EXPORT_AFFIX_BYTES];
    int status = DIDI_OK;
    for (int format = EXPORT_FORMAT_FULL + 1; format < EXPORT_FORMAT_COUNT; format++)
        for (const char *const *file = export_format_files((export_format)format);
             *file != NULL && status == DIDI_OK; file++) {
            export_affixes((export_format)format, *file, before, after);
            status = artifact_add_tasks(all, tasks, before, after, error);
        }
    return status;
}

void api_artifacts_list(void *context, http_request *request)
{
    artifact_list all = {.self = context};
    didi_error error = {0};
    store_job job;
    int job_fd = -1;
    if (!api_find_succeeded(all.self, request, &job))
        return;
    all.job_id = job.id;
    all.rows = json_array();
    json_t *tasks = api_job_tasks(&job);
    int status = scheduler_open_deposit(all.self->jobs, job.id, &all.record, &job_fd, &error);
    file_close(job_fd);
    if (status == DIDI_OK || status == DIDI_NOT_FOUND)
        status = artifact_add_tasks(&all, tasks, "experts/", ".safetensors", &error);
    if (status == DIDI_OK)
        status = artifact_add(&all, "manifest.json", &error);
    if (status == DIDI_OK)
        status = artifact_add_models(&all, tasks, &error);
    if (status == DIDI_OK)
        status = artifact_add_adapters(&all, tasks, &error);
    if (status == DIDI_OK)
        status = artifact_add(&all, "shared.safetensors", &error);
    if (status == DIDI_OK) {
        http_reply_json(request, 200, api_page(all.rows, false, NULL));
    } else {
        json_decref(all.rows);
        http_reply_error(request, problem_from_status(status), &error);
    }
    json_decref(tasks);
    deposit_free(all.record);
    store_job_clear(&job);
}

bool api_artifact_asked(http_request *request, uint64_t bytes, const char *hex,
                        api_range *ret_range)
{
    char etag[API_ETAG_BYTES];
    char digest[FILE_REPR_DIGEST_BYTES];
    char range[96];
    const char *if_match = http_header(request, "If-Match");
    const char *if_none_match = http_header(request, "If-None-Match");
    uint64_t first = 0;
    uint64_t last = 0;
    api_digest_etag(hex, etag);
    file_repr_digest(hex, digest);
    http_reply_header(request, "ETag", etag);
    if (if_match != NULL && !http_etag_in_list(if_match, etag, false)) {
        http_reply_problem(request, &(http_problem){.type = PROBLEM_PRECONDITION_FAILED,
                                                    .detail = "If-Match does not name this file",
                                                    .parameter = "If-Match"});
        return false;
    }
    if (if_none_match != NULL && http_etag_in_list(if_none_match, etag, true)) {
        http_reply_empty(request, 304);
        return false;
    }
    http_range_kind kind = HTTP_RANGE_WHOLE;
    if (http_etag_allows_range(http_header(request, "If-Range"), etag))
        kind = http_range_parse(http_header(request, "Range"), bytes, &first, &last);
    if (kind == HTTP_RANGE_UNSATISFIABLE) {
        snprintf(range, sizeof range, "bytes */%llu", (unsigned long long)bytes);
        http_reply_header(request, "Content-Range", range);
        http_reply_problem(request, &(http_problem){.type = PROBLEM_RANGE_NOT_SATISFIABLE,
                                                    .detail = "no byte of the range is there",
                                                    .parameter = "Range"});
        return false;
    }
    http_reply_header(request, "Repr-Digest", digest);
    http_reply_header(request, "Accept-Ranges", "bytes");
    if (kind == HTTP_RANGE_WHOLE) {
        *ret_range = (api_range){.status = 200, .first = 0, .bytes = bytes};
        return true;
    }
    snprintf(range, sizeof range, "bytes %llu-%llu/%llu", (unsigned long long)first,
             (unsigned long long)last, (unsigned long long)bytes);
    http_reply_header(request, "Content-Range", range);
    *ret_range = (api_range){.status = 206, .first = first, .bytes = last - first + 1};
    return true;
}

/* Answers from an open file, which it takes. */
static void artifact_send(http_request *request, const char *name, int fd, uint64_t bytes,
                          const char *hex)
{
    api_range range;
    if (api_artifact_asked(request, bytes, hex, &range))
        http_reply_file(request, range.status, api_artifact_media_type(name), fd, range.first,
                        range.bytes);
    else
        close(fd);
}

/* The weights of a task whose model was not exported. False: that is not what `name` says. */
static bool artifact_stream(api *self, http_request *request, const store_job *job,
                            const char *name)
{
    static const char before[] = "models/";
    static const char after[] = "/model.safetensors";
    char task[LIMIT_TASK_NAME_BYTES + 1] = "";
    bool known = false;
    if (!artifact_is(name, before, after))
        return false;
    memcpy(task, name + strlen(before), strlen(name) - strlen(before) - strlen(after));
    json_t *tasks = api_job_tasks(job);
    for (size_t i = 0; i < json_array_size(tasks); i++)
        known |= strcmp(task, json_string_value(json_array_get(tasks, i))) == 0;
    json_decref(tasks);
    if (known && job->survey)
        http_reply_problem(request, &(http_problem){.type = PROBLEM_NO_RESULT,
                                                    .detail = "a survey has no models; submit a "
                                                              "job with it as from_job first"});
    else if (known)
        api_stream_model(self, request, job, task);
    return known;
}

void api_artifacts_get(void *context, http_request *request)
{
    api *self = context;
    const char *name = http_path_part(request, 1);
    char hex[API_DIGEST_BYTES];
    didi_error error = {0};
    struct stat found;
    store_job job;
    int fd = -1;
    const char *redirect = http_query(request, "redirect");
    if (redirect != NULL && strcmp(redirect, "true") != 0 && strcmp(redirect, "false") != 0) {
        http_refuse_parameter(request, "redirect", "redirect must be true or false");
        return;
    }
    if (!api_find_succeeded(self, request, &job))
        return;
    if (api_deposit_get(self, request, &job, name)) {
        store_job_clear(&job);
        return;
    }
    int status = artifact_open(self, job.id, name, &fd, &found, &error);
    if (status == DIDI_OK)
        status = api_digests_of_file(self->digests, fd, &found, hex, &error);
    if (status == DIDI_OK) {
        artifact_send(request, name, fd, (uint64_t)found.st_size, hex);
    } else if (status != DIDI_NOT_FOUND || !artifact_stream(self, request, &job, name)) {
        file_close(fd);
        http_reply_error(request,
                         status == DIDI_NOT_FOUND ? PROBLEM_UNKNOWN_ARTIFACT
                                                  : problem_from_status(status),
                         &error);
    }
    store_job_clear(&job);
}
