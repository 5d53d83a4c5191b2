/* SPDX-License-Identifier: Apache-2.0 */
/* A task's full checkpoint from artifacts and base: W = W0 + what the shared file and the expert's
 * add, tensor by tensor and panel by panel. */
#include "src/didi.h"

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/package/reader.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PANEL_ELEMENTS = 1 << 20 };

typedef struct export_job {
    const didi_export *wanted;
    checkpoint *base;
    package_file *shared, *expert;
    safetensors_writer *writer;
} export_job;

static int export_raw(export_job *self, const checkpoint_tensor *source, didi_error *error)
{
    const safetensors_tensor *tensor = source->tensor;
    char *buffer = malloc(PANEL_ELEMENTS);
    int status =
        buffer != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, tensor->name, "copy buffer");
    for (uint64_t first = 0; first < tensor->bytes && status == DIDI_OK; first += PANEL_ELEMENTS) {
        uint64_t count = smaller(tensor->bytes - first, PANEL_ELEMENTS);
        status = checkpoint_read(self->base, source, first, buffer, count, error);
        if (status == DIDI_OK)
            status = safetensors_writer_put_bytes(self->writer, tensor->name, first, buffer, count,
                                                  error);
    }
    free(buffer);
    return status;
}

/* Sums all additions before they meet the base's larger numbers, so that W is rounded once. */
static int add_to_panel(const addition *shared, const addition *expert, uint64_t first,
                        uint64_t rows, float *panel, float *sum, didi_error *error)
{
    uint64_t count = rows * shared->columns;
    memset(sum, 0, count * sizeof *sum);
    int status = addition_apply(shared, first, rows, sum, error);
    if (status == DIDI_OK)
        status = addition_apply(expert, first, rows, sum, error);
    for (uint64_t i = 0; i < count && status == DIDI_OK; i++)
        panel[i] += sum[i];
    return status;
}

static int export_panels(export_job *self, const checkpoint_tensor *source, const addition *shared,
                         const addition *expert, didi_error *error)
{
    const char *name = source->tensor->name;
    uint64_t rows = shared->rows;
    uint64_t columns = shared->columns;
    uint64_t step = PANEL_ELEMENTS / columns > 0 ? PANEL_ELEMENTS / columns : 1;
    step = step < rows ? step : rows;
    float *panel = memory_aligned(2 * step, columns * sizeof *panel);
    int status = panel != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, name, "panel");
    for (uint64_t first = 0; first < rows && status == DIDI_OK; first += step) {
        uint64_t count = rows - first < step ? rows - first : step;
        status =
            checkpoint_read_f32(self->base, source, first * columns, panel, count * columns, error);
        if (status == DIDI_OK)
            status =
                add_to_panel(shared, expert, first, count, panel, panel + step * columns, error);
        if (status == DIDI_OK)
            status = safetensors_writer_put_f32(self->writer, name, first * columns, panel,
                                                count * columns, error);
    }
    free(panel);
    return status;
}

static int export_tensor(export_job *self, const checkpoint_tensor *source, didi_error *error)
{
    const safetensors_tensor *tensor = source->tensor;
    const didi_export *wanted = self->wanted;
    if (wanted->cancelled != NULL && wanted->cancelled(wanted->context) != 0)
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    if (!didi_dtype_is_float(tensor->dtype) || tensor->elements == 0)
        return export_raw(self, source, error);
    addition shared = {0};
    addition expert = {0};
    uint64_t rows = tensor->dimensions >= 2 ? tensor->shape[0] : 1;
    uint64_t columns = tensor->elements / rows;
    int status = package_file_read(self->shared, tensor->name, rows, columns, &shared, error);
    if (status == DIDI_OK)
        status = package_file_read(self->expert, tensor->name, rows, columns, &expert, error);
    if (status == DIDI_OK && addition_is_empty(&shared) && addition_is_empty(&expert))
        status = export_raw(self, source, error);
    else if (status == DIDI_OK)
        status = export_panels(self, source, &shared, &expert, error);
    addition_clear(&shared);
    addition_clear(&expert);
    return status;
}

static int create_writer(export_job *self, const char *name, didi_error *error)
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
    safetensors_contents contents = {entries, count, metadata, 1};
    int status =
        safetensors_writer_create(self->wanted->output_fd, name, &contents, &self->writer, error);
    free(entries);
    return status;
}

/* ---- the base must be the one that was merged ---- */

static int verify_base_files(const export_job *self, const json_t *files, didi_error *error)
{
    for (size_t f = 0; f < checkpoint_file_count(self->base); f++) {
        const checkpoint_file *file = checkpoint_file_at(self->base, f);
        const json_t *row = manifest_file_row(files, "name", file->name);
        const char *wanted = json_string_value(json_object_get(row, "sha256"));
        char found[65];
        int status = checkpoint_digest(self->base, f, self->wanted->cancelled,
                                       self->wanted->context, found, error);
        if (status != DIDI_OK)
            return status;
        if (wanted == NULL || strcmp(wanted, found) != 0)
            return didi_fail(error, DIDI_CHANGED, checkpoint_label(self->base),
                             "%s/%s is not the base file that was merged",
                             checkpoint_label(self->base), file->name);
    }
    return DIDI_OK;
}

static int verify_base(const export_job *self, didi_error *error)
{
    json_t *manifest = NULL;
    int status = manifest_file_read(self->wanted->artifact_fd, &manifest, error);
    if (status != DIDI_OK)
        return status;
    const json_t *files = manifest_file_base(manifest);
    if (files == NULL)
        status = didi_fail(error, DIDI_FORMAT, "manifest.json", "the manifest lists no base files");
    else
        status = verify_base_files(self, files, error);
    json_decref(manifest);
    return status;
}

int didi_export_full(const didi_export *wanted, didi_error *error)
{
    static const char partial[] = ".model.safetensors.partial";
    export_job self = {.wanted = wanted};
    int output_fd = wanted->output_fd;
    int status = package_file_open(wanted->artifact_fd, NULL, &self.shared, error);
    if (status == DIDI_OK)
        status = package_file_open(wanted->artifact_fd, wanted->task, &self.expert, error);
    if (status == DIDI_OK)
        status = checkpoint_open_within(wanted->base_fd, &wanted->links, wanted->base_label,
                                        &self.base, error);
    if (status == DIDI_OK && wanted->verify_base)
        status = verify_base(&self, error);
    if (status == DIDI_OK) {
        (void)unlinkat(output_fd, partial, 0);
        status = create_writer(&self, partial, error);
    }
    for (size_t i = 0; status == DIDI_OK && i < checkpoint_count(self.base); i++)
        status = export_tensor(&self, checkpoint_at(self.base, i), error);
    if (status == DIDI_OK)
        status = checkpoint_verify_unchanged(self.base, error);
    if (status == DIDI_OK) {
        status = safetensors_writer_close(self.writer, true, error);
        self.writer = NULL;
    }
    if (status == DIDI_OK)
        status = file_rename(output_fd, partial, output_fd, "model.safetensors", error);
    if (status == DIDI_OK)
        status = file_sync(output_fd, "model.safetensors", error);
    safetensors_writer_abort(self.writer);
    if (status != DIDI_OK)
        (void)unlinkat(output_fd, partial, 0);
    package_file_close(self.shared);
    package_file_close(self.expert);
    checkpoint_close(self.base);
    return status;
}
