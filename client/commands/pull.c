/* SPDX-License-Identifier: Apache-2.0 */
/* pull. */
#include "client/commands/command.h"

#include "client/commands/adapter_check.h"
#include "client/commands/job.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { PULL_EXPORT_POLL_MILLISECONDS = 500 };

/* One run of the command. */
typedef struct pull {
    const command_context *context;
    char *id;
    export_format format;  /* EXPORT_FORMAT_COUNT: native */
    adapter_loader loader; /* LOADER_COUNT: nothing is checked */
    long max_rank;         /* 0: as packaged */
    json_t *artifacts;     /* those to fetch */
    int directory_fd;
    client_progress *progress;
    long parallel;
    double bytes, bytes_total;
    json_t *report;
} pull;

/* True when --task was not given, or names this task. */
static bool task_wanted(const client_arguments *arguments, const char *task, size_t bytes)
{
    const char *wanted;
    size_t count = 0;
    while ((wanted = arguments_at(arguments, OPTION_TASK, count)) != NULL) {
        if (strlen(wanted) == bytes && memcmp(wanted, task, bytes) == 0)
            return true;
        count++;
    }
    return count == 0;
}

/* The format in whose folder an artifact is; *ret_task is the rest of its name. */
static export_format format_of(const char *name, const char **ret_task)
{
    size_t length = strcspn(name, "/");
    for (int format = 0; format < EXPORT_FORMAT_COUNT; format++) {
        const char *folder = export_format_folder((export_format)format);
        if (strlen(folder) == length && strncmp(name, folder, length) == 0 && name[length] == '/') {
            *ret_task = name + length + 1;
            return (export_format)format;
        }
    }
    return EXPORT_FORMAT_COUNT;
}

/* The task whose expert an artifact is, of *ret_bytes bytes; NULL of others. */
static const char *expert_of(const char *name, size_t *ret_bytes)
{
    static const char folder[] = "experts/";
    static const char suffix[] = ".safetensors";
    const size_t bytes = strlen(name);
    const size_t around = sizeof folder - 1 + sizeof suffix - 1;
    if (bytes <= around || strncmp(name, folder, sizeof folder - 1) != 0 ||
        strcmp(name + bytes - (sizeof suffix - 1), suffix) != 0)
        return NULL;
    *ret_bytes = bytes - around;
    return name + sizeof folder - 1;
}

/* Every --task must be one of the job's, by the experts that it lists. */
static int check_tasks(const pull *self, const json_t *list, didi_error *error)
{
    const char *wanted;
    for (size_t i = 0; (wanted = arguments_at(self->context->arguments, OPTION_TASK, i)) != NULL;
         i++) {
        bool found = false;
        char meant[NEAREST_TEXT_BYTES];
        nearest near = nearest_begin(wanted);
        for (size_t j = 0; !found && j < json_array_size(list); j++) {
            char task[NEAREST_BYTES_MAX + 1];
            size_t bytes = 0;
            const char *expert = expert_of(record_text(json_array_get(list, j), "name"), &bytes);
            if (expert == NULL)
                continue;
            found = strlen(wanted) == bytes && strncmp(wanted, expert, bytes) == 0;
            snprintf(task, sizeof task, "%.*s", (int)bytes, expert);
            nearest_try(&near, task);
        }
        if (!found) {
            advice_give(self->context->advice, "didictl show JOB shows the job's tasks");
            return didi_fail(error, CLIENT_FAILURE, "--task", "the job has no task '%s'%s", wanted,
                             nearest_text(&near, "'", "'", meant));
        }
    }
    return CLIENT_OK;
}

/* Native artifacts are all but exports; with --task, those of other tasks are left out. */
static bool artifact_wanted(const pull *self, const char *name)
{
    const client_arguments *arguments = self->context->arguments;
    const char *task = NULL;
    export_format format = format_of(name, &task);
    if (format != self->format)
        return false;
    if (task != NULL)
        return task_wanted(arguments, task, strcspn(task, "/"));
    size_t bytes = 0;
    const char *expert = expert_of(name, &bytes);
    return expert == NULL || task_wanted(arguments, expert, bytes);
}

static int check_artifact(const json_t *artifact, didi_error *error)
{
    const char *name = record_text(artifact, "name");
    const char *sha256 = record_text(artifact, "sha256");
    const char *etag = record_text(artifact, "etag");
    int status = download_name_check(name, error);
    if (status != CLIENT_OK)
        return status;
    if (record_integer(artifact, "bytes") < 0 || strlen(sha256) != DOWNLOAD_SHA256_HEX ||
        strspn(sha256, "0123456789abcdef") != DOWNLOAD_SHA256_HEX) {
        return didi_fail(error, CLIENT_FAILURE, name,
                         "the server lists it without a size or a SHA-256");
    }
    for (const char *c = etag; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return didi_fail(error, CLIENT_FAILURE, name, "the server lists a malformed ETag");
    return CLIENT_OK;
}

static int list_artifacts(pull *self, didi_error *error)
{
    json_t *page = NULL;
    int status = job_read(self->context->service, self->id, "/artifacts", &page, error);
    const json_t *list = json_object_get(page, "data");
    if (status == CLIENT_OK && !json_is_array(list))
        status = didi_fail(error, CLIENT_FAILURE, NULL, "the server's artifacts are not a list");
    if (status == CLIENT_OK && self->format == EXPORT_FORMAT_COUNT)
        status = check_tasks(self, list, error);
    self->artifacts = json_array();
    for (size_t i = 0; status == CLIENT_OK && i < json_array_size(list); i++) {
        json_t *artifact = json_array_get(list, i);
        status = check_artifact(artifact, error);
        if (status == CLIENT_OK && artifact_wanted(self, record_text(artifact, "name"))) {
            self->bytes_total += (double)record_integer(artifact, "bytes");
            status = json_array_append(self->artifacts, artifact) != 0 ? client_fail_memory(error)
                                                                       : status;
        }
    }
    json_decref(page);
    if (status == CLIENT_OK && json_array_size(self->artifacts) == 0)
        status =
            didi_fail(error, CLIENT_FAILURE, NULL, "job %s has nothing of this kind", self->id);
    return status;
}

static void show(void *context, size_t files, int64_t bytes)
{
    pull *self = context;
    progress_moment moment = progress_unknown("fetching");
    self->bytes = (double)bytes;
    moment.files = (double)files;
    moment.files_total = (double)json_array_size(self->artifacts);
    moment.bytes = self->bytes;
    moment.bytes_total = self->bytes_total;
    moment.fraction = self->bytes_total > 0.0 ? self->bytes / self->bytes_total : 1.0;
    progress_show(self->progress, &moment);
}

/* What to ask for; caller frees *ret_files by free_files. */
static void free_files(download_file *files, size_t count)
{
    for (size_t i = 0; files != NULL && i < count; i++)
        free((char *)files[i].target);
    free(files);
}

static int make_files(const pull *self, download_file **ret_files, didi_error *error)
{
    const size_t count = json_array_size(self->artifacts);
    download_file *files = memory_zeroed(count, sizeof *files);
    for (size_t i = 0; files != NULL && i < count; i++) {
        const json_t *artifact = json_array_get(self->artifacts, i);
        const char *name = record_text(artifact, "name");
        files[i] = (download_file){
            .name = name,
            .target = memory_format("/v1/jobs/%s/artifacts/%s?redirect=false", self->id, name),
            .etag = record_text(artifact, "etag"),
            .sha256 = record_text(artifact, "sha256"),
            .bytes = record_integer(artifact, "bytes")};
        if (files[i].target == NULL) {
            free_files(files, count);
            files = NULL;
        }
    }
    if (files == NULL)
        return client_fail_memory(error);
    *ret_files = files;
    return CLIENT_OK;
}

static int report_files(pull *self, const download_file *files, const download_outcome *outcomes,
                        didi_error *error)
{
    static const char *const names[] = {
        [DOWNLOAD_FETCHED] = "fetched", [DOWNLOAD_RESUMED] = "resumed", [DOWNLOAD_KEPT] = "kept"};
    for (size_t i = 0; i < json_array_size(self->artifacts); i++) {
        json_t *row = json_pack("{s:s, s:I, s:s, s:s}", "name", files[i].name, "bytes",
                                (json_int_t)files[i].bytes, "sha256", files[i].sha256, "outcome",
                                names[outcomes[i]]);
        if (json_array_append_new(self->report, row) != 0)
            return client_fail_memory(error);
    }
    return CLIENT_OK;
}

static int fetch_artifacts(pull *self, didi_error *error)
{
    const size_t count = json_array_size(self->artifacts);
    download_file *files = NULL;
    download_outcome *outcomes = memory_zeroed(count, sizeof *outcomes);
    int status = outcomes == NULL ? client_fail_memory(error) : make_files(self, &files, error);
    const download_batch batch = {.files = files,
                                  .count = count,
                                  .parallel = (size_t)self->parallel,
                                  .directory_fd = self->directory_fd,
                                  .context = self,
                                  .observe = show};
    if (status == CLIENT_OK)
        status = download_all(self->context->settings, self->context->interrupt, &batch, outcomes,
                              error);
    if (status == CLIENT_OK)
        status = report_files(self, files, outcomes, error);
    free_files(files, count);
    free(outcomes);
    return status;
}

/* mkdir -p, for a path the user typed. */
static int open_directory(const char *path, int *ret_fd, didi_error *error)
{
    char *copy = memory_string(path);
    if (copy == NULL)
        return client_fail_memory(error);
    for (char *slash = copy; (slash = strchr(slash + (slash == copy ? 1 : 0), '/')) != NULL;
         slash++) {
        *slash = '\0';
        (void)mkdir(copy, 0777); /* a failure shows at the last component */
        *slash = '/';
    }
    int failed = mkdir(copy, 0777) != 0 && errno != EEXIST ? errno : 0;
    free(copy);
    int fd = failed == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0)
        return didi_fail(error, CLIENT_FAILURE, path, "this directory cannot be made or opened: %s",
                         strerror(failed != 0 ? failed : errno));
    *ret_fd = fd;
    return CLIENT_OK;
}

static int request_exports(pull *self, didi_error *error)
{
    char *target = job_target(self->id, "/exports");
    const client_arguments *arguments = self->context->arguments;
    json_t *body = json_pack("{s:s}", "format", export_format_name(self->format));
    json_t *tasks = arguments_has(arguments, OPTION_TASK) ? json_array() : NULL;
    json_t *answer = NULL;
    const char *task;
    for (size_t i = 0; (task = arguments_at(arguments, OPTION_TASK, i)) != NULL; i++)
        (void)json_array_append_new(tasks, json_string(task));
    if (self->max_rank > 0)
        (void)json_object_set_new(body, "max_rank", json_integer(self->max_rank));
    int status =
        target == NULL || body == NULL ||
                (tasks != NULL && json_object_set_new(body, "tasks", tasks) != 0)
            ? client_fail_memory(error)
            : service_send(self->context->service, "POST", target, body, NULL, &answer, error);
    free(target);
    json_decref(answer);
    json_decref(body);
    return status;
}

/* Counts the exports asked for and those done; a failed one is an error. */
static int count_exports(const pull *self, const json_t *page, size_t *ret_total, size_t *ret_done,
                         didi_error *error)
{
    const json_t *exports = json_object_get(page, "data");
    *ret_total = *ret_done = 0;
    for (size_t i = 0; i < json_array_size(exports); i++) {
        const json_t *export = json_array_get(exports, i);
        const char *task = record_text(export, "task");
        const char *state = record_text(export, "state");
        if (!task_wanted(self->context->arguments, task, strlen(task)) ||
            strcmp(record_text(export, "format"), export_format_name(self->format)) != 0)
            continue;
        if (strcmp(state, "failed") == 0) {
            const json_t *reason = json_object_get(export, "error");
            return didi_fail(error, CLIENT_JOB_FAILED, task, "its export failed: %s: %s",
                             record_text(reason, "title"), record_text(reason, "detail"));
        }
        *ret_total += 1;
        *ret_done += strcmp(state, "succeeded") == 0 ? 1 : 0;
    }
    if (*ret_total == 0)
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server lists no export of job %s",
                         self->id);
    return CLIENT_OK;
}

static int wait_for_exports(pull *self, didi_error *error)
{
    int status = request_exports(self, error);
    size_t total = 1;
    size_t done = 0;
    while (status == CLIENT_OK && done < total) {
        json_t *page = NULL;
        status = job_read(self->context->service, self->id, "/exports", &page, error);
        status = status != CLIENT_OK ? status : count_exports(self, page, &total, &done, error);
        json_decref(page);
        if (status == CLIENT_OK) {
            progress_moment moment = progress_unknown("exporting");
            moment.fraction = (double)done / (double)total;
            progress_show(self->progress, &moment);
        }
        if (status == CLIENT_OK && done < total)
            status =
                interrupt_sleep(self->context->interrupt, PULL_EXPORT_POLL_MILLISECONDS, error);
    }
    return status;
}

static int print_report(const command_context *context, const json_t *report, didi_error *error)
{
    static const table_column columns[] = {
        {"FILE", false}, {"SIZE", true}, {"", false}, {"SHA-256", false}};
    client_table *table = table_create(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(report); i++) {
        const json_t *row = json_array_get(report, i);
        char size[FORMAT_BYTES_MAX];
        table_add(table, "%s", record_text(row, "name"));
        table_add(table, "%s", format_bytes(size, record_integer(row, "bytes")));
        table_add(table, "%s", record_text(row, "outcome"));
        table_add(table, "%.16s", record_text(row, "sha256"));
    }
    return output_table(context->output, table, error);
}

/* Each adapter once: with the file that has its numbers. */
static int check_adapters(const pull *self, didi_error *error)
{
    const char *file = self->loader < LOADER_COUNT ? export_format_files(self->format)[0] : "";
    int status = CLIENT_OK;
    for (size_t i = 0; self->loader < LOADER_COUNT && i < json_array_size(self->artifacts); i++) {
        char *name = memory_string(record_text(json_array_get(self->artifacts, i), "name"));
        char *slash = name != NULL ? strrchr(name, '/') : NULL;
        char *told = NULL;
        if (name == NULL)
            status = client_fail_memory(error);
        if (slash != NULL && strcmp(slash + 1, file) == 0) {
            *slash = '\0';
            status = adapter_check(self->directory_fd, name, self->loader, &told, error);
        }
        if (told != NULL)
            output_note(self->context->output, "%s", told);
        free(told);
        free(name);
        if (status != CLIENT_OK)
            return status;
    }
    return status;
}

static int fetch_all(pull *self, const char *directory, didi_error *error)
{
    bool exported = self->format < EXPORT_FORMAT_COUNT;
    int status = exported ? wait_for_exports(self, error) : CLIENT_OK;
    status = status != CLIENT_OK ? status : list_artifacts(self, error);
    if (status == CLIENT_OK &&
        (status = open_directory(directory, &self->directory_fd, error)) != CLIENT_OK)
        advice_give(self->context->advice, "name a directory that you may write; it is made if it "
                                           "lacks");
    status = status != CLIENT_OK ? status : fetch_artifacts(self, error);
    progress_clear(self->progress);
    status = status != CLIENT_OK ? status : check_adapters(self, error);
    return command_print(self->context, status, json_incref(self->report), "name", print_report,
                         error);
}

static int read_format(pull *self, didi_error *error)
{
    const client_arguments *arguments = self->context->arguments;
    const char *format = arguments_value(arguments, OPTION_FORMAT);
    const char *loader = arguments_value(arguments, OPTION_CHECK);
    if (format != NULL && strcmp(format, "native") != 0) {
        self->format = export_format_find(format);
        if (self->format == EXPORT_FORMAT_COUNT)
            return didi_fail(error, CLIENT_USAGE, "--format",
                             "'%s' is not native, full, peft, peft-exact or router", format);
    }
    bool ranked = self->format < EXPORT_FORMAT_COUNT && self->format != EXPORT_FORMAT_FULL;
    bool adapter = ranked && self->format != EXPORT_FORMAT_ROUTER;
    const command_number rank = {OPTION_MAX_RANK, "--max-rank", 0, LIMIT_EXPORT_RANK, 0};
    const command_number beside = {OPTION_PARALLEL, "--parallel", 1, DOWNLOAD_PARALLEL_MAX,
                                   DOWNLOAD_PARALLEL_DEFAULT};
    int status = command_integer(self->context, &rank, &self->max_rank, error);
    if (status == CLIENT_OK)
        status = command_integer(self->context, &beside, &self->parallel, error);
    if (status == CLIENT_OK && loader != NULL) {
        self->loader = adapter_loader_find(loader);
        if (self->loader == LOADER_COUNT)
            status = didi_fail(error, CLIENT_USAGE, "--check", "'%s' is not peft, vllm or sglang",
                               loader);
    }
    if (status == CLIENT_OK && !adapter && loader != NULL)
        status = didi_fail(error, CLIENT_USAGE, "--check", "goes with --format peft or peft-exact");
    if (status == CLIENT_OK && !ranked && self->max_rank > 0)
        status = didi_fail(error, CLIENT_USAGE, "--max-rank",
                           "goes with --format peft, peft-exact or router");
    return status;
}

static int read_options(pull *self, didi_error *error)
{
    const char *task;
    for (size_t i = 0; (task = arguments_at(self->context->arguments, OPTION_TASK, i)) != NULL; i++)
        if (!name_is_task(task))
            return didi_fail(error, CLIENT_USAGE, "--task", "'%s' is not the name of a task", task);
    return read_format(self, error);
}

static void advise_room(const pull *self, const char *directory, const didi_error *error)
{
    struct statvfs disk;
    char wanted[FORMAT_BYTES_MAX];
    char there[FORMAT_BYTES_MAX];
    const bool full = strstr(error->message, strerror(ENOSPC)) != NULL ||
                      strstr(error->message, strerror(EDQUOT)) != NULL;
    if (!full || fstatvfs(self->directory_fd, &disk) != 0)
        return;
    const double room = (double)disk.f_bavail * (double)disk.f_frsize;
    const double missing = self->bytes_total - self->bytes;
    advice_give(
        self->context->advice,
        "make room: %s has %s left, and up to %s are to come; the same command goes on where "
        "this one stopped",
        directory, format_bytes(there, (int64_t)room), format_bytes(wanted, (int64_t)missing));
}

static int run(const command_context *context, didi_error *error)
{
    pull self = {.context = context,
                 .directory_fd = -1,
                 .format = EXPORT_FORMAT_COUNT,
                 .loader = LOADER_COUNT};
    int status = read_options(&self, error);
    if (status != CLIENT_OK)
        return status;
    self.report = json_array();
    if (!context->settings->quiet)
        self.progress = progress_create(stderr, output_animates_messages(context->output),
                                        context->settings->color);
    status = job_named(context, &self.id, error);
    if (status == CLIENT_OK)
        status = fetch_all(&self, arguments_word(context->arguments, 1), error);
    progress_free(self.progress);
    if (status == CLIENT_INTERRUPTED || status == CLIENT_UNREACHABLE)
        advice_give(context->advice, "the same command goes on where this one stopped");
    else if (status == CLIENT_FAILURE && self.directory_fd >= 0)
        advise_room(&self, arguments_word(context->arguments, 1), error);
    file_close(self.directory_fd);
    json_decref(self.artifacts);
    json_decref(self.report);
    free(self.id);
    return status;
}

static const option_row pull_options[] = {
    {OPTION_FORMAT, 'f', "format", "FORMAT", "native, full, peft, peft-exact or router"},
    {OPTION_MAX_RANK, 0, "max-rank", "N", "rank of an adapter, directions of a router, at most"},
    {OPTION_CHECK, 0, "check", "LOADER", "hold adapters to the rules of peft, vllm or sglang"},
    {OPTION_TASK, 't', "task", "TASK", "only this task's files (repeat)"},
    {OPTION_PARALLEL, 'P', "parallel", "N", "files fetched at once, 1 to 16 (4)"},
};

const client_command command_pull = {
    .name = "pull",
    .words = "JOB DIR",
    .summary = "fetch a job's artifacts into a directory",
    .text = "native: manifest.json, shared.safetensors, experts/TASK.safetensors.\n"
            "full: models/TASK, directories that the server builds first.\n"
            "peft: adapters/TASK/, likewise: a LoRA that PEFT and servers load.\n"
            "peft-exact: adapters-exact/TASK/: one for PEFT alone.\n"
            "router: routers/TASK/: directions to choose the task by, without a task id.\n"
            "Each file is checked against its SHA-256 before it gets its name. Files that are\n"
            "there already are kept; a download that was cut is taken up where it stopped.\n",
    .options = COMMAND_OPTIONS(pull_options),
    .run = run,
};
