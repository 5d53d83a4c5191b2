/* SPDX-License-Identifier: Apache-2.0 */
/* Artifacts: one file at a time from the layers' states into a temporary directory, then sealed
 * with a manifest and renamed into place. */
#include "src/package/layout.h"
#include "src/package/package.h"

#include "src/base/base.h"
#include "src/files/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Copies one array of a layer's state into the file; its rows must be `rows`. */
static int copy_array(const snapshot *from, safetensors_writer *writer, const char *source,
                      size_t index, didi_dtype dtype, uint64_t rows, uint64_t columns,
                      const char *tensor, const char *suffix, didi_error *error)
{
    char array[32];
    const void *data = NULL;
    uint64_t found = 0;
    (void)snprintf(array, sizeof array, "%s.%zu", source, index);
    int status = snapshot_find(from, array, dtype, columns, &found, &data, error);
    if (status == DIDI_OK && found != rows)
        status = didi_fail(error, DIDI_FORMAT, tensor, "layer state holds %llu rows of %llu",
                           (unsigned long long)found, (unsigned long long)rows);
    if (status != DIDI_OK)
        return status;
    char *name = memory_format("%s.%s", tensor, suffix);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor, "name of a factor");
    status = safetensors_writer_put_bytes(writer, name, 0, data,
                                          rows * columns * didi_dtype_bits(dtype) / 8, error);
    free(name);
    return status;
}

/* The packed bytes of a block, as many as the layout has room for. */
static int copy_packed(const snapshot *from, safetensors_writer *writer, size_t index,
                       const char *tensor, bool dense, didi_error *error)
{
    const char *suffix = dense ? "delta_packed" : index == 0 ? "shared_packed" : "expert_packed";
    char array[32];
    const void *data = NULL;
    uint64_t bytes = 0;
    (void)snprintf(array, sizeof array, "packed.%zu", index);
    int status = snapshot_find(from, array, DIDI_DTYPE_U8, 1, &bytes, &data, error);
    return status == DIDI_OK ? copy_array(from, writer, "packed", index, DIDI_DTYPE_U8, bytes, 1,
                                          tensor, suffix, error)
                             : status;
}

static int write_layer(const didi_merge *self, size_t l, size_t index, safetensors_writer *writer,
                       didi_error *error)
{
    const family_tensor *tensor = self->layers[l];
    const layer_summary *summary = &self->summaries[l];
    const char *of = tensor->name;
    didi_dtype dtype = DIDI_DTYPE_U8;
    bool plain = precision_is_plain(self->options.precision, &dtype);
    size_t rank = summary->rank[index];
    char name[64];
    snapshot *from = NULL;
    if (rank == 0 && !summary->dense[index])
        return DIDI_OK;
    merge_state_name(self, PHASE_REFINE, l, name);
    int status = snapshot_open(self->options.work_fd, name, &from, error);
    if (status != DIDI_OK)
        return status;
    if (!plain) {
        status = copy_packed(from, writer, index, of, summary->dense[index], error);
    } else if (summary->dense[index]) {
        status = copy_array(from, writer, "delta", index, dtype, tensor->rows, tensor->columns, of,
                            "delta", error);
    } else {
        status = copy_array(from, writer, "B", index, dtype, tensor->rows, rank, of,
                            index == 0 ? "shared_B" : "expert_B", error);
        if (status == DIDI_OK)
            status = copy_array(from, writer, "A", index, dtype, rank, tensor->columns, of,
                                index == 0 ? "shared_A" : "expert_A", error);
    }
    snapshot_close(from);
    return status;
}

static int write_tensors(didi_merge *self, size_t index, safetensors_writer *writer,
                         didi_error *error)
{
    int status = family_verify_unchanged(self->family, error);
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++)
        if (atomic_load(&self->cancelled))
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        else
            status = write_layer(self, l, index, writer, error);
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++)
        if (merge_holds_delta(self, i, index))
            status = merge_write_dense(self, i, index, writer, error);
    return status == DIDI_OK ? family_verify_unchanged(self->family, error) : status;
}

static void file_name(const didi_merge *self, size_t index, char name[MERGE_NAME_BYTES_MAX + 32])
{
    if (index == 0)
        (void)snprintf(name, MERGE_NAME_BYTES_MAX + 32, "shared.safetensors");
    else
        (void)snprintf(name, MERGE_NAME_BYTES_MAX + 32, "%s.safetensors",
                       self->options.tasks[index - 1].name);
}

int merge_write_file(didi_merge *self, size_t index, didi_error *error)
{
    char name[MERGE_NAME_BYTES_MAX + 32];
    package_layout found = {0};
    safetensors_writer *writer = NULL;
    int directory = -1;
    if (index == 0 && self->extension != NULL)
        return extension_link(self->extension, self->package_fd, error);
    file_name(self, index, name);
    int status = package_layout_create(self, index, &found, error);
    if (status == DIDI_OK)
        status = file_open_directory(self->package_fd, index == 0 ? "." : "experts", 0, &directory,
                                     error);
    if (status == DIDI_OK)
        status = safetensors_writer_create(directory, name, found.entries, found.count,
                                           package_layout_metadata(self), PACKAGE_METADATA, &writer,
                                           error);
    if (status == DIDI_OK)
        status = write_tensors(self, index, writer, error);
    if (status == DIDI_OK) {
        status = safetensors_writer_close(writer, error);
        writer = NULL;
    }
    safetensors_writer_abort(writer);
    if (directory >= 0)
        (void)close(directory);
    package_layout_clear(&found);
    return status;
}

int merge_open_package(didi_merge *self, didi_error *error)
{
    int experts = -1;
    (void)snprintf(self->package_name, sizeof self->package_name, ".%s.partial",
                   self->options.output_name);
    int status = file_remove_tree(self->output_fd, self->package_name, error);
    if (status == DIDI_OK)
        status =
            file_open_directory(self->output_fd, self->package_name, 1, &self->package_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(self->package_fd, "experts", 1, &experts, error);
    if (experts >= 0)
        (void)close(experts);
    return status;
}

/* ---- sealing ---- */

typedef struct seal {
    char **names;
    uint64_t *bytes;
    char (*digests)[65];
    size_t count;
} seal;

static int digest_file(didi_merge *self, seal *work, size_t index, didi_error *error)
{
    char name[MERGE_NAME_BYTES_MAX + 32];
    file_name(self, index, name);
    work->names[index] = memory_format("%s%s", index == 0 ? "" : "experts/", name);
    if (work->names[index] == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "file names");
    int fd = openat(self->package_fd, work->names[index], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return didi_fail_errno(error, errno, work->names[index], "opening the artifact");
    int status = file_sha256(fd, NULL, NULL, work->digests[index], &work->bytes[index],
                             work->names[index], error);
    (void)close(fd);
    self->published_bytes += work->bytes[index];
    return status;
}

/* The rename that makes the package appear; an older package of that name is an error. */
static int publish(didi_merge *self, didi_error *error)
{
    int status = file_sync_directory(self->package_fd, self->package_name, error);
    int experts = -1;
    if (status == DIDI_OK)
        status = file_open_directory(self->package_fd, "experts", 0, &experts, error);
    if (status == DIDI_OK)
        status = file_sync_directory(experts, "experts", error);
    if (experts >= 0)
        (void)close(experts);
    if (status != DIDI_OK)
        return status;
    int fault = fault_at(FAULT_RENAME);
    if (fault != 0 || renameat2(self->output_fd, self->package_name, self->output_fd,
                                self->options.output_name, RENAME_NOREPLACE) != 0)
        return didi_fail_errno(error, fault != 0 ? fault : errno, self->options.output_name,
                               "publishing the artifacts");
    return file_sync_directory(self->output_fd, self->options.output_name, error);
}

int merge_seal(didi_merge *self, didi_error *error)
{
    seal work = {.count = self->options.task_count + 1};
    char *text = NULL;
    work.names = memory_zeroed(work.count, sizeof(char *));
    work.bytes = memory_zeroed(work.count, sizeof(uint64_t));
    work.digests = memory_zeroed(work.count, 65);
    int status = DIDI_OK;
    if (work.names == NULL || work.bytes == NULL || work.digests == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "manifest");
    self->published_bytes = 0;
    for (size_t i = 0; i < work.count && status == DIDI_OK; i++)
        status = digest_file(self, &work, i, error);
    if (status == DIDI_OK)
        status = manifest_text(self, (const char *const *)work.names, work.bytes,
                               (const char(*)[65])work.digests, work.count, &text, error);
    if (status == DIDI_OK && atomic_load(&self->cancelled))
        status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    if (status == DIDI_OK)
        status = file_write_durable(self->package_fd, "manifest.json", text, strlen(text), error);
    if (status == DIDI_OK && self->options.keep_work && self->extension == NULL)
        status = merge_reuse_write(self, error);
    if (status == DIDI_OK)
        status = publish(self, error);
    for (size_t i = 0; work.names != NULL && i < work.count; i++)
        free(work.names[i]);
    free(work.names);
    free(work.bytes);
    free(work.digests);
    free(text);
    return status;
}
