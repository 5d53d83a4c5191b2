/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, comparing and sorting the tensors of a family. */
#include "src/layer/family.h"

#include "src/base/base.h"

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
    for (size_t i = 0; self->tensors != NULL && i < self->tensor_count; i++)
        free(self->tensors[i].task);
    free(self->tensors);
    for (size_t t = 0; self->tasks != NULL && t < self->task_count; t++)
        checkpoint_close(self->tasks[t]);
    free(self->tasks);
    checkpoint_close(self->base);
    free(self);
}

/* ---- comparison ---- */

typedef struct differences {
    size_t count;
    char text[640];
    size_t used;
} differences;

static void note_difference(differences *self, const char *model, const char *tensor,
                            const char *what)
{
    if (self->count++ >= FAMILY_DIFFERENCES_SHOWN || self->used + 1 >= sizeof self->text)
        return;
    int written = snprintf(self->text + self->used, sizeof self->text - self->used,
                           "%s'%s' in %s: %s", self->count > 1 ? "; " : "", tensor, model, what);
    if (written < 0 || (size_t)written >= sizeof self->text - self->used)
        self->text[self->used] = '\0'; /* no half entries */
    else
        self->used += (size_t)written;
}

static void describe_shape(const safetensors_tensor *tensor, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s [", didi_dtype_name(tensor->dtype));
    for (size_t i = 0; i < tensor->dimensions && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%llu", i > 0 ? ", " : "",
                                 (unsigned long long)tensor->shape[i]);
    if (used < size)
        (void)snprintf(text + used, size - used, "]");
}

static bool same_shape(const safetensors_tensor *a, const safetensors_tensor *b)
{
    return a->dimensions == b->dimensions &&
           (a->dimensions == 0 ||
            memcmp(a->shape, b->shape, a->dimensions * sizeof *a->shape) == 0);
}

static void compare_tensor(differences *found, const char *model, const safetensors_tensor *base,
                           const safetensors_tensor *other)
{
    bool floats = didi_dtype_is_float(base->dtype) && didi_dtype_is_float(other->dtype);
    if (same_shape(base, other) && (floats || base->dtype == other->dtype))
        return;
    char ours[128];
    char theirs[128];
    char what[300];
    describe_shape(base, ours, sizeof ours);
    describe_shape(other, theirs, sizeof theirs);
    (void)snprintf(what, sizeof what, "%s, the base has %s", theirs, ours);
    note_difference(found, model, base->name, what);
}

/* Walks two name-sorted lists side by side. */
static void compare_models(differences *found, const checkpoint *base, const checkpoint *task)
{
    size_t i = 0;
    size_t j = 0;
    while (i < checkpoint_count(base) || j < checkpoint_count(task)) {
        const safetensors_tensor *a =
            i < checkpoint_count(base) ? checkpoint_at(base, i)->tensor : NULL;
        const safetensors_tensor *b =
            j < checkpoint_count(task) ? checkpoint_at(task, j)->tensor : NULL;
        int order = a == NULL ? 1 : b == NULL ? -1 : strcmp(a->name, b->name);
        if (a != NULL && order < 0)
            note_difference(found, checkpoint_label(task), a->name, "missing");
        else if (b != NULL && order > 0)
            note_difference(found, checkpoint_label(task), b->name, "not in the base");
        else if (a != NULL && b != NULL)
            compare_tensor(found, checkpoint_label(task), a, b);
        i += order <= 0;
        j += order >= 0;
    }
}

static int compare_all(const family *self, didi_error *error)
{
    differences found = {0};
    const char *culprit = NULL;
    for (size_t t = 0; t < self->task_count; t++) {
        size_t before = found.count;
        compare_models(&found, self->base, self->tasks[t]);
        if (culprit == NULL && found.count > before)
            culprit = checkpoint_label(self->tasks[t]);
    }
    if (found.count == 0)
        return DIDI_OK;
    return didi_fail(error, DIDI_MISMATCH, culprit, "%zu difference%s from the base %s: %s%s",
                     found.count, found.count == 1 ? "" : "s", checkpoint_label(self->base),
                     found.text, found.count > FAMILY_DIFFERENCES_SHOWN ? "; ..." : "");
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

static int sort_tensor(const didi_merge_options *options, family_tensor *self, didi_error *error)
{
    didi_dtype dtype = self->base->tensor->dtype;
    set_shape(self);
    bool left_out = (options->include_count > 0 &&
                     !family_name_matches(self->name, options->include, options->include_count)) ||
                    family_name_matches(self->name, options->exclude, options->exclude_count);
    if (left_out)
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
        for (size_t t = 0; t < self->task_count; t++)
            tensor->task[t] = checkpoint_find(self->tasks[t], tensor->name);
        int status = sort_tensor(options, tensor, error);
        if (status != DIDI_OK)
            return status;
        if (tensor->kind == FAMILY_MATRIX || tensor->kind == FAMILY_DENSE)
            self->parameters = memory_add(self->parameters, tensor->elements);
    }
    return DIDI_OK;
}

int family_open(const didi_merge_options *options, family **ret_family, didi_error *error)
{
    assert(options->base_fd >= 0 && options->task_count <= FAMILY_TASKS_MAX);
    family *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "family of %zu tasks", options->task_count);
    int status = checkpoint_open(options->base_fd, options->base_label, &self->base, error);
    if (status == DIDI_OK) {
        self->tasks = memory_zeroed(options->task_count, sizeof(checkpoint *));
        if (self->tasks == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu tasks", options->task_count);
    }
    for (size_t t = 0; t < options->task_count && status == DIDI_OK; t++) {
        status = checkpoint_open(options->tasks[t].directory_fd, options->tasks[t].label,
                                 &self->tasks[t], error);
        self->task_count = t + 1;
    }
    if (status == DIDI_OK)
        status = compare_all(self, error);
    if (status == DIDI_OK)
        status = sort_tensors(options, self, error);
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

int family_verify_unchanged(const family *self, didi_error *error)
{
    int status = checkpoint_verify_unchanged(self->base, error);
    for (size_t t = 0; t < self->task_count && status == DIDI_OK; t++)
        status = checkpoint_verify_unchanged(self->tasks[t], error);
    return status;
}
