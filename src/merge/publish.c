/* SPDX-License-Identifier: Apache-2.0 */
/* Artifacts: one file at a time from the layers' snapshots into a temporary directory, then sealed
 * with a manifest and renamed into place. */
#include "src/merge/merge.h"

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/package/package.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Copies one array of a snapshot into the file. */
static int copy_array(const snapshot *from, safetensors_writer *writer, const char *tensor,
                      size_t file, const stored_array *array, didi_error *error)
{
    const void *data = NULL;
    int status = stored_array_find(from, tensor, file, array, &data, error);
    if (status != DIDI_OK)
        return status;
    char *name = memory_format("%s.%s", tensor, array->suffix);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor, "name of a factor");
    uint64_t bytes = array->rows * array->columns * didi_dtype_bits(array->dtype) / 8;
    status = safetensors_writer_put_bytes(writer, name, 0, data, bytes, error);
    free(name);
    return status;
}

static int write_layer(const work *self, size_t l, size_t file, safetensors_writer *writer,
                       didi_error *error)
{
    stored_tensor tensor = stored_tensor_of(self->layers[l]);
    stored_part part = stored_part_of(&self->summaries[l], file);
    stored_array arrays[STORED_ARRAYS_MAX];
    size_t count = stored_arrays(&tensor, &part, file, self->options.precision, arrays);
    char name[64];
    snapshot *from = NULL;
    if (count == 0)
        return DIDI_OK;
    work_snapshot_name(self->stored, l, name);
    int status = snapshot_open(self->options.work_fd, name, &from, error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        status = copy_array(from, writer, self->layers[l]->name, file, &arrays[i], error);
    snapshot_close(from);
    return status;
}

static int write_tensors(work *self, size_t file, safetensors_writer *writer, didi_error *error)
{
    int status = family_verify_unchanged(self->family, error);
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++)
        if (atomic_load(&self->cancelled))
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        else
            status = write_layer(self, l, file, writer, error);
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++)
        if (work_holds_delta(self, i, file))
            status = work_write_dense(self, i, file, writer, error);
    if (status == DIDI_OK && file > 0)
        status = work_write_own(self, file - 1, writer, error);
    return status == DIDI_OK ? family_verify_unchanged(self->family, error) : status;
}

static void file_name(const didi_merge *self, size_t index, char name[MERGE_NAME_BYTES_MAX + 32])
{
    const char *expert = index > 0 ? self->work.options.tasks[index - 1].name : NULL;
    (void)snprintf(name, MERGE_NAME_BYTES_MAX + 32, "%s.safetensors",
                   expert != NULL ? expert : "shared");
}

int merge_write_file(didi_merge *self, size_t index, didi_error *error)
{
    char name[MERGE_NAME_BYTES_MAX + 32];
    package_layout found = {0};
    safetensors_writer *writer = NULL;
    int directory = -1;
    if (index < extension_first_file(self->work.extension))
        return extension_link(self->work.extension, self->package_fd, error);
    file_name(self, index, name);
    int status = fault_check(FAULT_WRITE, name, error);
    if (status == DIDI_OK)
        status = work_file_layout(&self->work, index, &found, error);
    if (status == DIDI_OK)
        status = file_open_directory(self->package_fd, index == 0 ? "." : "experts", 0, &directory,
                                     error);
    safetensors_contents contents = package_layout_contents(&found, self->work.options.precision);
    if (status == DIDI_OK)
        status = safetensors_writer_create(directory, name, &contents, &writer, error);
    if (status == DIDI_OK)
        status = write_tensors(&self->work, index, writer, error);
    if (status == DIDI_OK) {
        status = safetensors_writer_close(writer, true, error);
        writer = NULL;
    }
    safetensors_writer_abort(writer);
    file_close(directory);
    package_layout_clear(&found);
    return status;
}

int merge_open_package(didi_merge *self, didi_error *error)
{
    int experts = -1;
    (void)snprintf(self->package_name, sizeof self->package_name, ".%s.partial",
                   self->work.options.output_name);
    int status = file_remove_tree(self->output_fd, self->package_name, error);
    if (status == DIDI_OK)
        status =
            file_open_directory(self->output_fd, self->package_name, 1, &self->package_fd, error);
    if (status == DIDI_OK && !self->work.options.survey)
        status = file_open_directory(self->package_fd, "experts", 1, &experts, error);
    file_close(experts);
    return status;
}

/* ---- sealing ---- */

static int digest_file(didi_merge *self, size_t index, published_file *out, didi_error *error)
{
    char name[MERGE_NAME_BYTES_MAX + 32];
    file_name(self, index, name);
    out->name = memory_format("%s%s", index == 0 ? "" : "experts/", name);
    if (out->name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "file names");
    int fd = openat(self->package_fd, out->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return didi_fail_errno(error, errno, out->name, "opening the artifact");
    int status = file_sha256(fd, NULL, NULL, out->digest, &out->bytes, out->name, error);
    (void)close(fd);
    self->work.published_bytes += out->bytes;
    return status;
}

/* The rename that makes the package appear; an older package of that name is an error. */
static int publish(didi_merge *self, didi_error *error)
{
    int status = file_sync(self->package_fd, self->package_name, error);
    int experts = -1;
    if (status == DIDI_OK && !self->work.options.survey)
        status = file_open_directory(self->package_fd, "experts", 0, &experts, error);
    if (status == DIDI_OK && experts >= 0)
        status = file_sync(experts, "experts", error);
    file_close(experts);
    if (status != DIDI_OK)
        return status;
    int fault = fault_at(FAULT_RENAME);
    if (fault == 0)
        fault = fault_at(FAULT_PUBLISH);
    if (fault != 0 || renameat2(self->output_fd, self->package_name, self->output_fd,
                                self->work.options.output_name, RENAME_NOREPLACE) != 0)
        return didi_fail_errno(error, fault != 0 ? fault : errno, self->work.options.output_name,
                               "publishing the artifacts");
    (void)fault_at(FAULT_PUBLISHED); /* only to be killed here */
    return file_sync(self->output_fd, self->work.options.output_name, error);
}

static int leave_for_others(const didi_merge *self, didi_error *error)
{
    json_t *left = self->method->leave(self->self);
    return left != NULL ? work_reuse_write(&self->work, self->fingerprint, left, error)
                        : didi_fail(error, DIDI_NO_MEMORY, NULL, "what another merge starts from");
}

int merge_seal(didi_merge *self, didi_error *error)
{
    size_t count = self->work.options.survey ? 0 : self->work.options.task_count + 1;
    published_file *files = memory_zeroed(count, sizeof *files);
    char *text = NULL;
    int status = DIDI_OK;
    if (files == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "manifest");
    self->work.published_bytes = 0;
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        status = digest_file(self, i, &files[i], error);
    if (status == DIDI_OK)
        status = manifest_text(self, files, count, &text, error);
    if (status == DIDI_OK && atomic_load(&self->work.cancelled))
        status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    if (status == DIDI_OK)
        status = file_write_durable(self->package_fd, "manifest.json", text, strlen(text), error);
    if (status == DIDI_OK && self->work.options.keep_work && self->method->leave != NULL)
        status = leave_for_others(self, error);
    if (status == DIDI_OK)
        status = publish(self, error);
    for (size_t i = 0; i < count; i++)
        free(files[i].name);
    free(files);
    free(text);
    return status;
}
