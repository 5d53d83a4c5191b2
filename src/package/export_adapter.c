/* SPDX-License-Identifier: Apache-2.0 */
/* A task's LoRA adapter out of a package: the tensors are laid out, made one by one, measured, and
 * published with their texts by one rename. */
#include "src/didi.h"

#include "src/base/base.h"
#include "src/math/math.h"
#include "src/package/adapter.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PANEL_ELEMENTS = 1 << 20, SIDES = 2, DIMENSIONS = 4 };

typedef struct adapter_job {
    adapter_plan plan;
    checkpoint *base;
    package_file *files[2];
    json_t *manifest;
    safetensors_writer *writer;
    int directory_fd; /* of the adapter that is being made; borrowed */
    uint64_t bytes;
    task_model *task;
} adapter_job;

/* A LoRA's arrays as the file has them: side 0 is A, rank x length; side 1 is B, length x rank. */
typedef struct lora_side {
    char *name;
    const float *rows; /* rank x length */
    uint64_t length;
} lora_side;

static char *side_name(const adapter_tensor *tensor, size_t side)
{
    return memory_format(tensor->kind == ADAPTER_EMBEDDING ? "base_model.model.%s.lora_embedding_%s"
                                                           : "base_model.model.%s.lora_%s.weight",
                         tensor->path, side == 0 ? "A" : "B");
}

static int side_of(const adapter_tensor *tensor, size_t side, const adapter_factors *factors,
                   lora_side *ret_side, didi_error *error)
{
    bool of_rows = (side == 0) == tensor->transposed;
    lora_side self = {.name = side_name(tensor, side),
                      .length = of_rows ? tensor->rows : tensor->columns};
    if (self.name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->path, "name of a factor");
    if (factors != NULL)
        self.rows = of_rows ? factors->left : factors->right;
    *ret_side = self;
    return DIDI_OK;
}

/* ---- layout */

typedef struct layout {
    safetensors_layout_entry *entries;
    uint64_t (*shapes)[DIMENSIONS];
    char **names;
    size_t count;
} layout;

static void set_shape(const adapter_tensor *tensor, size_t side, uint64_t length,
                      safetensors_layout_entry *entry, uint64_t shape[DIMENSIONS])
{
    bool convolution = tensor->kind == ADAPTER_CONVOLUTION;
    const uint64_t *base = tensor->base->tensor->shape;
    shape[0] = side == 0 ? tensor->padded : length;
    shape[1] = side == 0 ? length : tensor->padded;
    shape[2] = shape[3] = 1;
    if (convolution && side == 0)
        memcpy(shape + 1, base + 1, 3 * sizeof *shape);
    entry->shape = shape;
    entry->dimensions = convolution ? 4 : 2;
}

static int layout_add(layout *self, const adapter_plan *plan, const adapter_tensor *tensor,
                      didi_error *error)
{
    if (tensor->role == ADAPTER_SAVED) {
        const safetensors_tensor *base = tensor->base->tensor;
        char *name = memory_format("base_model.model.%s", tensor->name);
        if (name == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, base->name, "name of a tensor");
        self->names[self->count] = name;
        self->entries[self->count++] =
            (safetensors_layout_entry){name, base->dtype, base->dimensions, base->shape};
    }
    for (size_t side = 0; side < SIDES && tensor->role == ADAPTER_LORA; side++) {
        lora_side made = {0};
        safetensors_layout_entry *entry = &self->entries[self->count];
        int status = side_of(tensor, side, NULL, &made, error);
        if (status != DIDI_OK)
            return status;
        set_shape(tensor, side, made.length, entry, self->shapes[self->count]);
        self->names[self->count++] = made.name;
        entry->name = made.name;
        entry->dtype = plan->dtype;
    }
    return DIDI_OK;
}

static int layout_add_own(layout *self, const task_tensor *tensor, didi_error *error)
{
    char *name = memory_format("base_model.model.%s", tensor->name);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "name of a tensor");
    self->names[self->count] = name;
    self->entries[self->count++] =
        (safetensors_layout_entry){name, tensor->dtype, tensor->dimensions, tensor->shape};
    return DIDI_OK;
}

static int create_writer(adapter_job *self, didi_error *error)
{
    static const char *const metadata[][2] = {{"format", "pt"}};
    const adapter_plan *plan = &self->plan;
    size_t room = SIDES * plan->count + task_model_count(self->task);
    layout of = {.entries = memory_zeroed(room, sizeof *of.entries),
                 .shapes = memory_zeroed(room, sizeof *of.shapes),
                 .names = memory_zeroed(room, sizeof *of.names)};
    int status = DIDI_OK;
    if (of.entries == NULL || of.shapes == NULL || of.names == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "layout of %zu tensors", room);
    for (size_t i = 0; i < plan->count && status == DIDI_OK; i++)
        status = layout_add(&of, plan, &plan->tensors[i], error);
    for (size_t i = 0; i < task_model_count(self->task) && status == DIDI_OK; i++)
        if (adapter_saves_own(plan, task_model_at(self->task, i)))
            status = layout_add_own(&of, task_model_at(self->task, i), error);
    safetensors_contents contents = {
        .entries = of.entries, .count = of.count, .metadata = metadata, .metadata_count = 1};
    if (status == DIDI_OK)
        status = safetensors_layout_bytes(&contents, &self->bytes, error);
    if (status == DIDI_OK)
        status = safetensors_writer_create(self->directory_fd, "adapter_model.safetensors",
                                           &contents, &self->writer, error);
    for (size_t i = 0; i < of.count; i++)
        free(of.names[i]);
    free(of.entries);
    free(of.shapes);
    free(of.names);
    return status;
}

/* ---- tensors */

/* A: the rows as they are, then zeros. */
static int write_a(adapter_job *self, const adapter_tensor *tensor, const lora_side *side,
                   didi_error *error)
{
    uint64_t done = side->rows != NULL ? tensor->rank * side->length : 0;
    uint64_t left = tensor->padded * side->length - done;
    int status = DIDI_OK;
    if (done > 0)
        status = safetensors_writer_put_f32(self->writer, side->name, 0, side->rows, done, error);
    if (status != DIDI_OK || left == 0)
        return status;
    uint64_t step = smaller(left, PANEL_ELEMENTS);
    float *zeros = memory_zeroed(step, sizeof *zeros);
    if (zeros == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->path, "panel");
    for (uint64_t first = 0; first < left && status == DIDI_OK; first += step)
        status = safetensors_writer_put_f32(self->writer, side->name, done + first, zeros,
                                            smaller(left - first, step), error);
    free(zeros);
    return status;
}

/* B: the rows become columns, with columns of zeros behind. */
static int write_b(adapter_job *self, const adapter_tensor *tensor, const lora_side *side,
                   didi_error *error)
{
    uint64_t width = tensor->padded;
    uint64_t step = smaller(larger(PANEL_ELEMENTS / width, 1), side->length);
    float *panel = memory_zeroed(step, width * sizeof *panel);
    if (panel == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->path, "panel");
    int status = DIDI_OK;
    for (uint64_t first = 0; first < side->length && status == DIDI_OK; first += step) {
        uint64_t count = smaller(side->length - first, step);
        for (uint64_t k = 0; side->rows != NULL && k < tensor->rank; k++)
            for (uint64_t i = 0; i < count; i++)
                panel[i * width + k] = side->rows[k * side->length + first + i];
        status = safetensors_writer_put_f32(self->writer, side->name, first * width, panel,
                                            count * width, error);
    }
    free(panel);
    return status;
}

static int write_lora(adapter_job *self, const adapter_tensor *tensor,
                      const adapter_factors *factors, didi_error *error)
{
    int status = DIDI_OK;
    for (size_t i = 0; i < SIDES && status == DIDI_OK; i++) {
        lora_side side = {0};
        status = side_of(tensor, i, factors, &side, error);
        if (status == DIDI_OK && i == 0)
            status = write_a(self, tensor, &side, error);
        else if (status == DIDI_OK)
            status = write_b(self, tensor, &side, error);
        free(side.name);
    }
    return status;
}

/* The base's value with all that is added, as an export of the whole model has it. */
static int write_saved(adapter_job *self, adapter_tensor *tensor, const addition parts[2],
                       didi_error *error)
{
    uint64_t count = tensor->base->tensor->elements;
    float *value = memory_zeroed(count, sizeof *value);
    float *sum = memory_zeroed(count, sizeof *sum);
    char *name = memory_format("base_model.model.%s", tensor->name);
    int status = DIDI_OK;
    if (value == NULL || sum == NULL || name == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, tensor->path, "a vector");
    if (status == DIDI_OK)
        status = checkpoint_read_f32(self->base, tensor->base, 0, value, count, error);
    for (size_t p = 0; p < 2 && status == DIDI_OK; p++)
        status = addition_apply(&parts[p], 0, tensor->rows, sum, error);
    if (status == DIDI_OK) {
        tensor->energy = linalg_energy(sum, count);
        for (uint64_t i = 0; i < count; i++)
            value[i] += sum[i];
        status = safetensors_writer_put_f32(self->writer, name, 0, value, count, error);
    }
    free(value);
    free(sum);
    free(name);
    return status;
}

static int write_own(adapter_job *self, const task_tensor *tensor, didi_error *error)
{
    task_pieces *pieces = NULL;
    const void *bytes = NULL;
    size_t count = 1;
    uint64_t done = 0;
    char *name = memory_format("base_model.model.%s", tensor->name);
    int status = name != NULL ? task_pieces_open(self->task, tensor, &pieces, error)
                              : didi_fail(error, DIDI_NO_MEMORY, tensor->name, "name of a tensor");
    while (status == DIDI_OK && count > 0) {
        status = task_pieces_next(pieces, &bytes, &count, error);
        if (status == DIDI_OK && count > 0)
            status = safetensors_writer_put_bytes(self->writer, name, done, bytes, count, error);
        done += count;
    }
    task_pieces_close(pieces);
    free(name);
    return status;
}

static int write_changed(adapter_job *self, adapter_tensor *tensor, addition parts[2],
                         didi_error *error)
{
    adapter_factors factors = {0};
    int status = DIDI_OK;
    if (tensor->role == ADAPTER_SAVED)
        return write_saved(self, tensor, parts, error);
    if (tensor->role == ADAPTER_LEFT_OUT)
        return adapter_measure(tensor, parts, NULL, error);
    status = adapter_factors_make(&self->plan, tensor, parts, &factors, error);
    if (status == DIDI_OK)
        status = write_lora(self, tensor, &factors, error);
    if (status == DIDI_OK)
        status = adapter_measure(tensor, parts, &factors, error);
    adapter_factors_clear(&factors);
    return status;
}

static int write_tensor(adapter_job *self, adapter_tensor *tensor, didi_error *error)
{
    const didi_export *wanted = self->plan.wanted;
    if (wanted->cancelled != NULL && wanted->cancelled(wanted->context) != 0)
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    if (tensor->role == ADAPTER_UNCHANGED)
        return DIDI_OK;
    if (tensor->role == ADAPTER_LORA && tensor->rank == 0)
        return write_lora(self, tensor, NULL, error);
    const package_file *const files[2] = {self->files[0], self->files[1]};
    addition parts[2] = {{0}, {0}};
    int status = DIDI_OK;
    if (!tensor->as_base)
        status = package_files_read(files, tensor->base->tensor->name, tensor->rows,
                                    tensor->columns, parts, error);
    if (status == DIDI_OK)
        status = write_changed(self, tensor, parts, error);
    if (status == DIDI_NO_MEMORY || status == DIDI_NUMERIC)
        didi_error_blame(error, "%s", tensor->base->tensor->name);
    addition_clear(&parts[0]);
    addition_clear(&parts[1]);
    return status;
}

/* ---- texts and the whole */

static int write_text(adapter_job *self, const char *name, char *text, didi_error *error)
{
    int status = DIDI_OK;
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "text");
    self->bytes += strlen(text);
    status = file_write_durable(self->directory_fd, name, text, strlen(text), error);
    free(text);
    return status;
}

static int write_files(void *context, int directory_fd, didi_error *error)
{
    adapter_job *self = context;
    self->directory_fd = directory_fd;
    const adapter_plan *plan = &self->plan;
    int status = create_writer(self, error);
    for (size_t i = 0; status == DIDI_OK && i < plan->count; i++)
        status = write_tensor(self, &plan->tensors[i], error);
    for (size_t i = 0; status == DIDI_OK && i < task_model_count(self->task); i++)
        if (adapter_saves_own(plan, task_model_at(self->task, i)))
            status = write_own(self, task_model_at(self->task, i), error);
    if (status == DIDI_OK)
        status = checkpoint_verify_unchanged(self->base, error);
    if (status == DIDI_OK) {
        status = safetensors_writer_close(self->writer, true, error);
        self->writer = NULL;
    }
    safetensors_writer_abort(self->writer);
    if (status == DIDI_OK)
        status = write_text(self, "adapter_config.json", adapter_config_text(plan), error);
    if (status == DIDI_OK)
        status = write_text(self, "README.md", adapter_readme_text(plan, self->manifest), error);
    if (status == DIDI_OK)
        status = write_text(self, "export.json", adapter_report_text(plan, self->manifest), error);
    return status;
}

int export_publish(const didi_export *wanted, int (*write)(void *, int, didi_error *),
                   void *context, didi_error *error)
{
    int output_fd = wanted->output_fd;
    int directory_fd = -1;
    char *partial = memory_format(".%s.partial", wanted->task);
    if (partial == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, wanted->task, "name of a directory");
    int status = file_remove_tree(output_fd, partial, error);
    if (status == DIDI_OK)
        status = file_open_directory(output_fd, partial, 1, &directory_fd, error);
    if (status == DIDI_OK)
        status = write(context, directory_fd, error);
    if (status == DIDI_OK)
        status = file_sync(directory_fd, wanted->task, error);
    if (status == DIDI_OK)
        status = fault_check(FAULT_EXPORT, wanted->task, error);
    if (status == DIDI_OK)
        status = file_remove_tree(output_fd, wanted->task, error);
    if (status == DIDI_OK)
        status = file_rename(output_fd, partial, output_fd, wanted->task, error);
    if (status == DIDI_OK)
        status = file_sync(output_fd, wanted->task, error);
    if (status != DIDI_OK)
        (void)file_remove_tree(output_fd, partial, NULL);
    file_close(directory_fd);
    free(partial);
    return status;
}

int didi_export_adapter(const didi_export *wanted, const didi_adapter_options *options,
                        didi_adapter_report *ret_report, didi_error *error)
{
    adapter_job self = {.directory_fd = -1};
    assert(wanted->task != NULL && wanted->base_label != NULL);
    int status = package_file_open(wanted->artifact_fd, NULL, &self.files[0], error);
    if (status == DIDI_OK)
        status = package_file_open(wanted->artifact_fd, wanted->task, &self.files[1], error);
    if (status == DIDI_OK)
        status = manifest_file_read(wanted->artifact_fd, &self.manifest, error);
    if (status == DIDI_OK)
        status = checkpoint_open_within(wanted->base_fd, &wanted->links, wanted->base_label,
                                        &self.base, error);
    if (status == DIDI_OK && wanted->verify_base)
        status = export_verify_base(wanted, self.base, error);
    if (status == DIDI_OK)
        status = task_model_open(wanted->artifact_fd, wanted->task, self.base, &self.task, error);
    if (status == DIDI_OK)
        status = adapter_plan_make(wanted, options, self.base, self.task,
                                   (const package_file *const *)self.files, &self.plan, error);
    if (status == DIDI_OK)
        status = export_publish(wanted, write_files, &self, error);
    if (status == DIDI_OK && ret_report != NULL) {
        *ret_report = adapter_report(&self.plan);
        ret_report->bytes = self.bytes;
    }
    adapter_plan_clear(&self.plan);
    package_file_close(self.files[0]);
    package_file_close(self.files[1]);
    json_decref(self.manifest);
    task_model_close(self.task);
    checkpoint_close(self.base);
    return status;
}
