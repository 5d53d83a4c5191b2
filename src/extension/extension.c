/* SPDX-License-Identifier: Apache-2.0 */
/* A package opened to be extended: its manifest, the tasks to add and to remove, the files kept. */
#include "src/extension/extension_internal.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_BYTES_MAX = 128, COPY_BYTES = 1 << 20 };

const json_t *extension_tasks(const json_t *manifest)
{
    return json_object_get(json_object_get(manifest, "ranks"), "tasks");
}

static int read_manifest(int package_fd, json_t **ret_manifest, didi_error *error)
{
    json_t *manifest = NULL;
    int status = manifest_file_read(package_fd, &manifest, error);
    if (status != DIDI_OK)
        return status;
    if (json_is_true(json_object_get(manifest, "survey"))) {
        json_decref(manifest);
        return didi_fail(error, DIDI_INVALID, "/extend/job",
                         "it is a survey, which has no files to extend; start a merge from it");
    }
    const json_t *row =
        manifest_file_row(json_object_get(manifest, "files"), "name", "shared.safetensors");
    if (json_is_string(json_object_get(manifest, "fingerprint")) &&
        json_is_array(extension_tasks(manifest)) && manifest_file_base(manifest) != NULL &&
        json_is_integer(json_object_get(row, "parameters")) &&
        json_is_object(json_object_get(json_object_get(manifest, "error"), "dense_per_task")) &&
        json_is_object(json_object_get(json_object_get(manifest, "error"), "dense_energy"))) {
        *ret_manifest = manifest;
        return DIDI_OK;
    }
    const char *method =
        json_string_value(json_object_get(json_object_get(manifest, "specification"), "method"));
    if (method != NULL && json_object_get(manifest, "ranks") == NULL)
        status = didi_fail(error, DIDI_INVALID, "/extend",
                           "the package was merged by method '%.64s', which shares no part that "
                           "experts could be made for",
                           method);
    json_decref(manifest);
    if (status != DIDI_OK)
        return status;
    return didi_fail(error, DIDI_FORMAT, "manifest.json",
                     "the package's manifest lacks figures that an extension needs; it was made "
                     "by an older didid: merge again, or rebalance");
}

/* ---- tasks ---- */

static int list_tasks(extension *self, didi_error *error)
{
    const json_t *tasks = extension_tasks(self->manifest);
    size_t count = json_array_size(tasks);
    self->tasks = memory_zeroed(count, sizeof *self->tasks);
    self->kept = memory_zeroed(count, sizeof *self->kept);
    if (self->tasks == NULL || self->kept == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "extension of %zu tasks", count);
    for (; self->task_count < count; self->task_count++) {
        const char *name = json_string_value(json_array_get(tasks, self->task_count));
        if (name == NULL || name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL ||
            strlen(name) > NAME_BYTES_MAX)
            return didi_fail(error, DIDI_FORMAT, "manifest.json",
                             "the name of the package's task %zu is not valid", self->task_count);
        self->tasks[self->task_count] = name;
    }
    return DIDI_OK;
}

static int keep_tasks(extension *self, const didi_extension *asked, didi_error *error)
{
    for (size_t i = 0; i < asked->removed_count; i++) {
        const char *name = asked->removed[i];
        char field[48];
        char names[512] = "";
        (void)snprintf(field, sizeof field, "/extend/remove/%zu", i);
        if (text_find(self->tasks, self->task_count, name) < self->task_count) {
            if (text_find(asked->removed, i, name) < i)
                return didi_fail(error, DIDI_INVALID, field, "task '%s' is listed twice", name);
            continue;
        }
        for (size_t t = 0; t < self->task_count; t++)
            text_list_add(names, sizeof names, "", self->tasks[t]);
        return didi_fail(error, DIDI_INVALID, field, "the package has no task '%s'; it has %s",
                         name, names);
    }
    for (size_t t = 0; t < self->task_count; t++)
        if (text_find(asked->removed, asked->removed_count, self->tasks[t]) == asked->removed_count)
            self->kept[self->kept_count++] = t;
    return DIDI_OK;
}

static int check_tasks(const extension *self, const didi_merge_options *options, didi_error *error)
{
    if (options->task_count == 0 && options->extend.removed_count == 0)
        return didi_fail(error, DIDI_INVALID, "/tasks", "there is no task to add or to remove");
    if (options->task_count == 0 && self->kept_count == 0)
        return didi_fail(error, DIDI_INVALID, "/extend/remove",
                         "no task would be left; leave one, or add one");
    if (options->task_count + self->kept_count > FAMILY_TASKS_MAX)
        return didi_fail(error, DIDI_INVALID, "/tasks",
                         "%zu tasks kept and %zu added are more than the %d allowed",
                         self->kept_count, options->task_count, FAMILY_TASKS_MAX);
    for (size_t t = 0; t < options->task_count; t++)
        for (size_t k = 0; k < self->kept_count; k++) {
            char field[48];
            if (strcmp(options->tasks[t].name, extension_kept_name(self, k)) != 0)
                continue;
            (void)snprintf(field, sizeof field, "/tasks/%zu/name", t);
            return didi_fail(error, DIDI_INVALID, field,
                             "the package has a task '%s' already; choose another name, or remove "
                             "the old one in the same step",
                             options->tasks[t].name);
        }
    return DIDI_OK;
}

/* ---- files ---- */

static int open_file(const extension *self, const char *name, int *ret_fd, struct stat *ret_found,
                     didi_error *error)
{
    int fd = openat(self->package_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return didi_fail_errno(error, errno, name, "file of the package");
    if (fstat(fd, ret_found) != 0 || !S_ISREG(ret_found->st_mode)) {
        (void)close(fd);
        return didi_fail(error, DIDI_FORMAT, name, "%s of the package is not a regular file", name);
    }
    *ret_fd = fd;
    return DIDI_OK;
}

static int fail_changed(const char *name, didi_error *error)
{
    return didi_fail(error, DIDI_CHANGED, name,
                     "%s of the package is not the file its manifest describes", name);
}

static int add_file(extension *self, const char *name, didi_error *error)
{
    extension_file *file = &self->files[self->file_count];
    int fd = -1;
    file->row = manifest_file_row(json_object_get(self->manifest, "files"), "name", name);
    file->name = json_string_value(json_object_get(file->row, "name"));
    file->sha256 = json_string_value(json_object_get(file->row, "sha256"));
    if (file->name == NULL || file->sha256 == NULL)
        return didi_fail(error, DIDI_FORMAT, "manifest.json", "the manifest does not list %s",
                         name);
    int status = open_file(self, file->name, &fd, &file->found, error);
    if (status != DIDI_OK)
        return status;
    (void)close(fd);
    if (file->found.st_size != json_integer_value(json_object_get(file->row, "bytes")))
        return fail_changed(file->name, error);
    self->file_count++;
    return DIDI_OK;
}

static int list_files(extension *self, didi_error *error)
{
    char name[NAME_BYTES_MAX + 32];
    self->files = memory_zeroed(self->kept_count + 1, sizeof *self->files);
    if (self->files == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "files of %zu tasks", self->kept_count);
    int status = add_file(self, "shared.safetensors", error);
    for (size_t k = 0; k < self->kept_count && status == DIDI_OK; k++) {
        (void)snprintf(name, sizeof name, "experts/%s.safetensors", extension_kept_name(self, k));
        status = add_file(self, name, error);
    }
    return status;
}

size_t extension_file_count(const extension *self)
{
    return self != NULL ? self->file_count : 0;
}

size_t extension_first_file(const extension *self)
{
    return self != NULL ? 1 : 0;
}

int extension_verify_file(const extension *self, size_t index, int (*cancelled)(void *context),
                          void *context, didi_error *error)
{
    assert(index < self->file_count);
    const extension_file *file = &self->files[index];
    struct stat found;
    char digest[65];
    int fd = -1;
    int status = open_file(self, file->name, &fd, &found, error);
    if (status != DIDI_OK)
        return status;
    status = file_sha256(fd, cancelled, context, digest, NULL, file->name, error);
    (void)close(fd);
    if (status == DIDI_OK && strcmp(digest, file->sha256) != 0)
        status = fail_changed(file->name, error);
    return status;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int copy_file(int from, int to, const char *name, didi_error *error)
{
    char *buffer = memory_aligned(COPY_BYTES, 1);
    uint64_t at = 0;
    ssize_t count = 0;
    int status =
        buffer != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, name, "copy of a file");
    while (status == DIDI_OK && (count = pread(from, buffer, COPY_BYTES, (off_t)at)) > 0) {
        status = file_pwrite_all(to, buffer, (size_t)count, at, name, error);
        at += (uint64_t)count;
    }
    if (status == DIDI_OK && count < 0)
        status = didi_fail_errno(error, errno, name, "reading a file of the package");
    free(buffer);
    return status == DIDI_OK ? file_sync(to, name, error) : status;
}

/* Where a file system has no hard links, or not one more for this file. */
static int copy_into(const extension *self, const extension_file *file, int package_fd,
                     didi_error *error)
{
    struct stat found;
    char digest[65] = "";
    int from = -1;
    int to = openat(package_fd, file->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (to < 0)
        return didi_fail_errno(error, errno, file->name, "copying a file of the package");
    int status = open_file(self, file->name, &from, &found, error);
    if (status == DIDI_OK)
        status = copy_file(from, to, file->name, error);
    if (status == DIDI_OK)
        status = file_sha256(to, NULL, NULL, digest, NULL, file->name, error);
    if (status == DIDI_OK && strcmp(digest, file->sha256) != 0)
        status = fail_changed(file->name, error);
    file_close(from);
    (void)close(to);
    return status;
}

int extension_link(const extension *self, int package_fd, didi_error *error)
{
    assert(package_fd >= 0 && package_fd != self->package_fd);
    for (size_t i = 0; i < self->file_count; i++) {
        const extension_file *file = &self->files[i];
        struct stat found;
        int status = DIDI_OK;
        if (linkat(self->package_fd, file->name, package_fd, file->name, 0) != 0)
            status = errno == ENOENT
                         ? didi_fail_errno(error, errno, file->name, "file of the package")
                         : copy_into(self, file, package_fd, error);
        else if (fstatat(package_fd, file->name, &found, AT_SYMLINK_NOFOLLOW) != 0 ||
                 !same_file(&found, &file->found))
            status = fail_changed(file->name, error);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static uint64_t sum_of(const extension *self, const char *key)
{
    json_int_t sum = 0;
    for (size_t i = 0; i < extension_file_count(self); i++)
        sum += json_integer_value(json_object_get(self->files[i].row, key));
    return (uint64_t)sum;
}

uint64_t extension_parameters(const extension *self)
{
    return sum_of(self, "parameters");
}

uint64_t extension_bytes(const extension *self)
{
    return sum_of(self, "bytes");
}

/* ---- open and close ---- */

static int copy_words(extension *self, const didi_extension *asked, didi_error *error)
{
    const char *reason = asked->comparison_reason;
    self->job = asked->job != NULL ? memory_string(asked->job) : NULL;
    self->reason = reason != NULL ? memory_string(reason) : NULL;
    if ((asked->job != NULL && self->job == NULL) || (reason != NULL && self->reason == NULL))
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "words of an extension");
    return DIDI_OK;
}

static int fill(extension *self, const didi_merge_options *options, didi_error *error)
{
    const didi_extension *asked = &options->extend;
    self->package_fd = fcntl(asked->package_fd, F_DUPFD_CLOEXEC, 3);
    if (self->package_fd < 0)
        return didi_fail_errno(error, errno, "/extend", "duplicating a descriptor");
    int status = read_manifest(self->package_fd, &self->manifest, error);
    if (status == DIDI_OK && asked->comparison_fd >= 0)
        status = read_manifest(asked->comparison_fd, &self->comparison, error);
    if (status == DIDI_OK)
        status = copy_words(self, asked, error);
    if (status == DIDI_OK)
        status = list_tasks(self, error);
    if (status == DIDI_OK)
        status = keep_tasks(self, asked, error);
    if (status == DIDI_OK)
        status = check_tasks(self, options, error);
    if (status == DIDI_OK)
        status = list_files(self, error);
    return status == DIDI_OK ? package_file_open(self->package_fd, NULL, &self->shared, error)
                             : status;
}

int extension_open(const didi_merge_options *options, extension **ret_extension, didi_error *error)
{
    assert(options->extend.package_fd >= 0);
    extension *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "extension");
    self->package_fd = -1;
    int status = fill(self, options, error);
    if (status != DIDI_OK)
        extension_close(self);
    else
        *ret_extension = self;
    return status;
}

void extension_close(extension *self)
{
    if (self == NULL)
        return;
    file_close(self->package_fd);
    package_file_close(self->shared);
    json_decref(self->manifest);
    json_decref(self->comparison);
    free(self->job);
    free(self->reason);
    free(self->tasks);
    free(self->kept);
    free(self->files);
    free(self);
}

void extension_print(const extension *self, FILE *out)
{
    if (self == NULL)
        return;
    fprintf(out, "extends %s\n", json_string_value(json_object_get(self->manifest, "fingerprint")));
    for (size_t i = 0; i < self->file_count; i++)
        fprintf(out, "keeps %s %s\n", self->files[i].name, self->files[i].sha256);
}
