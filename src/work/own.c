/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors that only one task has: counted, laid out, copied. */
#include "src/work/work.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_ELEMENTS = 1 << 16, WIDEST_BYTES = 8 };

static stored_own stored_own_of(const family_own *own)
{
    return (stored_own){
        .name = own->name,
        .source = own->source->tensor,
        .rows_before = own->grown != NULL ? own->grown->rows : 0,
    };
}

uint64_t work_own_parameters(const work *self, size_t task)
{
    const family_task *of = &self->family->tasks[task];
    uint64_t count = 0;
    for (size_t i = 0; i < of->own_count; i++) {
        stored_own own = stored_own_of(&of->own[i]);
        if (of->own[i].same == NULL)
            count = memory_add(count, stored_own_elements(&own));
    }
    return count;
}

size_t work_tasks_with(const work *self, const family_tensor *tensor)
{
    size_t count = 0;
    for (size_t t = 0; t < self->family->task_count; t++)
        count += family_has_vector(tensor, t);
    return count;
}

/* As a fine-tune an adapter has the base's names. */
static const char *prefix_of(const family_task *task)
{
    return task->adapter == NULL ? task->prefix : NULL;
}

/* ---- what a file says ---- */

/* Nothing of the task adds to what is shared of the tensor, and its values are the base's: a reader
 * leaves what is shared out. Methods that make one model for all tasks know no such thing. */
static bool is_as_base(const work *self, const family_tensor *tensor, bool shares, size_t task)
{
    return !self->one_model && !family_has_vector(tensor, task) &&
           (shares || extension_shares(self->extension, tensor));
}

static bool shares_layer(const work *self, size_t index)
{
    stored_part part = stored_part_of(&self->summaries[index], 0);
    return part.form == STORED_DELTA || part.rank > 0;
}

static json_t *as_base(const work *self, size_t task)
{
    json_t *names = json_array();
    for (size_t l = 0; self->summaries != NULL && l < self->layer_count; l++)
        if (is_as_base(self, self->layers[l], shares_layer(self, l), task))
            json_array_append_new(names, json_string(self->layers[l]->name));
    for (size_t i = 0; self->dense_summaries != NULL && i < self->dense_count; i++)
        if (is_as_base(self, self->dense[i], work_holds_delta(self, i, 0), task))
            json_array_append_new(names, json_string(self->dense[i]->name));
    return names;
}

static json_t *lacking(const work *self, size_t task)
{
    json_t *names = json_array();
    for (size_t i = 0; i < self->family->tensor_count; i++)
        if (!family_task_has(self->family, task, self->family->tensors[i].name))
            json_array_append_new(names, json_string(self->family->tensors[i].name));
    return names;
}

/* The name of an own tensor in its file; the caller frees it. */
static char *name_in_file(const family_own *from)
{
    stored_own own = stored_own_of(from);
    return memory_format("%s.%s", own.name, stored_own_suffix(&own));
}

/* NULL when out of memory. */
static json_t *same_ones(const family_task *of)
{
    json_t *names = json_object();
    for (size_t i = 0; i < of->own_count && names != NULL; i++) {
        if (of->own[i].same == NULL)
            continue;
        char *name = name_in_file(&of->own[i]);
        char *other = name_in_file(of->own[i].same);
        if (name == NULL || other == NULL ||
            json_object_set_new(names, name, json_string(other)) != 0) {
            json_decref(names);
            names = NULL;
        }
        free(name);
        free(other);
    }
    return names;
}

/* Takes the list, or the object, over. */
static int say_names(package_layout *layout, package_saying what, json_t *names, didi_error *error)
{
    bool any = json_array_size(names) > 0 || json_object_size(names) > 0;
    char *text = any ? json_dumps(names, JSON_COMPACT) : NULL;
    int status = names == NULL || (any && text == NULL)
                     ? didi_fail(error, DIDI_NO_MEMORY, NULL, "names of tensors")
                     : DIDI_OK;
    if (text != NULL)
        status = package_layout_say(layout, what, text, error);
    free(text);
    json_decref(names);
    return status;
}

int work_own_layout(const work *self, size_t task, package_layout *layout, didi_error *error)
{
    const family_task *of = &self->family->tasks[task];
    int status = DIDI_OK;
    for (size_t i = 0; i < of->own_count && status == DIDI_OK; i++) {
        stored_own own = stored_own_of(&of->own[i]);
        if (of->own[i].same == NULL)
            status = package_layout_add_own(layout, &own, self->options.precision, error);
    }
    if (status == DIDI_OK && prefix_of(of) != NULL)
        status = package_layout_say(
            layout, of->prefix_dropped ? PACKAGE_PREFIX_DROPPED : PACKAGE_PREFIX_ADDED, of->prefix,
            error);
    if (status == DIDI_OK)
        status = say_names(layout, PACKAGE_LACKS, lacking(self, task), error);
    if (status == DIDI_OK)
        status = say_names(layout, PACKAGE_AS_BASE, as_base(self, task), error);
    if (status == DIDI_OK)
        status = say_names(layout, PACKAGE_OWN_SAME, same_ones(of), error);
    return status;
}

/* With its entry in the header, or what the file says of one that is stored under another name. */
static uint64_t own_bytes(const work *self, const family_own *from)
{
    enum { ENTRY_BYTES = 128 };
    stored_own own = stored_own_of(from);
    uint64_t bytes = ENTRY_BYTES + JSON_CHARACTER_BYTES * strlen(own.name);
    if (from->same != NULL)
        return bytes + JSON_CHARACTER_BYTES * strlen(from->same->name);
    bytes += PACKAGE_NUMBER_BYTES * own.source->dimensions;
    return memory_add(bytes, stored_own_bytes(&own, self->options.precision));
}

uint64_t work_own_bytes(const work *self)
{
    enum { SAYING_BYTES = 64 };
    uint64_t bytes = 0;
    for (size_t t = 0; t < self->family->task_count; t++) {
        const family_task *of = &self->family->tasks[t];
        uint64_t before = bytes;
        for (size_t i = 0; i < of->own_count; i++)
            bytes = memory_add(bytes, own_bytes(self, &of->own[i]));
        /* Either list may name a tensor without a task vector. */
        for (size_t i = 0; i < self->family->tensor_count; i++) {
            const family_tensor *tensor = &self->family->tensors[i];
            if (!family_has_vector(tensor, t) && tensor->kind != FAMILY_EXCLUDED)
                bytes += 2 * (JSON_CHARACTER_BYTES * strlen(tensor->name) + 3);
        }
        const char *prefix = prefix_of(of);
        if (prefix != NULL || bytes > before)
            bytes += SAYING_BYTES + (prefix != NULL ? strlen(prefix) : 0);
    }
    return bytes;
}

/* ---- copying ---- */

typedef struct own_copy {
    const checkpoint *model;
    const checkpoint_tensor *source;
    uint64_t skipped; /* elements before the first that is kept */
    const char *name;
    safetensors_writer *writer;
} own_copy;

static int copy_numbers(const own_copy *self, uint64_t at, uint64_t count, float *values,
                        didi_error *error)
{
    const char *label = checkpoint_label(self->model);
    int status =
        checkpoint_read_f32(self->model, self->source, self->skipped + at, values, count, error);
    if (status != DIDI_OK)
        return status;
    size_t bad = didi_dtype_first_nonfinite(values, count);
    if (bad < count)
        return didi_fail(
            error, DIDI_NUMERIC, label, "tensor '%s' of model %s holds NaN or Inf at element %llu",
            self->source->tensor->name, label, (unsigned long long)(self->skipped + at + bad));
    status = safetensors_writer_put_f32(self->writer, self->name, at, values, count, error);
    return status == DIDI_NUMERIC ? didi_error_wrap(error, "tensor '%s' of model %s",
                                                    self->source->tensor->name, label)
                                  : status;
}

/* Elements have whole bytes, or all of the tensor is copied. */
static int copy_bytes(const own_copy *self, uint64_t at, uint64_t count, void *bytes,
                      didi_error *error)
{
    uint64_t bits = didi_dtype_bits(self->source->tensor->dtype);
    int status = checkpoint_read(self->model, self->source, (self->skipped + at) * bits / 8, bytes,
                                 count * bits / 8, error);
    return status == DIDI_OK ? safetensors_writer_put_bytes(self->writer, self->name, at * bits / 8,
                                                            bytes, count * bits / 8, error)
                             : status;
}

static int copy_own(work *self, size_t task, const family_own *own, safetensors_writer *writer,
                    didi_error *error)
{
    stored_own stored = stored_own_of(own);
    uint64_t elements = stored_own_elements(&stored);
    bool numbers = didi_dtype_is_float(own->source->tensor->dtype);
    char *name = name_in_file(own);
    void *buffer = memory_aligned(PIECE_ELEMENTS, WIDEST_BYTES);
    own_copy copy = {.model = self->family->tasks[task].model,
                     .source = own->source,
                     .skipped = own->source->tensor->elements - elements,
                     .name = name,
                     .writer = writer};
    int status = name != NULL && buffer != NULL
                     ? DIDI_OK
                     : didi_fail(error, DIDI_NO_MEMORY, own->name, "copy of a tensor");
    for (uint64_t at = 0; at < elements && status == DIDI_OK; at += PIECE_ELEMENTS) {
        uint64_t count = smaller(elements - at, PIECE_ELEMENTS);
        if (atomic_load(&self->cancelled))
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        else
            status = numbers ? copy_numbers(&copy, at, count, buffer, error)
                             : copy_bytes(&copy, at, count, buffer, error);
        atomic_fetch_add(&self->bytes_read,
                         count * didi_dtype_bits(own->source->tensor->dtype) / 8);
    }
    free(buffer);
    free(name);
    return status;
}

int work_write_own(work *self, size_t task, safetensors_writer *writer, didi_error *error)
{
    assert(task < self->family->task_count);
    const family_task *of = &self->family->tasks[task];
    int status = DIDI_OK;
    for (size_t i = 0; i < of->own_count && status == DIDI_OK; i++)
        if (of->own[i].same == NULL)
            status = copy_own(self, task, &of->own[i], writer, error);
    return status;
}

/* ---- telling ---- */

static const char *told_name(const family_own *own)
{
    return own->grown != NULL ? own->source->tensor->name : own->name;
}

static json_t *own_json(const work *self, const family_own *own)
{
    stored_own stored = stored_own_of(own);
    json_t *shape = json_array();
    for (size_t d = 0; d < own->source->tensor->dimensions; d++)
        json_array_append_new(shape, json_integer((json_int_t)own->source->tensor->shape[d]));
    json_t *row = json_pack("{s:s,s:s,s:o,s:I}", "tensor", told_name(own), "dtype",
                            didi_dtype_name(stored_own_dtype(&stored, self->options.precision)),
                            "shape", shape, "parameters", (json_int_t)stored_own_elements(&stored));
    if (own->grown != NULL)
        json_object_set_new(row, "rows_before", json_integer((json_int_t)own->grown->rows));
    if (own->same != NULL)
        json_object_set_new(row, "same_as", json_string(told_name(own->same)));
    return row;
}

json_t *work_own_json(const work *self)
{
    json_t *tasks = extension_kept_own(self->extension);
    for (size_t t = 0; t < self->family->task_count; t++) {
        const family_task *of = &self->family->tasks[t];
        json_t *tensors = json_array();
        json_t *lacks = lacking(self, t);
        for (size_t i = 0; i < of->own_count; i++)
            json_array_append_new(tensors, own_json(self, &of->own[i]));
        bool plain = prefix_of(of) == NULL && of->own_count == 0 && json_array_size(lacks) == 0;
        json_t *row = json_pack("{s:o,s:o,s:I}", "tensors", tensors, "lacks", lacks, "parameters",
                                (json_int_t)work_own_parameters(self, t));
        if (prefix_of(of) != NULL)
            json_object_set_new(row, of->prefix_dropped ? "prefix_dropped" : "prefix_added",
                                json_string(of->prefix));
        if (!plain)
            json_object_set(tasks, self->options.tasks[t].name, row);
        json_decref(row);
    }
    return tasks;
}
