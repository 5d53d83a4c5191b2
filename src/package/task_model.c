/* SPDX-License-Identifier: Apache-2.0 */
/* W = W0 + what the shared file and the expert's add, under the task's names, with what only the
 * task has. */
#include "src/package/task_model.h"

#include "src/base/base.h"
#include "src/package/layout.h"
#include "src/package/reader.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL_ELEMENTS = 1 << 20 };

/* Names of the base's, sorted. */
typedef struct name_list {
    json_t *texts; /* owns them */
    const char **names;
    size_t count;
} name_list;

struct task_model {
    const checkpoint *base;
    package_file *shared, *expert;
    const char *prefix; /* NULL: names are the base's */
    bool prefix_dropped;
    name_list lacks, as_base;
    task_tensor *tensors;
    size_t count;
};

/* ---- what the expert says ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool list_has(const name_list *self, const char *name)
{
    return self->count > 0 &&
           bsearch(&name, self->names, self->count, sizeof *self->names, compare_names) != NULL;
}

static int list_read(const task_model *model, package_saying what, name_list *self,
                     didi_error *error)
{
    const char *key = package_saying_key(what);
    const char *file = package_file_name(model->expert);
    const char *text = package_file_says(model->expert, what);
    if (text == NULL)
        return DIDI_OK;
    bool refused = false;
    self->texts = json_load(text, strlen(text), 0, NULL, &refused);
    if (refused)
        return didi_fail(error, DIDI_NO_MEMORY, file, "%s", key);
    if (!json_is_array(self->texts))
        return didi_fail(error, DIDI_FORMAT, file, "%s is not a list of names", key);
    size_t count = json_array_size(self->texts);
    self->names = memory_zeroed(count, sizeof *self->names);
    if (self->names == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, file, "%zu names", count);
    for (size_t i = 0; i < count; i++) {
        self->names[i] = json_string_value(json_array_get(self->texts, i));
        if (self->names[i] == NULL)
            return didi_fail(error, DIDI_FORMAT, file, "%s is not a list of names", key);
        if (checkpoint_find(model->base, self->names[i]) == NULL)
            return didi_fail(error, DIDI_FORMAT, file, "%s names '%.128s', which the base has not",
                             key, self->names[i]);
    }
    self->count = count;
    qsort(self->names, count, sizeof *self->names, compare_names);
    return DIDI_OK;
}

static void list_clear(name_list *self)
{
    free(self->names);
    json_decref(self->texts);
}

static int read_prefix(task_model *self, didi_error *error)
{
    const char *added = package_file_says(self->expert, PACKAGE_PREFIX_ADDED);
    const char *dropped = package_file_says(self->expert, PACKAGE_PREFIX_DROPPED);
    const char *prefix = added != NULL ? added : dropped;
    if (prefix == NULL)
        return DIDI_OK;
    size_t bytes = strlen(prefix);
    if ((added != NULL && dropped != NULL) || bytes == 0 || bytes > SAFETENSORS_NAME_BYTES_MAX ||
        text_has_control(prefix, bytes))
        return didi_fail(error, DIDI_FORMAT, package_file_name(self->expert),
                         "what it says of a prefix of names cannot be");
    self->prefix = prefix;
    self->prefix_dropped = dropped != NULL;
    return DIDI_OK;
}

/* The task's name for a tensor of the base; *ret_name is NULL if it has none. */
static int name_in_task(const task_model *self, const char *base, char **ret_name,
                        didi_error *error)
{
    size_t length = self->prefix != NULL ? strlen(self->prefix) : 0;
    *ret_name = NULL;
    if (list_has(&self->lacks, base))
        return DIDI_OK;
    if (self->prefix_dropped) {
        assert(self->prefix != NULL);
        if (strncmp(base, self->prefix, length) != 0 || base[length] == '\0')
            return DIDI_OK;
        base += length;
    } else if (length + strlen(base) > SAFETENSORS_NAME_BYTES_MAX) {
        return didi_fail(error, DIDI_FORMAT, base, "with its prefix the name is over %d bytes",
                         (int)SAFETENSORS_NAME_BYTES_MAX);
    }
    *ret_name =
        memory_format("%s%s", length > 0 && !self->prefix_dropped ? self->prefix : "", base);
    return *ret_name != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, base, "name of a tensor");
}

/* ---- tensors ---- */

/* Takes the name over. `like` gives dtype and shape. */
static int add_tensor(task_model *self, char *name, const safetensors_tensor *like,
                      task_tensor **ret_tensor, didi_error *error)
{
    task_tensor *tensor = &self->tensors[self->count];
    *tensor = (task_tensor){
        .name = name,
        .dtype = like->dtype,
        .dimensions = like->dimensions,
        .shape = memory_zeroed(like->dimensions, sizeof *tensor->shape),
        .elements = like->elements,
        .bytes = like->bytes,
    };
    self->count++;
    if (tensor->shape == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "shape of a tensor");
    for (size_t d = 0; d < like->dimensions; d++)
        tensor->shape[d] = like->shape[d];
    *ret_tensor = tensor;
    return DIDI_OK;
}

static const safetensors_tensor *find_own(const task_model *self, const char *name,
                                          const char *suffix, int *status, didi_error *error)
{
    char *key = memory_format("%s.%s", name, suffix);
    const safetensors_tensor *found = key != NULL ? package_file_own(self->expert, key) : NULL;
    if (key == NULL)
        *status = didi_fail(error, DIDI_NO_MEMORY, name, "name of a tensor");
    free(key);
    return found;
}

static int append_rows(const task_model *self, task_tensor *tensor, const safetensors_tensor *rows,
                       didi_error *error)
{
    const safetensors_tensor *base = tensor->base->tensor;
    uint64_t all = 0;
    if (rows->dimensions != 2 || base->dimensions != 2 || rows->shape[1] != base->shape[1] ||
        !didi_dtype_is_float(rows->dtype) || !didi_dtype_is_float(base->dtype) ||
        __builtin_add_overflow(base->elements, rows->elements, &all) ||
        __builtin_mul_overflow(all, (uint64_t)didi_dtype_bits(base->dtype) / 8, &tensor->bytes))
        return didi_fail(error, DIDI_FORMAT, rows->name,
                         "rows in %s do not go behind those of the base's tensor",
                         package_file_name(self->expert));
    tensor->shape[0] += rows->shape[0];
    tensor->elements = all;
    tensor->own = rows;
    return DIDI_OK;
}

/* Stands in the place of a tensor of the base and has its dtype, where both are floats. */
static int take_place(const task_model *self, task_tensor *tensor, const checkpoint_tensor *source,
                      didi_error *error)
{
    didi_dtype dtype = source->tensor->dtype;
    if (!didi_dtype_is_float(dtype) || !didi_dtype_is_float(tensor->dtype))
        return DIDI_OK;
    tensor->dtype = dtype;
    return __builtin_mul_overflow(tensor->elements, (uint64_t)didi_dtype_bits(dtype) / 8,
                                  &tensor->bytes)
               ? didi_fail(error, DIDI_FORMAT, package_file_name(self->expert),
                           "the size of '%.128s' overflows 64 bits", tensor->name)
               : DIDI_OK;
}

/* A tensor of the base, or one of the task's own in its place. */
static int add_of_base(task_model *self, const checkpoint_tensor *source, size_t *rows_used,
                       didi_error *error)
{
    char *name = NULL;
    task_tensor *tensor = NULL;
    const char *base = source->tensor->name;
    int status = name_in_task(self, base, &name, error);
    if (status != DIDI_OK || name == NULL)
        return status;
    const safetensors_tensor *own = find_own(self, name, "own", &status, error);
    const safetensors_tensor *rows = find_own(self, base, "own_rows", &status, error);
    if (status == DIDI_OK && own != NULL && rows != NULL)
        status = didi_fail(error, DIDI_FORMAT, rows->name,
                           "%s has rows for a tensor that another one replaces",
                           package_file_name(self->expert));
    if (status != DIDI_OK) {
        free(name);
        return status;
    }
    status = add_tensor(self, name, own != NULL ? own : source->tensor, &tensor, error);
    if (status != DIDI_OK)
        return status;
    if (own != NULL) {
        tensor->own = own;
        return take_place(self, tensor, source, error);
    }
    tensor->base = source;
    tensor->as_base = list_has(&self->as_base, base);
    *rows_used += rows != NULL;
    return rows != NULL ? append_rows(self, tensor, rows, error) : DIDI_OK;
}

static bool has_suffix(const char *name, const char *suffix)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && dot != name && strcmp(dot + 1, suffix) == 0;
}

static int compare_tensors(const void *a, const void *b)
{
    return strcmp(((const task_tensor *)a)->name, ((const task_tensor *)b)->name);
}

static bool is_taken(const task_model *self, size_t count, const char *name)
{
    task_tensor key = {.name = (char *)name};
    return count > 0 && bsearch(&key, self->tensors, count, sizeof key, compare_tensors) != NULL;
}

/* Names in the expert's file: of tensors that are there, then of those that are another one. */
static size_t name_count(const task_model *self)
{
    return safetensors_header_count(package_file_header(self->expert)) +
           package_file_same_count(self->expert);
}

static const char *name_at(const task_model *self, size_t index)
{
    const safetensors_header *header = package_file_header(self->expert);
    size_t there = safetensors_header_count(header);
    return index < there ? safetensors_header_at(header, index)->name
                         : package_file_same_at(self->expert, index - there);
}

/* What the expert has beside the tensors of the base, the first `taken`, which are sorted. */
static int add_alone(task_model *self, size_t taken, const char *key, didi_error *error)
{
    const safetensors_tensor *own = package_file_own(self->expert, key);
    task_tensor *tensor = NULL;
    char *name = memory_format("%.*s", (int)(strlen(key) - strlen(".own")), key);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, key, "name of a tensor");
    if (is_taken(self, taken, name)) {
        free(name);
        return DIDI_OK;
    }
    int status = add_tensor(self, name, own, &tensor, error);
    if (status == DIDI_OK)
        tensor->own = own;
    return status;
}

static int add_own(task_model *self, didi_error *error)
{
    size_t taken = self->count;
    int status = DIDI_OK;
    for (size_t i = 0; i < name_count(self) && status == DIDI_OK; i++)
        if (has_suffix(name_at(self, i), "own"))
            status = add_alone(self, taken, name_at(self, i), error);
    return status;
}

static int check_rows(const task_model *self, size_t used, didi_error *error)
{
    size_t count = 0;
    for (size_t i = 0; i < name_count(self); i++)
        count += has_suffix(name_at(self, i), "own_rows");
    return count == used ? DIDI_OK
                         : didi_fail(error, DIDI_FORMAT, package_file_name(self->expert),
                                     "it has rows for a tensor that the task's model has not");
}

static void sort_tensors(task_model *self)
{
    if (self->count > 0)
        qsort(self->tensors, self->count, sizeof *self->tensors, compare_tensors);
}

static int list_tensors(task_model *self, didi_error *error)
{
    size_t of_base = checkpoint_count(self->base);
    size_t rows_used = 0;
    size_t room = of_base + name_count(self);
    self->tensors = memory_zeroed(room, sizeof *self->tensors);
    if (self->tensors == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu tensors", room);
    int status = DIDI_OK;
    for (size_t i = 0; i < of_base && status == DIDI_OK; i++)
        status = add_of_base(self, checkpoint_at(self->base, i), &rows_used, error);
    if (status != DIDI_OK)
        return status;
    sort_tensors(self);
    status = check_rows(self, rows_used, error);
    if (status == DIDI_OK)
        status = add_own(self, error);
    if (status == DIDI_OK)
        sort_tensors(self);
    return status;
}

int task_model_open(int package_fd, const char *task, const checkpoint *base,
                    task_model **ret_model, didi_error *error)
{
    task_model *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, task, "model of a task");
    self->base = base;
    int status = package_file_open(package_fd, NULL, &self->shared, error);
    if (status == DIDI_OK)
        status = package_file_open(package_fd, task, &self->expert, error);
    if (status == DIDI_OK)
        status = read_prefix(self, error);
    if (status == DIDI_OK)
        status = list_read(self, PACKAGE_LACKS, &self->lacks, error);
    if (status == DIDI_OK)
        status = list_read(self, PACKAGE_AS_BASE, &self->as_base, error);
    if (status == DIDI_OK)
        status = list_tensors(self, error);
    if (status != DIDI_OK)
        task_model_close(self);
    else
        *ret_model = self;
    return status;
}

void task_model_close(task_model *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < self->count; i++) {
        free(self->tensors[i].name);
        free(self->tensors[i].shape);
    }
    free(self->tensors);
    list_clear(&self->lacks);
    list_clear(&self->as_base);
    package_file_close(self->shared);
    package_file_close(self->expert);
    free(self);
}

size_t task_model_count(const task_model *self)
{
    return self->count;
}

const task_tensor *task_model_at(const task_model *self, size_t index)
{
    assert(index < self->count);
    return &self->tensors[index];
}

const task_tensor *task_model_find(const task_model *self, const char *name)
{
    task_tensor key = {.name = (char *)name};
    return self->count > 0 ? bsearch(&key, self->tensors, self->count, sizeof key, compare_tensors)
                           : NULL;
}

safetensors_layout_entry task_tensor_entry(const task_tensor *tensor)
{
    return (safetensors_layout_entry){tensor->name, tensor->dtype, tensor->dimensions,
                                      tensor->shape};
}

/* ---- bytes ---- */

struct task_pieces {
    const task_model *model;
    const task_tensor *tensor;
    addition shared, expert; /* empty: the base's bytes are taken as they are */
    bool adds;
    uint64_t first;     /* of the base's part: the next byte, or with additions the next row */
    uint64_t own_first; /* likewise of the task's own: byte, or element if converted */
    uint64_t rows;      /* of a panel */
    float *panel, *sum;
    char *bytes;
};

static int read_additions(task_pieces *self, didi_error *error)
{
    const safetensors_tensor *base = self->tensor->base->tensor;
    if (self->tensor->as_base || !didi_dtype_is_float(base->dtype) || base->elements == 0)
        return DIDI_OK;
    uint64_t rows = base->dimensions >= 2 ? base->shape[0] : 1;
    uint64_t columns = base->elements / rows;
    const task_model *model = self->model;
    const package_file *const files[2] = {model->shared, model->expert};
    addition parts[2] = {{0}, {0}};
    int status = package_files_read(files, base->name, rows, columns, parts, error);
    self->shared = parts[0];
    self->expert = parts[1];
    self->adds = status == DIDI_OK &&
                 !(addition_is_empty(&self->shared) && addition_is_empty(&self->expert));
    if (!self->adds)
        return status;
    self->rows = smaller(larger(PANEL_ELEMENTS / columns, 1), rows);
    self->sum = memory_aligned(self->rows, columns * sizeof *self->sum);
    return self->sum != NULL ? DIDI_OK
                             : didi_fail(error, DIDI_NO_MEMORY, base->name, "sum of a panel");
}

static bool converts_own(const task_tensor *tensor)
{
    return tensor->own != NULL && tensor->own->dtype != tensor->dtype;
}

int task_pieces_open(const task_model *model, const task_tensor *tensor, task_pieces **ret_pieces,
                     didi_error *error)
{
    task_pieces *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "pieces of a tensor");
    self->model = model;
    self->tensor = tensor;
    int status = tensor->base != NULL ? read_additions(self, error) : DIDI_OK;
    uint64_t floats = self->adds ? self->rows * self->shared.columns : 0;
    if (converts_own(tensor))
        floats = larger(floats, PANEL_ELEMENTS);
    self->panel = memory_aligned(floats, sizeof *self->panel);
    self->bytes = memory_aligned(larger(floats, PANEL_ELEMENTS / 8), sizeof(uint64_t));
    if (status == DIDI_OK && (self->panel == NULL || self->bytes == NULL))
        status = didi_fail(error, DIDI_NO_MEMORY, tensor->name, "panel");
    if (status != DIDI_OK)
        task_pieces_close(self);
    else
        *ret_pieces = self;
    return status;
}

void task_pieces_close(task_pieces *self)
{
    if (self == NULL)
        return;
    addition_clear(&self->shared);
    addition_clear(&self->expert);
    free(self->panel);
    free(self->sum);
    free(self->bytes);
    free(self);
}

/* The panel's numbers become bytes; `first` is where the first one stands in the tensor. */
static int convert(task_pieces *self, uint64_t first, uint64_t count, size_t *ret_bytes,
                   didi_error *error)
{
    const task_tensor *tensor = self->tensor;
    didi_dtype_from_f32(tensor->dtype, self->panel, self->bytes, count);
    size_t bad = didi_dtype_first_nonfinite_in(tensor->dtype, self->bytes, count);
    if (bad < count)
        return didi_fail(error, DIDI_NUMERIC, tensor->name, "element %llu, %g, is not finite in %s",
                         (unsigned long long)(first + bad), (double)self->panel[bad],
                         didi_dtype_name(tensor->dtype));
    *ret_bytes = count * (didi_dtype_bits(tensor->dtype) / 8);
    return DIDI_OK;
}

/* Sums all additions before they meet the base's larger numbers, so that W is rounded once. */
static int next_panel(task_pieces *self, size_t *ret_bytes, didi_error *error)
{
    uint64_t columns = self->shared.columns;
    uint64_t first = self->first;
    uint64_t rows = smaller(self->shared.rows - first, self->rows);
    uint64_t count = rows * columns;
    int status = checkpoint_read_f32(self->model->base, self->tensor->base, first * columns,
                                     self->panel, count, error);
    memset(self->sum, 0, count * sizeof *self->sum);
    if (status == DIDI_OK)
        status = addition_apply(&self->shared, first, rows, self->sum, error);
    if (status == DIDI_OK)
        status = addition_apply(&self->expert, first, rows, self->sum, error);
    for (uint64_t i = 0; i < count && status == DIDI_OK; i++)
        self->panel[i] += self->sum[i];
    self->first += rows;
    return status == DIDI_OK ? convert(self, first * columns, count, ret_bytes, error) : status;
}

static int next_of_base(task_pieces *self, size_t *ret_bytes, didi_error *error)
{
    const checkpoint_tensor *base = self->tensor->base;
    if (self->adds)
        return self->first < self->shared.rows ? next_panel(self, ret_bytes, error) : DIDI_OK;
    uint64_t count = smaller(base->tensor->bytes - self->first, PANEL_ELEMENTS);
    int status = checkpoint_read(self->model->base, base, self->first, self->bytes, count, error);
    self->first += count;
    if (status == DIDI_OK)
        *ret_bytes = count;
    return status;
}

static int next_of_own(task_pieces *self, size_t *ret_bytes, didi_error *error)
{
    const safetensors_tensor *own = self->tensor->own;
    bool converts = converts_own(self->tensor);
    uint64_t size = converts ? didi_dtype_bits(own->dtype) / 8 : 1;
    uint64_t first = self->own_first;
    uint64_t count = smaller((converts ? own->elements : own->bytes) - first, PANEL_ELEMENTS);
    int status = package_file_read_bytes(self->model->expert, own, first * size, self->bytes,
                                         count * size, error);
    self->own_first += count;
    if (status != DIDI_OK || !converts) {
        *ret_bytes = count;
        return status;
    }
    didi_dtype_to_f32(own->dtype, self->bytes, self->panel, count);
    return convert(self, first, count, ret_bytes, error);
}

int task_pieces_next(task_pieces *self, const void **ret_bytes, size_t *ret_count,
                     didi_error *error)
{
    size_t count = 0;
    int status = self->tensor->base != NULL ? next_of_base(self, &count, error) : DIDI_OK;
    if (status == DIDI_OK && count == 0 && self->tensor->own != NULL)
        status = next_of_own(self, &count, error);
    if (status == DIDI_OK) {
        *ret_bytes = self->bytes;
        *ret_count = count;
    }
    return status;
}
