/* SPDX-License-Identifier: Apache-2.0 */
/* Artifacts: one file at a time from the layers' states into a temporary directory, then sealed
 * with a manifest and renamed into place. */
#include "src/merge_internal.h"

#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/base/memory.h"
#include "src/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_ELEMENTS = 1 << 16 };

/* One file's tensors: file 0 is shared, file t + 1 the expert of task t. */
typedef struct package_file {
    safetensors_layout_entry *entries;
    uint64_t (*shapes)[2];
    char **names;
    size_t count, room;
} package_file;

static void package_file_clear(package_file *self)
{
    for (size_t i = 0; self->names != NULL && i < self->count; i++)
        free(self->names[i]);
    free(self->names);
    free(self->shapes);
    free(self->entries);
}

static int package_file_create(package_file *self, size_t room, didi_error *error)
{
    *self = (package_file){.entries = memory_zeroed(room, sizeof(safetensors_layout_entry)),
                           .shapes = memory_zeroed(room, sizeof(uint64_t[2])),
                           .names = memory_zeroed(room, sizeof(char *)),
                           .room = room};
    if (self->entries == NULL || self->shapes == NULL || self->names == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layout of %zu tensors", room);
    return DIDI_OK;
}

static int package_file_add(package_file *self, int dtype, const char *tensor, const char *suffix,
                            size_t dimensions, const uint64_t *shape, didi_error *error)
{
    char *name = memory_format("%s.%s", tensor, suffix);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor, "name of a factor");
    size_t i = self->count++;
    self->names[i] = name;
    self->entries[i] = (safetensors_layout_entry){name, (didi_dtype)dtype, dimensions, shape};
    return DIDI_OK;
}

static int add_factors(package_file *self, int dtype, const family_tensor *tensor, size_t rank,
                       bool shared, didi_error *error)
{
    size_t at = self->count;
    self->shapes[at][0] = tensor->rows;
    self->shapes[at][1] = rank;
    self->shapes[at + 1][0] = rank;
    self->shapes[at + 1][1] = tensor->columns;
    int status = package_file_add(self, dtype, tensor->name, shared ? "shared_B" : "expert_B", 2,
                                  self->shapes[at], error);
    if (status == DIDI_OK)
        status = package_file_add(self, dtype, tensor->name, shared ? "shared_A" : "expert_A", 2,
                                  self->shapes[at + 1], error);
    return status;
}

static int lay_out(const didi_merge *self, size_t index, package_file *out, didi_error *error)
{
    int dtype = self->options.output_dtype;
    int status = package_file_create(out, 2 * self->layer_count + self->dense_count, error);
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++) {
        const layer_summary *summary = &self->summaries[l];
        const safetensors_tensor *base = self->layers[l]->base->tensor;
        if (summary->dense[index])
            status = package_file_add(out, dtype, base->name, "delta", base->dimensions,
                                      base->shape, error);
        else if (summary->rank[index] > 0)
            status =
                add_factors(out, dtype, self->layers[l], summary->rank[index], index == 0, error);
    }
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++) {
        const safetensors_tensor *base = self->dense[i]->base->tensor;
        if (merge_holds_delta(self, i, index))
            status = package_file_add(out, dtype, base->name, "delta", base->dimensions,
                                      base->shape, error);
    }
    return status;
}

/* Copies one array of a layer's state into the file. */
static int copy_array(const didi_merge *self, const state *from, safetensors_writer *writer,
                      const char *source, size_t index, uint64_t rows, uint64_t columns,
                      const char *tensor, const char *suffix, didi_error *error)
{
    char array[32];
    const void *data = NULL;
    uint64_t found = 0;
    (void)snprintf(array, sizeof array, "%s.%zu", source, index);
    didi_dtype dtype = (didi_dtype)self->options.output_dtype;
    int status = state_find(from, array, dtype, columns, &found, &data, error);
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

static int write_layer(const didi_merge *self, size_t l, size_t index, safetensors_writer *writer,
                       didi_error *error)
{
    const family_tensor *tensor = self->layers[l];
    const layer_summary *summary = &self->summaries[l];
    size_t rank = summary->rank[index];
    char name[64];
    state *from = NULL;
    if (rank == 0 && !summary->dense[index])
        return DIDI_OK;
    merge_state_name(PHASE_REFINE, l, name);
    int status = state_open(self->options.work_fd, name, &from, error);
    if (status == DIDI_OK && summary->dense[index]) {
        status = copy_array(self, from, writer, "delta", index, tensor->rows, tensor->columns,
                            tensor->name, "delta", error);
    } else if (status == DIDI_OK) {
        status = copy_array(self, from, writer, "B", index, tensor->rows, rank, tensor->name,
                            index == 0 ? "shared_B" : "expert_B", error);
        if (status == DIDI_OK)
            status = copy_array(self, from, writer, "A", index, rank, tensor->columns, tensor->name,
                                index == 0 ? "shared_A" : "expert_A", error);
    }
    state_close(from);
    return status;
}

typedef struct piece_buffers {
    float *delta, *spare;
    double *sum;
} piece_buffers;

/* One piece of what is stored of a dense tensor: a task's delta, or the mean of all (index 0). */
static int read_piece(didi_merge *self, const family_tensor *tensor, size_t index, uint64_t first,
                      uint64_t count, piece_buffers *buffers, didi_error *error)
{
    size_t tasks = self->options.task_count;
    if (index > 0)
        return family_read_delta(self->family, tensor, index - 1, first, count, buffers->delta,
                                 buffers->spare, &self->bytes_read, error);
    memset(buffers->sum, 0, count * sizeof *buffers->sum);
    for (size_t t = 0; t < tasks; t++) {
        int status = family_read_delta(self->family, tensor, t, first, count, buffers->delta,
                                       buffers->spare, &self->bytes_read, error);
        if (status != DIDI_OK)
            return status;
        for (uint64_t i = 0; i < count; i++)
            buffers->sum[i] += (double)buffers->delta[i];
    }
    merge_mean_of(buffers->sum, tasks, count, buffers->delta);
    return DIDI_OK;
}

static int write_delta(didi_merge *self, const family_tensor *tensor, size_t index,
                       safetensors_writer *writer, piece_buffers *buffers, didi_error *error)
{
    char *name = memory_format("%s.delta", tensor->name);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "name of a delta");
    int status = DIDI_OK;
    for (uint64_t first = 0; first < tensor->elements && status == DIDI_OK;
         first += PIECE_ELEMENTS) {
        uint64_t left = tensor->elements - first;
        uint64_t count = left < PIECE_ELEMENTS ? left : PIECE_ELEMENTS;
        status = read_piece(self, tensor, index, first, count, buffers, error);
        if (status == DIDI_OK)
            status = safetensors_writer_put_f32(writer, name, first, buffers->delta, count, error);
    }
    free(name);
    return status;
}

static int write_tensors(didi_merge *self, size_t index, safetensors_writer *writer,
                         didi_error *error)
{
    piece_buffers buffers = {.delta = memory_aligned(PIECE_ELEMENTS, sizeof(float)),
                             .spare = memory_aligned(PIECE_ELEMENTS, sizeof(float)),
                             .sum = memory_aligned(PIECE_ELEMENTS, sizeof(double))};
    int status = buffers.delta != NULL && buffers.spare != NULL && buffers.sum != NULL
                     ? family_verify_unchanged(self->family, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "buffers of an artifact");
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++) {
        if (atomic_load(&self->cancelled))
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        else
            status = write_layer(self, l, index, writer, error);
    }
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++)
        if (merge_holds_delta(self, i, index))
            status = write_delta(self, self->dense[i], index, writer, &buffers, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(self->family, error);
    free(buffers.delta);
    free(buffers.spare);
    free(buffers.sum);
    return status;
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
    static const char *const metadata[][2] = {{"format", "didi"}, {"didi_format", "1"}};
    char name[MERGE_NAME_BYTES_MAX + 32];
    package_file layout = {0};
    safetensors_writer *writer = NULL;
    int directory = -1;
    if (index == 0 && self->extension != NULL)
        return extension_link(self->extension, self->package_fd, error);
    file_name(self, index, name);
    int status = lay_out(self, index, &layout, error);
    if (status == DIDI_OK)
        status = file_open_directory(self->package_fd, index == 0 ? "." : "experts", 0, &directory,
                                     error);
    if (status == DIDI_OK)
        status = safetensors_writer_create(directory, name, layout.entries, layout.count, metadata,
                                           2, &writer, error);
    if (status == DIDI_OK)
        status = write_tensors(self, index, writer, error);
    if (status == DIDI_OK) {
        status = safetensors_writer_close(writer, error);
        writer = NULL;
    }
    safetensors_writer_abort(writer);
    if (directory >= 0)
        (void)close(directory);
    package_file_clear(&layout);
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
