/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, comparing and sorting the tensors of a family. */
#include "src/layer/family.h"

#include "src/base/base.h"
#include "src/layer/family_match.h"

#include <assert.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void family_close(family *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; self->tensors != NULL && i < self->tensor_count; i++) {
        free(self->tensors[i].task);
        for (size_t t = 0; self->tensors[i].change != NULL && t < self->task_count; t++)
            free(atomic_load(&self->tensors[i].change[t].directed));
        free(self->tensors[i].change);
    }
    free(self->tensors);
    for (size_t t = 0; self->tasks != NULL && t < self->task_count; t++) {
        adapter_free(self->tasks[t].adapter);
        checkpoint_close(self->tasks[t].model);
        checkpoint_close(self->tasks[t].gram);
        free(self->tasks[t].prefix);
        free(self->tasks[t].own);
    }
    free(self->tasks);
    checkpoint_close(self->base);
    free(self);
}

/* ---- sorting ---- */

bool family_name_matches(const char *name, const char *const *globs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fnmatch(globs[i], name, 0) == 0)
            return true;
    return false;
}

static void set_shape(family_tensor *self)
{
    assert(self->base != NULL);
    const safetensors_tensor *tensor = self->base->tensor;
    self->elements = tensor->elements;
    self->rows = tensor->dimensions >= 2 ? tensor->shape[0] : 1;
    self->columns = self->rows > 0 ? self->elements / self->rows : 0;
    self->rank_limit = 0;
    if (self->rows > 1 && self->columns > 1) {
        uint64_t shorter = self->rows < self->columns ? self->rows : self->columns;
        uint64_t limit = (self->elements - 1) / (self->rows + self->columns);
        self->rank_limit = limit < shorter ? limit : shorter;
    }
}

static bool is_left_out(const didi_merge_options *options, const char *name)
{
    return (options->include_count > 0 &&
            !family_name_matches(name, options->include, options->include_count)) ||
           family_name_matches(name, options->exclude, options->exclude_count);
}

static int sort_tensor(const didi_merge_options *options, family_tensor *self, didi_error *error)
{
    didi_dtype dtype = self->base->tensor->dtype;
    set_shape(self);
    if (is_left_out(options, self->name))
        self->kind = FAMILY_EXCLUDED;
    else if (didi_dtype_is_integer(dtype) || self->elements == 0)
        self->kind = FAMILY_PASSTHROUGH;
    else if (!didi_dtype_is_float(dtype))
        return didi_fail(error, DIDI_INVALID, self->name,
                         "tensor '%s' has dtype %s, which cannot be merged; exclude it", self->name,
                         didi_dtype_name(dtype));
    else if (self->rank_limit == 0 || self->rows > INT_MAX || self->columns > INT_MAX ||
             family_name_matches(self->name, options->dense_tensors, options->dense_tensor_count))
        self->kind = FAMILY_DENSE;
    else
        self->kind = FAMILY_MATRIX;
    return DIDI_OK;
}

static int sort_tensors(const didi_merge_options *options, family *self, didi_error *error)
{
    self->tensor_count = checkpoint_count(self->base);
    self->tensors = memory_zeroed(self->tensor_count, sizeof *self->tensors);
    if (self->tensors == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu tensors", self->tensor_count);
    for (size_t i = 0; i < self->tensor_count; i++) {
        family_tensor *tensor = &self->tensors[i];
        tensor->base = checkpoint_at(self->base, i);
        tensor->name = tensor->base->tensor->name;
        tensor->task = memory_zeroed(self->task_count, sizeof *tensor->task);
        if (tensor->task == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu tasks", self->task_count);
        int status = sort_tensor(options, tensor, error);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

void family_count_parameters(family *self)
{
    self->parameters = 0;
    for (size_t i = 0; i < self->tensor_count; i++)
        if (self->tensors[i].kind == FAMILY_MATRIX || self->tensors[i].kind == FAMILY_DENSE)
            self->parameters = memory_add(self->parameters, self->tensors[i].elements);
}

/* The scale that numbers of 8 bits are to be multiplied with, by the names in use; NULL: none. */
static const checkpoint_tensor *find_scale(const checkpoint *model, const char *name)
{
    static const char *const ends[] = {"_scale_inv", "_scale", "scale_weight"};
    const checkpoint_tensor *found = NULL;
    for (size_t i = 0; i < 3 && found == NULL; i++) {
        const char *last = strrchr(name, '.');
        size_t kept = i < 2 ? strlen(name) : last != NULL ? (size_t)(last - name) + 1 : 0;
        char *scale = memory_format("%.*s%s", (int)kept, name, ends[i]);
        found = scale != NULL ? checkpoint_find(model, scale) : NULL;
        free(scale);
    }
    return found;
}

/* Numbers of 8 bits are taken as they are: with a scale beside them they mean something else. */
static int refuse_scaled(const didi_merge_options *options, const checkpoint *model,
                         didi_error *error)
{
    for (size_t i = 0; i < checkpoint_count(model); i++) {
        const safetensors_tensor *tensor = checkpoint_at(model, i)->tensor;
        if (!didi_dtype_is_float(tensor->dtype) || didi_dtype_bits(tensor->dtype) > 8 ||
            is_left_out(options, tensor->name))
            continue;
        const checkpoint_tensor *scale = find_scale(model, tensor->name);
        if (scale != NULL)
            return didi_fail(error, DIDI_INVALID, checkpoint_label(model),
                             "tensor '%s' of %s is %s with its scale in '%s', as quantisation "
                             "leaves it: take the model before quantisation, or exclude the tensor",
                             tensor->name, checkpoint_label(model), didi_dtype_name(tensor->dtype),
                             scale->tensor->name);
    }
    return DIDI_OK;
}

static int open_model(const didi_merge_options *options, int directory_fd, const char *label,
                      checkpoint **ret_model, didi_error *error)
{
    int status = checkpoint_open_within(directory_fd, &options->links, label, ret_model, error);
    return status == DIDI_OK ? refuse_scaled(options, *ret_model, error) : status;
}

static int open_task(const didi_merge_options *options, size_t task, family_task *out,
                     didi_error *error)
{
    const didi_task_input *input = &options->tasks[task];
    int status = open_model(options, input->directory_fd, input->label, &out->model, error);
    if (status == DIDI_OK && checkpoint_is_adapter(out->model))
        status = adapter_read(out->model, &out->adapter, error);
    if (status == DIDI_OK && input->gram != NULL)
        status =
            checkpoint_open_within(input->gram_fd, &options->links, input->gram, &out->gram, error);
    return status;
}

int family_open(const didi_merge_options *options, family **ret_family, didi_error *error)
{
    assert(options->base_fd >= 0 && options->task_count <= FAMILY_TASKS_MAX);
    family *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "family of %zu tasks", options->task_count);
    int status = open_model(options, options->base_fd, options->base_label, &self->base, error);
    if (status == DIDI_OK && checkpoint_is_adapter(self->base))
        status = didi_fail(error, DIDI_INVALID, options->base_label,
                           "the base %s is an adapter; name the model it was made for",
                           options->base_label);
    if (status == DIDI_OK) {
        self->tasks = memory_zeroed(options->task_count, sizeof *self->tasks);
        if (self->tasks == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu tasks", options->task_count);
    }
    for (size_t t = 0; t < options->task_count && status == DIDI_OK; t++) {
        status = open_task(options, t, &self->tasks[t], error);
        self->task_count = t + 1;
    }
    if (status == DIDI_OK)
        status = sort_tensors(options, self, error);
    if (status == DIDI_OK)
        status = family_match(options, self, error);
    if (status == DIDI_OK)
        family_count_parameters(self);
    if (status == DIDI_OK && self->parameters == 0)
        status = didi_fail(error, DIDI_INVALID, "/include",
                           "no floating-point tensor of the base %s is left to merge",
                           options->base_label);
    if (status != DIDI_OK)
        family_close(self);
    else
        *ret_family = self;
    return status;
}

bool family_changed(const family *self, const family_tensor *tensor)
{
    bool changed = false;
    for (size_t t = 0; t < self->task_count && !changed; t++)
        changed = family_has_vector(tensor, t);
    return changed;
}

int family_verify_unchanged(const family *self, didi_error *error)
{
    int status = checkpoint_verify_unchanged(self->base, error);
    for (size_t t = 0; t < self->task_count && status == DIDI_OK; t++) {
        status = checkpoint_verify_unchanged(self->tasks[t].model, error);
        if (status == DIDI_OK && self->tasks[t].gram != NULL)
            status = checkpoint_verify_unchanged(self->tasks[t].gram, error);
    }
    return status;
}
