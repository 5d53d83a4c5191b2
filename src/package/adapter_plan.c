/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors of a base become LoRAs of an adapter, at which ranks. */
#include "src/package/adapter.h"

#include "src/base/base.h"
#include "src/package/widths.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    RANK_STEP = 16, /* portable ranks are multiples: servers pad to them anyway */
    RANK_MAX = 65536,
    DENSE_RANK = 64,       /* of a matrix kept whole where nothing else sets a rank */
    DENSE_SIDE_MAX = 4096, /* the shorter side: its Gram matrix is decomposed */
    DENSE_ELEMENTS_MAX = 1 << 27,
    SAVED_ELEMENTS_MAX = 1 << 24,
};

static bool has_content(const adapter_tensor *tensor)
{
    return tensor->delta || tensor->shared_rank > 0 || tensor->expert_rank > 0;
}

static uint64_t joined_rank(const adapter_tensor *tensor)
{
    return tensor->shared_rank + tensor->expert_rank;
}

static void leave_out(adapter_tensor *tensor, const char *reason)
{
    tensor->role = ADAPTER_LEFT_OUT;
    tensor->reason = reason;
    tensor->rank = tensor->padded = 0;
}

/* ---- what there is */

/* One dtype for the whole file: bf16 as soon as something is packed. */
static didi_dtype widened(didi_dtype dtype, const addition_form *form)
{
    if (dtype == DIDI_DTYPE_BF16 || form->packed)
        return DIDI_DTYPE_BF16;
    return form->dtype != DIDI_DTYPE_BOOL ? form->dtype : dtype;
}

static int name_row(adapter_tensor *row, const char *name, didi_error *error)
{
    char *path = adapter_module_path(name);
    if (path == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "path of a module");
    free(row->path);
    row->path = path;
    row->name = name;
    return DIDI_OK;
}

static int survey_tensor(adapter_plan *self, const checkpoint_tensor *base,
                         const package_file *const files[2], didi_error *error)
{
    const safetensors_tensor *tensor = base->tensor;
    addition_form forms[2];
    uint64_t rows = tensor->dimensions >= 2 ? tensor->shape[0] : 1;
    adapter_tensor *row = &self->tensors[self->count];
    *row = (adapter_tensor){.base = base, .rows = rows, .columns = tensor->elements / rows};
    int named = name_row(row, tensor->name, error);
    if (named != DIDI_OK)
        return named;
    self->count++;
    row->kind = adapter_kind_of(&self->model, tensor, &row->transposed, &row->reason);
    row->role = ADAPTER_UNCHANGED;
    for (size_t f = 0; f < 2; f++) {
        int status =
            package_file_form(files[f], tensor->name, rows, row->columns, &forms[f], error);
        if (status != DIDI_OK)
            return status;
        if (self->options.as_packaged)
            self->dtype = widened(self->dtype, &forms[f]);
        row->delta = row->delta || forms[f].delta;
    }
    row->shared_rank = forms[0].rank;
    row->expert_rank = forms[1].rank;
    return DIDI_OK;
}

/* What the package has for a tensor that the task left alone, or lacks, is not the task's. */
static void leave_alone(adapter_tensor *row)
{
    row->as_base = true;
    row->delta = false;
    row->shared_rank = row->expert_rank = 0;
}

static const task_tensor *task_tensor_of(const adapter_plan *self, const checkpoint_tensor *base)
{
    for (size_t i = 0; i < task_model_count(self->task); i++)
        if (task_model_at(self->task, i)->base == base)
            return task_model_at(self->task, i);
    return NULL;
}

/* A head is a module of the task's class, whose other modules may have other names than the base's.
 */
static int survey_task(adapter_plan *self, didi_error *error)
{
    bool names_of_task = adapter_saves_head(self);
    for (size_t i = 0; i < self->count; i++) {
        adapter_tensor *row = &self->tensors[i];
        const task_tensor *tensor = task_tensor_of(self, row->base);
        if (tensor != NULL ? tensor->as_base : names_of_task)
            leave_alone(row);
        int status = tensor != NULL && names_of_task ? name_row(row, tensor->name, error) : DIDI_OK;
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static int survey(adapter_plan *self, const checkpoint *base, const package_file *const files[2],
                  didi_error *error)
{
    int status = DIDI_OK;
    self->tensors = memory_zeroed(checkpoint_count(base), sizeof *self->tensors);
    if (self->tensors == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu tensors", checkpoint_count(base));
    for (size_t i = 0; i < checkpoint_count(base) && status == DIDI_OK; i++) {
        const checkpoint_tensor *tensor = checkpoint_at(base, i);
        if (didi_dtype_is_float(tensor->tensor->dtype) && tensor->tensor->elements > 0)
            status = survey_tensor(self, tensor, files, error);
    }
    return status == DIDI_OK ? survey_task(self, error) : status;
}

/* ---- ranks */

static uint64_t rounded_up(uint64_t rank)
{
    return (rank + RANK_STEP - 1) / RANK_STEP * RANK_STEP;
}

/* The rank that a module may have; of a matrix kept whole, one that does not widen all others. */
static uint64_t rank_limit(const adapter_plan *self, const adapter_tensor *tensor)
{
    uint64_t most = 0;
    uint64_t limit = self->options.max_rank;
    if (limit > 0)
        return self->options.exact ? limit : limit / RANK_STEP * RANK_STEP;
    if (self->options.exact || !tensor->delta)
        return UINT64_MAX;
    for (size_t i = 0; i < self->count; i++) {
        const adapter_tensor *other = &self->tensors[i];
        if (other->role == ADAPTER_LORA && !other->delta)
            most = larger(most, joined_rank(other));
    }
    return most > 0 ? rounded_up(most) : DENSE_RANK;
}

static void set_rank(const adapter_plan *self, adapter_tensor *tensor)
{
    uint64_t full = smaller(tensor->rows, tensor->columns);
    uint64_t limit = rank_limit(self, tensor);
    uint64_t joined = joined_rank(tensor);
    tensor->rank = tensor->delta || joined > limit ? smaller(full, limit) : joined;
}

static bool is_too_large(const adapter_tensor *tensor)
{
    return smaller(tensor->rows, tensor->columns) > DENSE_SIDE_MAX ||
           tensor->base->tensor->elements > DENSE_ELEMENTS_MAX;
}

/* ---- roles */

static void choose_lora(const adapter_plan *self, adapter_tensor *tensor)
{
    bool exact = self->options.exact;
    if (tensor->kind == ADAPTER_OTHER)
        leave_out(tensor, tensor->reason);
    else if (tensor->kind == ADAPTER_VECTOR)
        leave_out(tensor, "a vector has no LoRA");
    else if (tensor->kind == ADAPTER_EMBEDDING && !exact)
        leave_out(tensor, "servers do not take the LoRA of an embedding");
    else if (tensor->kind == ADAPTER_EMBEDDING && self->model.tied &&
             adapter_is_of_tokens(adapter_leaf(tensor->path)))
        leave_out(tensor, "the output head is tied to it");
    else if (tensor->kind == ADAPTER_CONVOLUTION && !exact)
        leave_out(tensor, "servers do not take the LoRA of a convolution");
    else if (tensor->delta && is_too_large(tensor))
        leave_out(tensor, "kept whole, and too large to decompose");
    else
        tensor->role = ADAPTER_LORA;
}

static const adapter_tensor *find_lora(const adapter_plan *self, const char *path)
{
    for (size_t i = 0; i < self->count; i++)
        if (self->tensors[i].role == ADAPTER_LORA && strcmp(self->tensors[i].path, path) == 0)
            return &self->tensors[i];
    return NULL;
}

/* PEFT finds what is saved by looking for the module's path anywhere in a key. */
static bool is_part_of_another(const adapter_plan *self, const adapter_tensor *tensor)
{
    for (size_t i = 0; i < self->count; i++) {
        const adapter_tensor *other = &self->tensors[i];
        if (other->role != ADAPTER_UNCHANGED && strcmp(other->path, tensor->path) != 0 &&
            strstr(other->path, tensor->path) != NULL)
            return true;
    }
    return false;
}

static void choose_saved(const adapter_plan *self, adapter_tensor *tensor)
{
    if (!self->options.exact || tensor->kind != ADAPTER_VECTOR || tensor->role != ADAPTER_LEFT_OUT)
        return;
    if (find_lora(self, tensor->path) != NULL)
        leave_out(tensor, "the bias of a module with a LoRA");
    else if (tensor->base->tensor->elements > SAVED_ELEMENTS_MAX)
        leave_out(tensor, "too large to be saved whole");
    else if (is_part_of_another(self, tensor))
        leave_out(tensor, "its module's name is a part of another's");
    else
        tensor->role = ADAPTER_SAVED;
}

static bool is_targeted(const adapter_plan *self, const char *path)
{
    for (size_t i = 0; i < self->count; i++)
        if (self->tensors[i].role == ADAPTER_LORA && self->tensors[i].rank > 0 &&
            adapter_goes_with(adapter_leaf(self->tensors[i].path), adapter_leaf(path)))
            return true;
    return false;
}

/* ---- one rank for all, or each module's own */

/* Servers that stack layers drop a type that lacks one. */
static void fill_types(adapter_plan *self)
{
    for (size_t i = 0; i < self->count; i++) {
        adapter_tensor *tensor = &self->tensors[i];
        if (tensor->role == ADAPTER_UNCHANGED && tensor->kind == ADAPTER_LINEAR &&
            is_targeted(self, tensor->path))
            tensor->role = ADAPTER_LORA;
        if (tensor->role == ADAPTER_LORA)
            tensor->padded = self->rank;
    }
}

/* What a key of rank_pattern names: the path without its first component, which PEFT before 0.15
 * takes no key for. NULL: there is nothing else. */
static const char *key_of(const char *path)
{
    const char *dot = strchr(path, '.');
    return dot != NULL ? dot + 1 : NULL;
}

/* A key may match more than one module: then both get the larger rank. One without a key gets r.
 */
static void pad_to_keys(adapter_plan *self)
{
    bool changed = true;
    for (size_t i = 0; i < self->count; i++) {
        adapter_tensor *tensor = &self->tensors[i];
        if (tensor->role == ADAPTER_LORA)
            tensor->padded = key_of(tensor->path) != NULL ? tensor->rank : self->rank;
    }
    while (changed) {
        changed = false;
        for (size_t i = 0; i < self->count; i++) {
            adapter_tensor *tensor = &self->tensors[i];
            const char *key = key_of(tensor->path);
            if (tensor->role != ADAPTER_LORA || key == NULL)
                continue;
            for (size_t j = 0; j < self->count; j++) {
                adapter_tensor *other = &self->tensors[j];
                if (other->role != ADAPTER_LORA || other->padded == tensor->padded ||
                    !adapter_has_suffix(other->path, key))
                    continue;
                other->padded = tensor->padded = larger(other->padded, tensor->padded);
                changed = true;
            }
        }
    }
}

static int set_ranks(adapter_plan *self, didi_error *error)
{
    for (size_t i = 0; i < self->count; i++)
        if (has_content(&self->tensors[i]))
            choose_lora(self, &self->tensors[i]);
    for (size_t i = 0; i < self->count; i++) {
        adapter_tensor *tensor = &self->tensors[i];
        if (tensor->role == ADAPTER_LORA)
            set_rank(self, tensor);
        self->rank = larger(self->rank, tensor->rank);
    }
    for (size_t i = 0; i < self->count; i++)
        choose_saved(self, &self->tensors[i]);
    if (self->rank == 0)
        return didi_fail(error, DIDI_INVALID, self->wanted->task,
                         "nothing that the package holds for task %s has the form of a LoRA",
                         self->wanted->task);
    if (self->rank > RANK_MAX)
        return didi_fail(error, DIDI_INVALID, self->wanted->task, "rank %llu is above %d",
                         (unsigned long long)self->rank, RANK_MAX);
    if (self->options.exact) {
        pad_to_keys(self);
        return DIDI_OK;
    }
    self->rank = rounded_up(self->rank);
    fill_types(self);
    return DIDI_OK;
}

static int check_options(const didi_adapter_options *options, didi_error *error)
{
    if (!options->as_packaged && !precision_is_plain(options->precision, NULL))
        return didi_fail(error, DIDI_INVALID, NULL, "an adapter has numbers in f32, bf16 or f16");
    if (options->max_rank > RANK_MAX)
        return didi_fail(error, DIDI_INVALID, NULL, "max_rank is above %d", RANK_MAX);
    if (!options->exact && options->max_rank > 0 && options->max_rank < RANK_STEP)
        return didi_fail(error, DIDI_INVALID, NULL,
                         "max_rank %llu: ranks of a portable adapter are multiples of %d",
                         (unsigned long long)options->max_rank, RANK_STEP);
    return DIDI_OK;
}

int adapter_plan_make(const didi_export *wanted, const didi_adapter_options *options,
                      const checkpoint *base, const task_model *task,
                      const package_file *const files[2], adapter_plan *ret_plan, didi_error *error)
{
    adapter_plan *self = ret_plan;
    *self = (adapter_plan){
        .wanted = wanted, .options = *options, .task = task, .dtype = DIDI_DTYPE_BOOL};
    int status = check_options(options, error);
    if (status == DIDI_OK && !options->as_packaged)
        (void)precision_is_plain(options->precision, &self->dtype);
    if (status == DIDI_OK)
        status = adapter_model_read(wanted->base_fd, &wanted->links, base, &self->model, error);
    if (status == DIDI_OK)
        status = survey(self, base, files, error);
    if (status == DIDI_OK)
        status = set_ranks(self, error);
    return status;
}

bool adapter_saves_own(const adapter_plan *self, const task_tensor *tensor)
{
    return self->options.exact && tensor->own != NULL && tensor->base == NULL &&
           didi_dtype_is_float(tensor->dtype) && tensor->elements <= SAVED_ELEMENTS_MAX &&
           (adapter_has_suffix(tensor->name, "weight") || adapter_has_suffix(tensor->name, "bias"));
}

bool adapter_saves_head(const adapter_plan *self)
{
    for (size_t i = 0; i < task_model_count(self->task); i++)
        if (adapter_saves_own(self, task_model_at(self->task, i)))
            return true;
    return false;
}

void adapter_plan_clear(adapter_plan *self)
{
    for (size_t i = 0; i < self->count; i++)
        free(self->tensors[i].path);
    free(self->tensors);
    *self = (adapter_plan){0};
}
