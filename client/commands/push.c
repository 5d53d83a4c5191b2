/* SPDX-License-Identifier: Apache-2.0 */
/* model push, model rm. */
#include "client/commands/command.h"

#include "proto/proto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PUSH_PIECE_BYTES = 8 << 20,
    PUSH_ATTEMPTS_MAX = 8, /* in a row without a byte gained */
    PUSH_PAUSE_MILLISECONDS = 500,
    PUSH_COMMIT_SECONDS = 600,
};

typedef struct push_file {
    char *path;
    const char *name; /* the last component of it */
    int64_t bytes;
    char sha256[65];
} push_file;

typedef struct push {
    const command_context *context;
    const char *model;
    push_file *files;
    size_t count, room;
    char *id; /* of the upload */
    int64_t sent, total;
    char *piece;
} push;

/* ---- what is there ---- */

static int was_interrupted(void *context)
{
    return interrupt_seen(context);
}

static int add_file(push *self, const char *path, didi_error *error)
{
    push_file *files = memory_grown(self->files, self->count, &self->room, sizeof *files);
    if (files == NULL)
        return client_fail_memory(error);
    self->files = files;
    push_file *file = &files[self->count];
    memset(file, 0, sizeof *file);
    file->path = memory_string(path);
    if (file->path == NULL)
        return client_fail_memory(error);
    const char *slash = strrchr(file->path, '/');
    file->name = slash != NULL ? slash + 1 : file->path;
    self->count++;
    for (size_t i = 0; i + 1 < self->count; i++)
        if (strcmp(files[i].name, file->name) == 0)
            return didi_fail(error, CLIENT_USAGE, path, "two files are called %s", file->name);
    return CLIENT_OK;
}

/* What a model has no use for is left out, and said. */
static int add_directory(push *self, const char *path, didi_error *error)
{
    DIR *directory = opendir(path);
    int status = CLIENT_OK;
    if (directory == NULL)
        return didi_fail(error, CLIENT_FAILURE, path, "%s", strerror(errno));
    for (struct dirent *entry = readdir(directory); status == CLIENT_OK && entry != NULL;
         entry = readdir(directory)) {
        struct stat facts;
        char *inner = memory_format("%s/%s", path, entry->d_name);
        if (inner == NULL)
            status = client_fail_memory(error);
        else if (entry->d_name[0] == '.' || stat(inner, &facts) != 0 || !S_ISREG(facts.st_mode))
            ;
        else if (upload_name_is_file(entry->d_name))
            status = add_file(self, inner, error);
        else
            output_note(self->context->output, "%s is left out", inner);
        free(inner);
    }
    closedir(directory);
    return status;
}

static int add_path(push *self, const char *path, didi_error *error)
{
    struct stat facts;
    if (stat(path, &facts) != 0)
        return didi_fail(error, CLIENT_FAILURE, path, "%s", strerror(errno));
    if (S_ISDIR(facts.st_mode))
        return add_directory(self, path, error);
    const char *slash = strrchr(path, '/');
    if (!S_ISREG(facts.st_mode) || !upload_name_is_file(slash != NULL ? slash + 1 : path))
        return didi_fail(error, CLIENT_USAGE, path, "not a file that models have");
    return add_file(self, path, error);
}

static int digest_file(push *self, push_file *file, didi_error *error)
{
    uint64_t bytes = 0;
    didi_error own = {0};
    int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return didi_fail(error, CLIENT_FAILURE, file->path, "%s", strerror(errno));
    int status = file_sha256(fd, was_interrupted, self->context->interrupt, file->sha256, &bytes,
                             file->path, &own);
    close(fd);
    if (status == DIDI_CANCELLED)
        return interrupt_fail(error);
    if (status != DIDI_OK)
        return didi_fail(error, CLIENT_FAILURE, file->path, "%s", own.message);
    file->bytes = (int64_t)bytes;
    self->total += file->bytes;
    return CLIENT_OK;
}

static int collect(push *self, didi_error *error)
{
    int status = CLIENT_OK;
    const char *path;
    for (size_t i = 1;
         status == CLIENT_OK && (path = arguments_word(self->context->arguments, i)) != NULL; i++)
        status = add_path(self, path, error);
    if (status == CLIENT_OK && self->count == 0)
        status = didi_fail(error, CLIENT_USAGE, arguments_word(self->context->arguments, 1),
                           "there is no file that models have");
    for (size_t i = 0; status == CLIENT_OK && i < self->count; i++)
        status = digest_file(self, &self->files[i], error);
    return status;
}

/* ---- the upload ---- */

static json_t *request_body(const push *self)
{
    json_t *files = json_array();
    for (size_t i = 0; i < self->count; i++)
        json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "name", self->files[i].name,
                                               "bytes", (json_int_t)self->files[i].bytes, "sha256",
                                               self->files[i].sha256));
    return json_pack("{s:s, s:o}", "name", self->model, "files", files);
}

static bool is_same(const push *self, const json_t *upload)
{
    const json_t *files = json_object_get(upload, "files");
    size_t same = 0;
    for (size_t i = 0; i < json_array_size(files); i++)
        for (size_t k = 0; k < self->count; k++)
            same +=
                strcmp(record_text(json_array_get(files, i), "name"), self->files[k].name) == 0 &&
                strcmp(record_text(json_array_get(files, i), "sha256"), self->files[k].sha256) == 0;
    return same == self->count && json_array_size(files) == self->count;
}

static int upload_send(const push *self, const char *method, const char *rest, json_t **ret_answer,
                       didi_error *error)
{
    char target[128];
    (void)snprintf(target, sizeof target, "/v1/models/uploads/%.40s%s", self->id, rest);
    return service_send(self->context->service, method, target, NULL, NULL, ret_answer, error);
}

static int keep_id(push *self, const json_t *upload, didi_error *error)
{
    const char *id = record_text(upload, "id");
    if (!name_is_job(id))
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server sent an upload without an id");
    free(self->id);
    self->id = memory_string(id);
    return self->id != NULL ? CLIENT_OK : client_fail_memory(error);
}

/* Finds the upload of an earlier call that broke off; self->id stays NULL when there is none. */
static int find_earlier(push *self, didi_error *error)
{
    json_t *uploads = NULL;
    bool more = false;
    int status = service_list(self->context->service, "/v1/models/uploads", SERVICE_LIST_ITEMS_MAX,
                              &uploads, &more, error);
    for (size_t i = 0; status == CLIENT_OK && i < json_array_size(uploads); i++) {
        const json_t *upload = json_array_get(uploads, i);
        if (strcmp(record_text(upload, "name"), self->model) != 0 ||
            strcmp(record_text(upload, "state"), "committed") == 0)
            continue;
        json_t *nothing = NULL;
        bool same = is_same(self, upload);
        status = keep_id(self, upload, error);
        if (status == CLIENT_OK && !same &&
            !arguments_has(self->context->arguments, OPTION_RESTART))
            status = didi_fail(error, CLIENT_FAILURE, self->id,
                               "an upload of this name with other files was begun; --restart "
                               "forgets it");
        else if (status == CLIENT_OK && arguments_has(self->context->arguments, OPTION_RESTART)) {
            status = upload_send(self, "DELETE", "", &nothing, error);
            free(self->id);
            self->id = NULL;
        }
        break;
    }
    json_decref(uploads);
    return status;
}

static int begin(push *self, didi_error *error)
{
    json_t *upload = NULL;
    int status = find_earlier(self, error);
    if (status != CLIENT_OK || self->id != NULL)
        return status;
    json_t *body = request_body(self);
    if (body == NULL)
        return client_fail_memory(error);
    status = service_send(self->context->service, "POST", "/v1/models/uploads", body, NULL, &upload,
                          error);
    json_decref(body);
    if (status == CLIENT_OK)
        status = keep_id(self, upload, error);
    json_decref(upload);
    return status;
}

/* ---- the bytes ---- */

static void show(const push *self, const push_file *file, int64_t offset)
{
    char done[FORMAT_BYTES_MAX];
    char total[FORMAT_BYTES_MAX];
    if (output_animates_messages(self->context->output))
        fprintf(stderr, "\r\033[K%s of %s  %s", format_bytes(done, self->sent + offset),
                format_bytes(total, self->total), file->name);
}

static int send_piece(push *self, const push_file *file, int64_t offset, size_t bytes,
                      didi_error *error)
{
    char target[LIMIT_UPLOAD_FILE_NAME_BYTES + 128];
    char range[128];
    transport_response response = {0};
    (void)snprintf(target, sizeof target, "/v1/models/uploads/%.40s/files/%s", self->id,
                   file->name);
    (void)snprintf(range, sizeof range, "Content-Range: bytes %lld-%lld/%lld", (long long)offset,
                   (long long)offset + (long long)bytes - 1, (long long)file->bytes);
    const char *headers[] = {"Accept: application/json", "Content-Type: application/octet-stream",
                             bytes > 0 ? range : NULL, NULL};
    const transport_request request = {.method = "PUT",
                                       .target = target,
                                       .headers = headers,
                                       .body = self->piece,
                                       .body_bytes = bytes,
                                       .extra_seconds = PUSH_COMMIT_SECONDS};
    int status = service_fetch(self->context->service, &request, &response, error);
    transport_response_clear(&response);
    return status;
}

static int read_piece(const push *self, const push_file *file, int fd, int64_t offset,
                      size_t *ret_bytes, didi_error *error)
{
    didi_error own = {0};
    int64_t left = file->bytes - offset;
    size_t bytes = left < PUSH_PIECE_BYTES ? (size_t)left : PUSH_PIECE_BYTES;
    if (file_pread_all(fd, self->piece, bytes, (uint64_t)offset, file->path, &own) != DIDI_OK)
        return didi_fail(error, CLIENT_FAILURE, file->path, "%s", own.message);
    *ret_bytes = bytes;
    return CLIENT_OK;
}

/* How far the server has the file. */
static int ask_offset(const push *self, const push_file *file, int64_t *ret_offset,
                      bool *ret_complete, didi_error *error)
{
    json_t *answer = NULL;
    int status = service_get(self->context->service, 0, &answer, error,
                             "/v1/models/uploads/%.40s/files/%s", self->id, file->name);
    if (status == CLIENT_OK) {
        *ret_offset = record_integer(answer, "offset");
        *ret_complete = record_true(answer, "complete");
        if (*ret_offset < 0 || *ret_offset > file->bytes)
            status = didi_fail(error, CLIENT_FAILURE, file->name,
                               "the server has more of the file than there is");
    }
    json_decref(answer);
    return status;
}

/* Sends the file from where the server has it; what breaks is taken up again. */
static int send_file(push *self, const push_file *file, int fd, didi_error *error)
{
    int64_t furthest = -1;
    int attempts = 0;
    for (;;) {
        int64_t offset = 0;
        bool complete = false;
        size_t bytes = 0;
        int status = ask_offset(self, file, &offset, &complete, error);
        while (status == CLIENT_OK && !complete) {
            status = read_piece(self, file, fd, offset, &bytes, error);
            if (status != CLIENT_OK)
                return status;
            status = send_piece(self, file, offset, bytes, error);
            offset += status == CLIENT_OK ? (int64_t)bytes : 0;
            complete = status == CLIENT_OK && offset == file->bytes;
            show(self, file, offset);
        }
        if (status == CLIENT_OK) {
            self->sent += file->bytes;
            return CLIENT_OK;
        }
        attempts = offset > furthest ? 1 : attempts + 1;
        furthest = offset > furthest ? offset : furthest;
        int http = service_last_status(self->context->service);
        bool again = status == CLIENT_UNREACHABLE ||
                     (status == CLIENT_FAILURE && (http == 409 || http == 429 || http >= 500));
        if (!again || http == 507 || attempts >= PUSH_ATTEMPTS_MAX)
            return status;
        status =
            interrupt_sleep(self->context->interrupt, PUSH_PAUSE_MILLISECONDS * attempts, error);
        if (status != CLIENT_OK)
            return status;
    }
}

static int send_files(push *self, didi_error *error)
{
    int status = CLIENT_OK;
    self->piece = memory_resized(NULL, PUSH_PIECE_BYTES, 1);
    if (self->piece == NULL)
        return client_fail_memory(error);
    for (size_t i = 0; status == CLIENT_OK && i < self->count; i++) {
        int fd = open(self->files[i].path, O_RDONLY | O_CLOEXEC);
        status = fd < 0
                     ? didi_fail(error, CLIENT_FAILURE, self->files[i].path, "%s", strerror(errno))
                     : send_file(self, &self->files[i], fd, error);
        file_close(fd);
    }
    if (output_animates_messages(self->context->output))
        fputs("\r\033[K", stderr);
    return status;
}

static int print_name(const command_context *context, const json_t *upload, didi_error *error)
{
    return output_text(context->output, record_text(upload, "name"), error);
}

static int run_push(const command_context *context, didi_error *error)
{
    push self = {.context = context, .model = arguments_word(context->arguments, 0)};
    json_t *upload = NULL;
    if (!name_is_model(self.model) || strchr(self.model, '@') != NULL)
        return didi_fail(error, CLIENT_USAGE, self.model, "this is not the name of a model");
    int status = collect(&self, error);
    status = status != CLIENT_OK ? status : begin(&self, error);
    status = status != CLIENT_OK ? status : send_files(&self, error);
    if (status == CLIENT_OK)
        status = upload_send(&self, "POST", "/commit", &upload, error);
    status = command_print(context, status, upload, "name", print_name, error);
    for (size_t i = 0; i < self.count; i++)
        free(self.files[i].path);
    free(self.files);
    free(self.piece);
    free(self.id);
    return status;
}

/* ---- model rm ---- */

static int run_remove(const command_context *context, didi_error *error)
{
    const char *name;
    int status = CLIENT_OK;
    for (size_t i = 0;
         status == CLIENT_OK && (name = arguments_word(context->arguments, i)) != NULL; i++) {
        json_t *nothing = NULL;
        if (!name_is_model(name))
            return didi_fail(error, CLIENT_USAGE, name, "this is not the name of a model");
        char *target = memory_format("/v1/models/%s", name);
        status = target == NULL ? client_fail_memory(error)
                                : service_send(context->service, "DELETE", target, NULL, NULL,
                                               &nothing, error);
        if (status == CLIENT_OK)
            puts(name);
        json_decref(nothing);
        free(target);
    }
    return status;
}

static const option_row push_options[] = {
    {OPTION_RESTART, 0, "restart", NULL, "forget what an earlier push of this name sent"},
};

const client_command command_model_push = {
    .name = "model push",
    .words = "NAME PATH...",
    .summary = "upload a model: a directory, or its files",
    .text = "Files go in pieces; a push that broke off is taken up again by the same command. The\n"
            "server compares each SHA-256, and shows the model once all of it is there.\n",
    .options = COMMAND_OPTIONS(push_options),
    .run = run_push,
};
const client_command command_model_rm = {
    .name = "model rm",
    .words = "MODEL...",
    .summary = "remove models that were uploaded or fetched",
    .run = run_remove,
};
