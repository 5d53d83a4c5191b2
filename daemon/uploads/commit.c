/* SPDX-License-Identifier: Apache-2.0 */
/* How an uploaded model appears and how a model goes: by one rename each, told before in the row.
 *
 * A process that dies between the row "committing" and the rename leaves the upload open again; one
 * that dies between the rename and the row "committed" leaves a model that is committed at the next
 * start. */
#include "daemon/uploads/uploads_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char removed[] = ".removed"; /* of a model directory: what is being removed */

/* ---- committing ---- */

typedef struct listing {
    const upload_request *files;
    size_t found;
} listing;

static int check_entry(void *context, const char *name, didi_error *error)
{
    listing *self = context;
    self->found++;
    return upload_request_find(self->files, name) != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_CONFLICT, name, "the file '%s' is not whole", name);
}

/* All files are there, and nothing else; together they are a model. */
static int check_files(const uploads *self, const store_upload *row, const upload_request *files,
                       didi_error *error)
{
    listing all = {.files = files};
    int fd = -1;
    int status = file_open_directory(self->hidden_fd, row->id, 0, &fd, error);
    if (status == DIDI_NOT_FOUND)
        return didi_fail(error, DIDI_CONFLICT, files->files[0].name, "no file was sent");
    for (size_t i = 0; status == DIDI_OK && i < files->count; i++)
        if (faccessat(fd, files->files[i].name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
            status = didi_fail(error, DIDI_CONFLICT, files->files[i].name,
                               "the file '%s' is not whole", files->files[i].name);
    if (status == DIDI_OK)
        status = file_each_entry(fd, check_entry, &all, error);
    if (status == DIDI_OK)
        status = registry_check_directory(fd, row->name, error);
    if (status == DIDI_NOT_FOUND)
        status =
            didi_fail(error, DIDI_FORMAT, row->name, "the files are no model: %s", error->message);
    if (status == DIDI_OK)
        status = file_sync(fd, row->id, error);
    file_close(fd);
    return status;
}

/* Opens, and makes, the directory that the model lies in; *ret_last is the rest of the name. */
static int open_parent(const uploads *self, const char *name, int *ret_fd, const char **ret_last,
                       didi_error *error)
{
    char component[LIMIT_MODEL_NAME_BYTES + 1];
    int fd = fcntl(self->root_fd, F_DUPFD_CLOEXEC, 3);
    int status = fd >= 0 ? DIDI_OK : didi_fail_errno(error, errno, name, "cannot open %s", name);
    for (const char *slash = strchr(name, '/'); status == DIDI_OK && slash != NULL;
         slash = strchr(name, '/')) {
        int next = -1;
        (void)snprintf(component, sizeof component, "%.*s", (int)(slash - name), name);
        status = file_open_directory(fd, component, 1, &next, error);
        if (status == DIDI_OK)
            status = file_sync(fd, component, error);
        file_close(fd);
        fd = next;
        name = slash + 1;
    }
    if (status != DIDI_OK) {
        file_close(fd);
        return status;
    }
    *ret_fd = fd;
    *ret_last = name;
    return DIDI_OK;
}

/* The model appears here. */
static int publish(const uploads *self, const store_upload *row, didi_error *error)
{
    const char *last = NULL;
    int parent_fd = -1;
    int status = open_parent(self, row->name, &parent_fd, &last, error);
    if (status == DIDI_OK && faccessat(parent_fd, last, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        status = didi_fail(error, DIDI_CONFLICT, row->name, "there is a model \"%s\" already",
                           row->name);
    if (status == DIDI_OK)
        status = fault_check(FAULT_UPLOAD, row->name, error);
    if (status == DIDI_OK)
        status = file_rename(self->hidden_fd, row->id, parent_fd, last, error);
    if (status == DIDI_OK)
        status = fault_check(FAULT_UPLOADED, row->name, error);
    if (status == DIDI_OK)
        status = file_sync(parent_fd, row->name, error);
    if (status == DIDI_OK)
        status = file_sync(self->hidden_fd, ".uploads", error);
    file_close(parent_fd);
    return status;
}

static bool is_pending(const uploads *self, const char *id)
{
    return faccessat(self->hidden_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What failed before the rename may be tried again. */
static int move_in(uploads *self, const store_upload *row, didi_error *error)
{
    didi_error later = {0};
    int status = store_upload_move(self->records, row->id, UPLOAD_COMMITTING, error);
    if (status != DIDI_OK)
        return status;
    status = publish(self, row, error);
    if (status == DIDI_OK)
        return store_upload_move(self->records, row->id, UPLOAD_COMMITTED, error);
    if (is_pending(self, row->id))
        (void)store_upload_move(self->records, row->id, UPLOAD_OPEN, &later);
    return status;
}

static int rescan(const uploads *self, didi_error *error)
{
    size_t ready = 0;
    size_t broken = 0;
    return registry_rescan(self->models, &ready, &broken, error);
}

static int commit_used(uploads *self, const char *id, didi_error *error)
{
    store_upload row = {0};
    upload_request files = {0};
    model_place place;
    didi_error none = {0};
    int status = upload_read(self, id, &row, &files, error);
    bool again = status == DIDI_OK && row.state == UPLOAD_COMMITTING;
    bool moved = again && !is_pending(self, id);
    if (status == DIDI_OK && row.state != UPLOAD_COMMITTED && !moved) {
        status = check_files(self, &row, &files, error);
        if (status == DIDI_OK && model_roots_find(registry_roots(self->models), row.name, &place,
                                                  &none) != DIDI_NOT_FOUND)
            status = didi_fail(error, DIDI_CONFLICT, row.name, "there is a model \"%s\" already",
                               row.name);
        if (status == DIDI_OK)
            status = move_in(self, &row, error);
    } else if (moved) {
        status = store_upload_move(self->records, id, UPLOAD_COMMITTED, error);
    }
    if (status == DIDI_OK)
        status = rescan(self, error);
    upload_request_clear(&files);
    store_upload_clear(&row);
    return status;
}

int uploads_commit(uploads *self, const char *id, didi_error *error)
{
    upload_use use = {0};
    int status = uploads_check_allowed(self, error);
    if (status == DIDI_OK)
        status = upload_use_begin(self, &use, id, "", error);
    if (status != DIDI_OK)
        return status;
    status = commit_used(self, id, error);
    upload_use_end(self, &use);
    return status;
}

/* ---- at start ---- */

void upload_recover(uploads *self, const store_upload *row)
{
    didi_error error = {0};
    int status = DIDI_OK;
    bool is_there = faccessat(self->root_fd, row->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (row->state == UPLOAD_COMMITTING)
        status =
            store_upload_move(self->records, row->id,
                              is_pending(self, row->id) ? UPLOAD_OPEN : UPLOAD_COMMITTED, &error);
    else if (row->state == UPLOAD_COMMITTED && !is_there)
        status = store_upload_delete(self->records, row->id, &error);
    if (status != DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "cannot take up an upload", LOG_TEXT("upload", row->id),
                 LOG_TEXT("error", error.message));
}

static void sweep_root(const char *path)
{
    didi_error error = {0};
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && file_remove_tree(fd, removed, &error) != DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "cannot remove what is left of models",
                 LOG_TEXT("error", error.message));
    file_close(fd);
}

void upload_sweep_removed(const uploads *self)
{
    sweep_root(self->settings->upload_dir);
    sweep_root(self->settings->fetch_dir);
}

/* ---- removing models ---- */

/* Where a model lies that may be removed: it was uploaded or fetched. */
static int find_removable(const uploads *self, const char *name, const char *upload,
                          model_place *ret_place, didi_error *error)
{
    const model_roots *roots = registry_roots(self->models);
    const char *fetch_dir = self->settings->fetch_dir;
    int status = model_roots_find(roots, name, ret_place, error);
    if (status != DIDI_OK)
        return status;
    const char *root = model_roots_path(roots, ret_place->root);
    bool fetched = fetch_dir != NULL && strcmp(root, fetch_dir) == 0;
    bool uploaded = upload[0] != '\0' && self->settings->upload_dir != NULL &&
                    strcmp(root, self->settings->upload_dir) == 0;
    if (strchr(name, '@') != NULL || (!uploaded && !fetched))
        return didi_fail(error, DIDI_CONFLICT, NULL,
                         "the model was neither uploaded nor fetched: remove it where it lies");
    char *snapshots = strstr(ret_place->path, "/snapshots/");
    if (snapshots != NULL)
        *snapshots = '\0'; /* a repository of a hub's cache goes as a whole */
    return DIDI_OK;
}

/* Takes the model away, unless a job names it: first out of sight, so that none can begin to. */
static int take_away(const uploads *self, const char *name, int root_fd, const char *path,
                     didi_error *error)
{
    char user[ID_BYTES];
    char hidden[32];
    int removed_fd = -1;
    int status = file_open_directory(root_fd, removed, 1, &removed_fd, error);
    (void)snprintf(hidden, sizeof hidden, "%016llx", (unsigned long long)clock_now_ms());
    if (status == DIDI_OK)
        status = file_rename(root_fd, path, removed_fd, hidden, error);
    if (status == DIDI_OK)
        status = store_model_user(self->records, name, user, error);
    if (status == DIDI_OK && user[0] != '\0') {
        status =
            didi_fail(error, DIDI_CONFLICT, user, "the job %s is unfinished and names it", user);
        didi_error later = {0};
        (void)file_rename(removed_fd, hidden, root_fd, path, &later);
    }
    if (status == DIDI_OK)
        status = file_sync(root_fd, path, error);
    file_close(removed_fd);
    return status;
}

int uploads_remove_model(uploads *self, const char *name, didi_error *error)
{
    char upload[ID_BYTES] = "";
    char user[ID_BYTES] = "";
    model_place place;
    upload_use use = {0};
    int root_fd = -1;
    int status = store_upload_of_model(self->records, name, upload, error);
    if (status == DIDI_OK)
        status = find_removable(self, name, upload, &place, error);
    if (status == DIDI_OK)
        status = store_model_user(self->records, name, user, error);
    if (status == DIDI_OK && user[0] != '\0')
        status =
            didi_fail(error, DIDI_CONFLICT, user, "the job %s is unfinished and names it", user);
    if (status == DIDI_OK)
        status = upload_use_begin(self, &use, "removal", "", error);
    if (status != DIDI_OK)
        return status;
    const char *root = model_roots_path(registry_roots(self->models), place.root);
    root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    status = root_fd < 0 ? didi_fail_errno(error, errno, name, "cannot open its directory")
                         : take_away(self, name, root_fd, place.path, error);
    if (status == DIDI_OK)
        (void)file_remove_tree(root_fd, removed, error); /* else at the next start */
    if (status == DIDI_OK && upload[0] != '\0')
        status = store_upload_delete(self->records, upload, error);
    if (status == DIDI_OK)
        status = rescan(self, error);
    file_close(root_fd);
    upload_use_end(self, &use);
    return status;
}
