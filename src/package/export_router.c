/* SPDX-License-Identifier: Apache-2.0 */
/* What a task reads most in the base's linear layers, for a router that knows neither task nor
 * data: the leading right singular vectors of its served change to each (docs/routing.md). */
#include "src/didi.h"

#include "src/base/base.h"
#include "src/math/math.h"
#include "src/package/adapter.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIRECTIONS_DEFAULT = 8, NUMBER_BYTES = 24 };

typedef struct router_layer {
    const safetensors_tensor *base;
    char *name;        /* in the file */
    uint64_t shape[2]; /* directions x length of the layer's input */
    bool transposed;   /* the base's tensor is in x out */
} router_layer;

typedef struct router_job {
    const didi_export *wanted;
    uint64_t directions;
    checkpoint *base;
    task_model *task;
    package_file *files[2];
    adapter_model model;
    router_layer *layers;
    size_t count;
    safetensors_writer *writer;
    uint64_t bytes;
} router_job;

/* ---- which layers */

static int add_layer(router_job *self, const task_tensor *tensor, didi_error *error)
{
    const char *reason = NULL;
    router_layer layer = {0};
    if (tensor->base == NULL || tensor->as_base ||
        adapter_kind_of(&self->model, tensor->base->tensor, &layer.transposed, &reason) !=
            ADAPTER_LINEAR)
        return DIDI_OK;
    layer.base = tensor->base->tensor;
    const uint64_t *shape = layer.base->shape;
    uint64_t rank = 0;
    for (size_t f = 0; f < 2; f++) {
        addition_form form = {0};
        int status =
            package_file_form(self->files[f], layer.base->name, shape[0], shape[1], &form, error);
        if (status != DIDI_OK)
            return status;
        rank = form.delta ? UINT64_MAX : memory_add(rank, form.rank);
    }
    if (rank == 0)
        return DIDI_OK;
    layer.shape[0] = smaller(smaller(rank, self->directions), smaller(shape[0], shape[1]));
    layer.shape[1] = shape[layer.transposed ? 0 : 1];
    layer.name = memory_format("%s.directions", layer.base->name);
    if (layer.name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, layer.base->name, "name of directions");
    self->layers[self->count++] = layer;
    return DIDI_OK;
}

static int choose_layers(router_job *self, didi_error *error)
{
    size_t count = task_model_count(self->task);
    int status = DIDI_OK;
    self->layers = memory_zeroed(count, sizeof *self->layers);
    if (self->layers == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu layers", count);
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        status = add_layer(self, task_model_at(self->task, i), error);
    if (status == DIDI_OK && self->count == 0)
        status = didi_fail(error, DIDI_INVALID, self->wanted->task,
                           "no linear layer of the task has changed: there is nothing to route by");
    return status;
}

/* ---- directions */

/* One sign of two: the largest number of a direction is positive. One that is noise becomes zero,
 * and catches nothing. */
static void settle(const router_layer *layer, const double *sigma, float *rows)
{
    double noise = spectrum_noise(smaller(layer->base->shape[0], layer->base->shape[1])) * sigma[0];
    for (uint64_t k = 0; k < layer->shape[0]; k++) {
        float *row = rows + k * layer->shape[1];
        uint64_t largest = 0;
        for (uint64_t i = 1; i < layer->shape[1]; i++)
            if (fabsf(row[i]) > fabsf(row[largest]))
                largest = i;
        float sign = row[largest] < 0 ? -1.0F : 1.0F;
        for (uint64_t i = 0; i < layer->shape[1]; i++)
            row[i] = sigma[k] > noise ? sign * row[i] : 0.0F;
    }
}

static int find_directions(const router_layer *layer, const addition parts[2], float *ret_rows,
                           didi_error *error)
{
    uint64_t m = layer->base->shape[0];
    uint64_t n = layer->base->shape[1];
    uint64_t count = layer->shape[0];
    int status = DIDI_OK;
    float *change = memory_zeroed(m, n * sizeof *change);
    float *other = memory_zeroed(count, (layer->transposed ? n : m) * sizeof *other);
    triplets leading = {count, memory_zeroed(count, sizeof(double)),
                        layer->transposed ? ret_rows : other, layer->transposed ? other : ret_rows,
                        true};
    if (change == NULL || other == NULL || leading.sigma == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, layer->base->name, "directions of a layer");
    for (size_t p = 0; p < 2 && status == DIDI_OK; p++)
        status = addition_apply(&parts[p], 0, m, change, error);
    if (status == DIDI_OK)
        status = spectrum_leading(m, n, change, &leading, error);
    if (status == DIDI_OK)
        settle(layer, leading.sigma, ret_rows);
    free(change);
    free(other);
    free(leading.sigma);
    return status;
}

static int write_layer(router_job *self, const router_layer *layer, didi_error *error)
{
    const didi_export *wanted = self->wanted;
    const package_file *const files[2] = {self->files[0], self->files[1]};
    const uint64_t *shape = layer->base->shape;
    addition parts[2] = {{0}, {0}};
    if (wanted->cancelled != NULL && wanted->cancelled(wanted->context) != 0)
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    float *rows = memory_zeroed(layer->shape[0], layer->shape[1] * sizeof *rows);
    int status =
        rows != NULL
            ? package_files_read(files, layer->base->name, shape[0], shape[1], parts, error)
            : didi_fail(error, DIDI_NO_MEMORY, layer->base->name, "directions of a layer");
    if (status == DIDI_OK)
        status = find_directions(layer, parts, rows, error);
    if (status == DIDI_OK)
        status = safetensors_writer_put_f32(self->writer, layer->name, 0, rows,
                                            layer->shape[0] * layer->shape[1], error);
    addition_clear(&parts[0]);
    addition_clear(&parts[1]);
    free(rows);
    return status;
}

/* ---- the file */

static int create_writer(router_job *self, int directory_fd, didi_error *error)
{
    char number[NUMBER_BYTES];
    (void)snprintf(number, sizeof number, "%" PRIu64, self->directions);
    const char *const metadata[][2] = {
        {"directions", number}, {"format", "pt"}, {"task", self->wanted->task}};
    safetensors_layout_entry *entries = memory_zeroed(self->count, sizeof *entries);
    if (entries == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layout of %zu layers", self->count);
    for (size_t i = 0; i < self->count; i++)
        entries[i] = (safetensors_layout_entry){self->layers[i].name, DIDI_DTYPE_BF16, 2,
                                                self->layers[i].shape};
    safetensors_contents contents = {.entries = entries,
                                     .count = self->count,
                                     .metadata = metadata,
                                     .metadata_count = sizeof metadata / sizeof *metadata};
    int status = safetensors_layout_bytes(&contents, &self->bytes, error);
    if (status == DIDI_OK)
        status = safetensors_writer_create(directory_fd, "router.safetensors", &contents,
                                           &self->writer, error);
    free(entries);
    return status;
}

static int write_router(void *context, int directory_fd, didi_error *error)
{
    router_job *self = context;
    int status = create_writer(self, directory_fd, error);
    for (size_t i = 0; i < self->count && status == DIDI_OK; i++)
        status = write_layer(self, &self->layers[i], error);
    if (status == DIDI_OK) {
        status = safetensors_writer_close(self->writer, true, error);
        self->writer = NULL;
    }
    safetensors_writer_abort(self->writer);
    return status;
}

/* One task needs no router. */
static int check_tasks(const didi_export *wanted, didi_error *error)
{
    json_t *manifest = NULL;
    int status = manifest_file_read(wanted->artifact_fd, &manifest, error);
    if (status == DIDI_OK &&
        json_object_size(json_object_get(json_object_get(manifest, "inputs"), "tasks")) < 2)
        status = didi_fail(error, DIDI_INVALID, wanted->task,
                           "the package has one task: there is nothing to route between");
    json_decref(manifest);
    return status;
}

static int open_inputs(router_job *self, didi_error *error)
{
    const didi_export *wanted = self->wanted;
    int status = package_file_open(wanted->artifact_fd, NULL, &self->files[0], error);
    if (status == DIDI_OK)
        status = package_file_open(wanted->artifact_fd, wanted->task, &self->files[1], error);
    if (status == DIDI_OK)
        status = check_tasks(wanted, error);
    if (status == DIDI_OK)
        status = checkpoint_open_within(wanted->base_fd, &wanted->links, wanted->base_label,
                                        &self->base, error);
    if (status == DIDI_OK && wanted->verify_base)
        status = export_verify_base(wanted, self->base, error);
    if (status == DIDI_OK)
        status = task_model_open(wanted->artifact_fd, wanted->task, self->base, &self->task, error);
    if (status == DIDI_OK)
        status =
            adapter_model_read(wanted->base_fd, &wanted->links, self->base, &self->model, error);
    return status;
}

int didi_export_router(const didi_export *wanted, uint64_t directions, uint64_t *ret_bytes,
                       didi_error *error)
{
    assert(wanted->task != NULL && wanted->base_label != NULL);
    router_job self = {.wanted = wanted,
                       .directions = directions > 0 ? directions : DIRECTIONS_DEFAULT};
    int status = open_inputs(&self, error);
    if (status == DIDI_OK)
        status = choose_layers(&self, error);
    if (status == DIDI_OK)
        status = export_publish(wanted, write_router, &self, error);
    if (status == DIDI_OK && ret_bytes != NULL)
        *ret_bytes = self.bytes;
    for (size_t i = 0; i < self.count; i++)
        free(self.layers[i].name);
    free(self.layers);
    package_file_close(self.files[0]);
    package_file_close(self.files[1]);
    task_model_close(self.task);
    checkpoint_close(self.base);
    return status;
}
