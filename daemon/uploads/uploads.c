/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads: which there are, how far they are. */
#include "daemon/uploads/uploads.h"

#include "daemon/uploads/uploads_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { UPLOADS_PAGE_ROWS = 200 };

int uploads_check_allowed(const uploads *self, didi_error *error)
{
    return self->hidden_fd >= 0
               ? DIDI_OK
               : didi_fail(error, DIDI_INVALID, "upload_dir",
                           "this service takes no uploads: it has no --upload-dir");
}

/* ---- one request at a time ---- */

int upload_use_begin(uploads *self, upload_use *use, const char *id, const char *file,
                     didi_error *error)
{
    bool taken = false;
    snprintf(use->id, sizeof use->id, "%s", id);
    snprintf(use->file, sizeof use->file, "%s", file);
    pthread_mutex_lock(&self->lock);
    for (const upload_use *other = self->uses; other != NULL; other = other->next)
        taken = taken || (strcmp(other->id, use->id) == 0 &&
                          (use->file[0] == '\0' || other->file[0] == '\0' ||
                           strcmp(other->file, use->file) == 0));
    if (!taken) {
        use->next = self->uses;
        self->uses = use;
    }
    pthread_mutex_unlock(&self->lock);
    return taken ? didi_fail(error, DIDI_CONFLICT, NULL, "another request is at work on it")
                 : DIDI_OK;
}

void upload_use_end(uploads *self, upload_use *use)
{
    pthread_mutex_lock(&self->lock);
    upload_use **link = &self->uses;
    while (*link != use)
        link = &(*link)->next;
    *link = use->next;
    pthread_mutex_unlock(&self->lock);
}

int upload_read(const uploads *self, const char *id, store_upload *ret_row,
                upload_request *ret_files, didi_error *error)
{
    int status = store_upload_get(self->records, id, ret_row, error);
    if (status != DIDI_OK)
        return status;
    ret_files->document = json_load_own(ret_row->files);
    status = upload_files_read(ret_files->document, ret_files, error);
    return status == DIDI_INVALID
               ? didi_fail(error, DIDI_FORMAT, id, "the row of the upload is damaged")
               : status;
}

/* ---- making and looking ---- */

int uploads_create(uploads *self, const upload_request *request, const char *client,
                   char ret_id[ID_BYTES], didi_error *error)
{
    const config *settings = self->settings;
    const store_upload_limits limits = {.open_max = settings->upload_open_max,
                                        .bytes_max = settings->upload_bytes_max,
                                        .client_bytes_max = settings->upload_client_bytes_max};
    model_place place;
    didi_error none = {0};
    int status = uploads_check_allowed(self, error);
    if (status == DIDI_OK)
        status = uploads_expire(self, error);
    if (status != DIDI_OK)
        return status;
    if (model_roots_find(registry_roots(self->models), request->name, &place, &none) !=
            DIDI_NOT_FOUND ||
        faccessat(self->root_fd, request->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return didi_fail(error, DIDI_CONFLICT, "/name",
                         "\"%s\" is a model, or a directory of models, already", request->name);
    char *files = json_dumps(json_object_get(request->document, "files"), JSON_COMPACT);
    if (files == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    store_upload row = {.bytes = request->bytes, .files = files};
    row.name = memory_string(request->name);
    row.client = memory_string(client);
    status = row.name == NULL || row.client == NULL
                 ? didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory")
                 : store_upload_create(self->records, &row, &limits, ret_id, error);
    store_upload_clear(&row);
    return status;
}

/* Bytes that the system has not written yet are written first: what is told stays. */
static int part_bytes(int directory_fd, const upload_file *file, uint64_t *ret_bytes,
                      didi_error *error)
{
    const char *name = file->name;
    char part[UPLOAD_NAME_BYTES + 8];
    struct stat facts;
    upload_part_name(name, part);
    int fd = openat(directory_fd, part, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return DIDI_OK;
    if (fd < 0)
        return didi_fail_errno(error, errno, name, "cannot open the file");
    int status = fstat(fd, &facts) == 0
                     ? file_sync(fd, name, error)
                     : didi_fail_errno(error, errno, name, "cannot look at the file");
    if (status == DIDI_OK)
        *ret_bytes = upload_part_reached((uint64_t)facts.st_size, file->bytes);
    close(fd);
    return status;
}

int uploads_reached(const uploads *self, const char *id, const upload_file *file,
                    upload_reached *ret_reached, didi_error *error)
{
    upload_reached reached = {0};
    didi_error none = {0};
    int directory_fd = -1;
    int status = uploads_check_allowed(self, error);
    if (status != DIDI_OK)
        return status;
    if (file_open_directory(self->hidden_fd, id, 0, &directory_fd, &none) == DIDI_OK) {
        reached.complete = faccessat(directory_fd, file->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
        reached.bytes = reached.complete ? file->bytes : 0;
        if (!reached.complete)
            status = part_bytes(directory_fd, file, &reached.bytes, error);
    }
    file_close(directory_fd);
    if (status == DIDI_OK)
        *ret_reached = reached;
    return status;
}

int uploads_remove(uploads *self, const char *id, didi_error *error)
{
    store_upload row = {0};
    upload_use use = {0};
    int status = uploads_check_allowed(self, error);
    if (status == DIDI_OK)
        status = store_upload_get(self->records, id, &row, error);
    if (status == DIDI_OK && row.state == UPLOAD_COMMITTED)
        status = didi_fail(error, DIDI_CONFLICT, NULL,
                           "the upload is committed; the model \"%s\" can be removed", row.name);
    if (status == DIDI_OK)
        status = upload_use_begin(self, &use, row.id, "", error);
    if (status == DIDI_OK) {
        status = file_remove_tree(self->hidden_fd, row.id, error);
        if (status == DIDI_OK)
            status = store_upload_delete(self->records, row.id, error);
        upload_use_end(self, &use);
    }
    store_upload_clear(&row);
    return status;
}

int upload_each_row(uploads *self, void (*visit)(uploads *self, const store_upload *row),
                    didi_error *error)
{
    char before[ID_BYTES] = "";
    bool more = true;
    int status = DIDI_OK;
    while (status == DIDI_OK && more) {
        store_upload *rows = NULL;
        size_t count = 0;
        status = store_upload_list(self->records, before[0] == '\0' ? NULL : before,
                                   UPLOADS_PAGE_ROWS, &rows, &count, &more, error);
        for (size_t i = 0; status == DIDI_OK && i < count; i++) {
            visit(self, &rows[i]);
            memcpy(before, rows[i].id, sizeof before);
        }
        store_uploads_free(rows, count);
    }
    return status;
}

/* ---- opening and closing ---- */

static int open_directories(uploads *self, const char *path, didi_error *error)
{
    self->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->root_fd < 0)
        return didi_fail_errno(error, errno, path, "cannot open the upload directory %s", path);
    int status = file_open_directory(self->root_fd, ".uploads", 1, &self->hidden_fd, error);
    return status == DIDI_OK ? file_sync(self->root_fd, path, error) : status;
}

int uploads_open(const config *settings, registry *models, store *records, uploads **ret_uploads,
                 didi_error *error)
{
    pthread_condattr_t monotonic;
    assert(settings != NULL && models != NULL && records != NULL);
    uploads *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    *self = (uploads){.settings = settings,
                      .models = models,
                      .records = records,
                      .root_fd = -1,
                      .hidden_fd = -1,
                      .clock_apart_ms = clock_apart_ms()};
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->closing, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int status = settings->upload_dir == NULL ? DIDI_OK
                                              : open_directories(self, settings->upload_dir, error);
    if (status == DIDI_OK && self->hidden_fd >= 0)
        status = upload_each_row(self, upload_recover, error);
    if (status == DIDI_OK)
        upload_sweep_removed(self);
    if (status == DIDI_OK)
        status = uploads_expire(self, error);
    if (status == DIDI_OK)
        status = upload_expiry_start(self, error);
    if (status == DIDI_OK)
        *ret_uploads = self;
    else
        uploads_close(self);
    return status;
}

void uploads_stop(uploads *self)
{
    if (self != NULL)
        atomic_store(&self->stopping, true);
}

void uploads_close(uploads *self)
{
    if (self == NULL)
        return;
    upload_expiry_stop(self);
    file_close(self->hidden_fd);
    file_close(self->root_fd);
    pthread_cond_destroy(&self->closing);
    pthread_mutex_destroy(&self->lock);
    free(self);
}
