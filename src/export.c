/* SPDX-License-Identifier: Apache-2.0 */
/* A task's full checkpoint from artifacts and base: W = W0 + B_s A_s + B_t A_t + deltas, tensor by
 * tensor and panel by panel. */
#include "src/didi.h"

#include "src/base/file.h"
#include "src/base/memory.h"
#include "src/checkpoint.h"
#include "src/linalg.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PANEL_ELEMENTS = 1 << 20,
    MANIFEST_BYTES_MAX = 256 << 20,
    TASK_NAME_BYTES_MAX = 128,
};

/* One artifact file, read whole-tensor by whole-tensor. */
typedef struct part {
    int fd;
    safetensors_header *header;
    const char *label, *suffix_a, *suffix_b;
} part;

typedef struct export_job {
    checkpoint *base;
    part parts[2]; /* shared, expert */
    char expert_name[TASK_NAME_BYTES_MAX + 32];
    safetensors_writer *writer;
    int (*cancelled)(void *context);
    void *context;
} export_job;

static void part_close(part *self)
{
    safetensors_header_free(self->header);
    if (self->fd >= 0)
        (void)close(self->fd);
}

static int part_open(int artifact_fd, const char *name, part *self, didi_error *error)
{
    self->fd = openat(artifact_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (self->fd < 0)
        return didi_fail_errno(error, errno, name, "artifact file");
    return safetensors_header_read(self->fd, name, &self->header, error);
}

/* Reads an artifact tensor "tensor.suffix" as float32; *ret_values is NULL when it is absent. */
static int part_read(const part *self, const char *tensor, const char *suffix, float **ret_values,
                     const safetensors_tensor **ret_tensor, didi_error *error)
{
    char *name = memory_format("%s.%s", tensor, suffix);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor, "name of a factor");
    const safetensors_tensor *found = safetensors_header_find(self->header, name);
    free(name);
    *ret_values = NULL;
    if (found == NULL)
        return DIDI_OK;
    if (!didi_dtype_is_float(found->dtype))
        return didi_fail(error, DIDI_FORMAT, tensor, "factor has dtype %s",
                         didi_dtype_name(found->dtype));
    float *values = memory_aligned(found->elements, sizeof *values);
    char *raw = memory_aligned(found->bytes, 1);
    int status = DIDI_OK;
    if (values == NULL || raw == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, tensor, "factor of %llu bytes",
                           (unsigned long long)found->bytes);
    if (status == DIDI_OK)
        status = file_pread_all(self->fd, raw, found->bytes, found->offset, self->label, error);
    if (status == DIDI_OK)
        didi_dtype_to_f32(found->dtype, raw, values, found->elements);
    free(raw);
    if (status != DIDI_OK) {
        free(values);
        return status;
    }
    *ret_values = values;
    *ret_tensor = found;
    return DIDI_OK;
}

/* What one artifact file adds to a tensor. */
typedef struct addition {
    float *b, *a, *delta;
    uint64_t rank;
} addition;

static void addition_clear(addition *self)
{
    free(self->b);
    free(self->a);
    free(self->delta);
}

static int addition_read(const part *from, const safetensors_tensor *tensor, uint64_t rows,
                         uint64_t columns, addition *out, didi_error *error)
{
    const safetensors_tensor *b = NULL;
    const safetensors_tensor *a = NULL;
    const safetensors_tensor *delta = NULL;
    int status = part_read(from, tensor->name, from->suffix_b, &out->b, &b, error);
    if (status == DIDI_OK)
        status = part_read(from, tensor->name, from->suffix_a, &out->a, &a, error);
    if (status == DIDI_OK)
        status = part_read(from, tensor->name, "delta", &out->delta, &delta, error);
    if (status != DIDI_OK)
        return status;
    bool fits = (b == NULL) == (a == NULL);
    if (fits && b != NULL)
        fits = b->dimensions == 2 && a->dimensions == 2 && b->shape[0] == rows &&
               a->shape[1] == columns && b->shape[1] == a->shape[0];
    if (fits && delta != NULL)
        fits = delta->elements == tensor->elements;
    if (!fits)
        return didi_fail(error, DIDI_MISMATCH, tensor->name,
                         "factors in %s do not fit the base's tensor", from->label);
    out->rank = b != NULL ? b->shape[1] : 0;
    return DIDI_OK;
}

static void addition_apply(const addition *self, uint64_t columns, uint64_t first, uint64_t rows,
                           float *panel)
{
    if (self->rank > 0)
        linalg_gemm(false, false, rows, columns, self->rank, 1.0F, self->b + first * self->rank,
                    self->rank, self->a, columns, 1.0F, panel, columns);
    for (uint64_t i = 0; self->delta != NULL && i < rows * columns; i++)
        panel[i] += self->delta[first * columns + i];
}

static int export_raw(export_job *self, const checkpoint_tensor *source, didi_error *error)
{
    const safetensors_tensor *tensor = source->tensor;
    char *buffer = malloc(PANEL_ELEMENTS);
    int status =
        buffer != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, tensor->name, "copy buffer");
    for (uint64_t first = 0; first < tensor->bytes && status == DIDI_OK; first += PANEL_ELEMENTS) {
        uint64_t left = tensor->bytes - first;
        uint64_t count = left < PANEL_ELEMENTS ? left : PANEL_ELEMENTS;
        status = checkpoint_read(self->base, source, first, buffer, count, error);
        if (status == DIDI_OK)
            status = safetensors_writer_put_bytes(self->writer, tensor->name, first, buffer, count,
                                                  error);
    }
    free(buffer);
    return status;
}

static int export_panels(export_job *self, const checkpoint_tensor *source, uint64_t rows,
                         uint64_t columns, const addition *shared, const addition *expert,
                         didi_error *error)
{
    uint64_t step = PANEL_ELEMENTS / columns > 0 ? PANEL_ELEMENTS / columns : 1;
    float *panel = memory_aligned(step < rows ? step : rows, columns * sizeof(float));
    int status =
        panel != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, source->tensor->name, "panel");
    for (uint64_t first = 0; first < rows && status == DIDI_OK; first += step) {
        uint64_t count = rows - first < step ? rows - first : step;
        status =
            checkpoint_read_f32(self->base, source, first * columns, panel, count * columns, error);
        if (status != DIDI_OK)
            break;
        addition_apply(shared, columns, first, count, panel);
        addition_apply(expert, columns, first, count, panel);
        status = safetensors_writer_put_f32(self->writer, source->tensor->name, first * columns,
                                            panel, count * columns, error);
    }
    free(panel);
    return status;
}

static int export_tensor(export_job *self, const checkpoint_tensor *source, didi_error *error)
{
    const safetensors_tensor *tensor = source->tensor;
    if (self->cancelled != NULL && self->cancelled(self->context) != 0)
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    if (!didi_dtype_is_float(tensor->dtype) || tensor->elements == 0)
        return export_raw(self, source, error);
    addition shared = {0};
    addition expert = {0};
    uint64_t rows = tensor->dimensions >= 2 ? tensor->shape[0] : 1;
    uint64_t columns = tensor->elements / rows;
    int status = addition_read(&self->parts[0], tensor, rows, columns, &shared, error);
    if (status == DIDI_OK)
        status = addition_read(&self->parts[1], tensor, rows, columns, &expert, error);
    if (status == DIDI_OK && shared.rank == 0 && expert.rank == 0 && shared.delta == NULL &&
        expert.delta == NULL)
        status = export_raw(self, source, error);
    else if (status == DIDI_OK)
        status = export_panels(self, source, rows, columns, &shared, &expert, error);
    addition_clear(&shared);
    addition_clear(&expert);
    return status;
}

static int create_writer(export_job *self, int output_fd, const char *name, didi_error *error)
{
    static const char *const metadata[][2] = {{"format", "pt"}};
    size_t count = checkpoint_count(self->base);
    safetensors_layout_entry *entries = memory_zeroed(count, sizeof *entries);
    if (entries == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "layout of %zu tensors", count);
    for (size_t i = 0; i < count; i++) {
        const safetensors_tensor *tensor = checkpoint_at(self->base, i)->tensor;
        entries[i] = (safetensors_layout_entry){tensor->name, tensor->dtype, tensor->dimensions,
                                                tensor->shape};
    }
    int status = safetensors_writer_create(output_fd, name, entries, count, metadata, 1,
                                           &self->writer, error);
    free(entries);
    return status;
}

/* ---- the base must be the one that was merged ---- */

static int verify_base_files(const export_job *self, const json_t *files, didi_error *error)
{
    for (size_t f = 0; f < checkpoint_file_count(self->base); f++) {
        const checkpoint_file *file = checkpoint_file_at(self->base, f);
        const char *wanted = NULL;
        for (size_t i = 0; i < json_array_size(files) && wanted == NULL; i++) {
            const json_t *row = json_array_get(files, i);
            const char *name = json_string_value(json_object_get(row, "name"));
            if (name != NULL && strcmp(name, file->name) == 0)
                wanted = json_string_value(json_object_get(row, "sha256"));
        }
        char found[65];
        int status = checkpoint_digest(self->base, f, self->cancelled, self->context, found, error);
        if (status != DIDI_OK)
            return status;
        if (wanted == NULL || strcmp(wanted, found) != 0)
            return didi_fail(error, DIDI_CHANGED, checkpoint_label(self->base),
                             "%s/%s is not the base file that was merged",
                             checkpoint_label(self->base), file->name);
    }
    return DIDI_OK;
}

static int verify_base(const export_job *self, int artifact_fd, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    int status =
        file_read_text(artifact_fd, "manifest.json", MANIFEST_BYTES_MAX, &text, &bytes, error);
    if (status != DIDI_OK)
        return status;
    json_t *manifest = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
    const json_t *base = json_object_get(json_object_get(manifest, "inputs"), "base");
    const json_t *files = json_object_get(base, "files");
    if (!json_is_array(files))
        status = didi_fail(error, DIDI_FORMAT, "manifest.json", "the manifest lists no base files");
    else
        status = verify_base_files(self, files, error);
    json_decref(manifest);
    free(text);
    return status;
}

static int open_parts(export_job *self, int artifact_fd, const char *task, didi_error *error)
{
    size_t length = strlen(task);
    if (length == 0 || length > TASK_NAME_BYTES_MAX || task[0] == '.' || strchr(task, '/') != NULL)
        return didi_fail(error, DIDI_NOT_FOUND, task, "no such task");
    (void)snprintf(self->expert_name, sizeof self->expert_name, "experts/%s.safetensors", task);
    self->parts[0] = (part){-1, NULL, "shared.safetensors", "shared_A", "shared_B"};
    self->parts[1] = (part){-1, NULL, self->expert_name, "expert_A", "expert_B"};
    int status = part_open(artifact_fd, "shared.safetensors", &self->parts[0], error);
    return status == DIDI_OK ? part_open(artifact_fd, self->expert_name, &self->parts[1], error)
                             : status;
}

int didi_export_full(int artifact_fd, int base_fd, const char *base_label, const char *task,
                     int output_fd, bool check_base, int (*cancelled)(void *context), void *context,
                     didi_error *error)
{
    static const char partial[] = ".model.safetensors.partial";
    export_job self = {.cancelled = cancelled, .context = context};
    self.parts[0].fd = self.parts[1].fd = -1;
    int status = open_parts(&self, artifact_fd, task, error);
    if (status == DIDI_OK)
        status = checkpoint_open(base_fd, base_label, &self.base, error);
    if (status == DIDI_OK && check_base)
        status = verify_base(&self, artifact_fd, error);
    if (status == DIDI_OK) {
        (void)unlinkat(output_fd, partial, 0);
        status = create_writer(&self, output_fd, partial, error);
    }
    for (size_t i = 0; status == DIDI_OK && i < checkpoint_count(self.base); i++)
        status = export_tensor(&self, checkpoint_at(self.base, i), error);
    if (status == DIDI_OK)
        status = checkpoint_verify_unchanged(self.base, error);
    if (status == DIDI_OK) {
        status = safetensors_writer_close(self.writer, error);
        self.writer = NULL;
    }
    if (status == DIDI_OK)
        status = file_rename(output_fd, partial, output_fd, "model.safetensors", error);
    if (status == DIDI_OK)
        status = file_sync_directory(output_fd, "model.safetensors", error);
    safetensors_writer_abort(self.writer);
    if (status != DIDI_OK)
        (void)unlinkat(output_fd, partial, 0);
    part_close(&self.parts[0]);
    part_close(&self.parts[1]);
    checkpoint_close(self.base);
    return status;
}
