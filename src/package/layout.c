/* SPDX-License-Identifier: Apache-2.0 */
/* The arrays of a package's files, by ranks and widths. */
#include "src/package/layout.h"

#include "src/base/base.h"
#include "src/package/packed.h"

#include <assert.h>
#include <stdlib.h>

/* ---- parts ---- */

static uint64_t factors_bytes(const stored_tensor *tensor, const size_t *components)
{
    uint64_t bytes = PACKED_FACTORS_HEADER_BYTES;
    for (size_t i = 0; i < PRECISION_WIDTHS; i++)
        if (components[i] > 0)
            bytes += PACKED_SEGMENT_BYTES +
                     components[i] * packed_component_bytes(tensor->rows, tensor->columns,
                                                            precision_width_bits[i]);
    return bytes;
}

static stored_array packed_array(const char *suffix, uint64_t bytes)
{
    return (stored_array){suffix, KEPT_PACKED, DIDI_DTYPE_U8, 1, bytes, 1, false};
}

size_t stored_arrays(const stored_tensor *tensor, const stored_part *part, size_t file,
                     didi_precision precision, stored_array ret_arrays[STORED_ARRAYS_MAX])
{
    didi_dtype dtype = DIDI_DTYPE_U8;
    bool plain = precision_is_plain(precision, &dtype);
    uint64_t rows = tensor->rows;
    uint64_t columns = tensor->columns;
    if (part->delta) {
        ret_arrays[0] =
            plain ? (stored_array){"delta", KEPT_DELTA, dtype, tensor->base->dimensions,
                                   rows,    columns,    true}
                  : packed_array("delta_packed", packed_dense_bytes(rows, columns, part->bits));
        return 1;
    }
    if (part->rank == 0)
        return 0;
    if (!plain) {
        ret_arrays[0] = packed_array(file == 0 ? "shared_packed" : "expert_packed",
                                     factors_bytes(tensor, part->components));
        return 1;
    }
    ret_arrays[0] = (stored_array){
        file == 0 ? "shared_B" : "expert_B", KEPT_B, dtype, 2, rows, part->rank, false};
    ret_arrays[1] = (stored_array){
        file == 0 ? "shared_A" : "expert_A", KEPT_A, dtype, 2, part->rank, columns, false};
    return 2;
}

int stored_array_find(const snapshot *from, const char *tensor, size_t file,
                      const stored_array *array, const void **ret_data, didi_error *error)
{
    char name[KEPT_NAME_BYTES];
    uint64_t rows = 0;
    kept_name(array->kept, file, name);
    int status = snapshot_find(from, name, array->dtype, array->columns, &rows, ret_data, error);
    if (status == DIDI_OK && rows != array->rows)
        status = didi_fail(error, DIDI_FORMAT, tensor, "layer state holds %llu rows of %llu",
                           (unsigned long long)rows, (unsigned long long)array->rows);
    return status;
}

uint64_t stored_factor_parameters(const stored_tensor *tensor, const stored_part *part)
{
    return part->delta ? 0 : part->rank * (tensor->rows + tensor->columns);
}

uint64_t stored_delta_parameters(const stored_tensor *tensor, const stored_part *part)
{
    return part->delta ? tensor->rows * tensor->columns : 0;
}

/* ---- tensors of one task alone ---- */

uint64_t stored_own_elements(const stored_own *own)
{
    uint64_t rows = own->source->dimensions > 0 ? own->source->shape[0] : 1;
    assert(own->rows_before < rows || own->rows_before == 0);
    return own->rows_before == 0 ? own->source->elements
                                 : own->source->elements / rows * (rows - own->rows_before);
}

didi_dtype stored_own_dtype(const stored_own *own, didi_precision precision)
{
    didi_dtype dtype = own->source->dtype;
    didi_dtype wanted = DIDI_DTYPE_BF16;
    (void)precision_is_plain(precision, &wanted);
    bool narrow = didi_dtype_bits(dtype) <= didi_dtype_bits(wanted);
    return narrow || !didi_dtype_is_float(dtype) ? dtype : wanted;
}

uint64_t stored_own_bytes(const stored_own *own, didi_precision precision)
{
    return (stored_own_elements(own) * didi_dtype_bits(stored_own_dtype(own, precision)) + 7) / 8;
}

const char *stored_own_suffix(const stored_own *own)
{
    return own->rows_before > 0 ? "own_rows" : "own";
}

const char *package_saying_key(package_saying what)
{
    static const char *const keys[] = {"prefix_added", "prefix_dropped", "lacks", "as_base"};
    return keys[what];
}

/* ---- files ---- */

void package_layout_clear(package_layout *self)
{
    for (size_t i = 0; self->names != NULL && i < self->count; i++)
        free(self->names[i]);
    for (size_t i = 0; i < PACKAGE_SAYINGS; i++)
        free(self->sayings[i]);
    free(self->names);
    free(self->shapes);
    free(self->entries);
    *self = (package_layout){0};
}

int package_layout_create(size_t tensors, package_layout *ret_layout, didi_error *error)
{
    size_t room = STORED_ARRAYS_MAX * tensors;
    *ret_layout = (package_layout){.entries = memory_zeroed(room, sizeof(safetensors_layout_entry)),
                                   .shapes = memory_zeroed(room, sizeof(uint64_t[2])),
                                   .names = memory_zeroed(room, sizeof(char *)),
                                   .room = room};
    if (ret_layout->entries != NULL && ret_layout->shapes != NULL && ret_layout->names != NULL)
        return DIDI_OK;
    package_layout_clear(ret_layout);
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "layout of %zu tensors", room);
}

int package_layout_add(package_layout *self, const stored_tensor *tensor, const stored_part *part,
                       size_t file, didi_precision precision, didi_error *error)
{
    stored_array arrays[STORED_ARRAYS_MAX];
    size_t count = stored_arrays(tensor, part, file, precision, arrays);
    assert(self->count + count <= self->room);
    for (size_t i = 0; i < count; i++) {
        const stored_array *from = &arrays[i];
        char *name = memory_format("%s.%s", tensor->base->name, from->suffix);
        if (name == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, tensor->base->name, "name of a factor");
        uint64_t *shape = self->shapes[self->count];
        shape[0] = from->rows;
        shape[1] = from->columns;
        self->names[self->count] = name;
        self->entries[self->count++] =
            (safetensors_layout_entry){name, from->dtype, from->dimensions,
                                       from->shaped_as_base ? tensor->base->shape : shape};
    }
    return DIDI_OK;
}

int package_layout_add_own(package_layout *self, const stored_own *own, didi_precision precision,
                           didi_error *error)
{
    assert(self->count < self->room);
    char *name = memory_format("%s.%s", own->name, stored_own_suffix(own));
    uint64_t *shape = self->shapes[self->count];
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, own->name, "name of a tensor");
    if (own->rows_before > 0) {
        assert(own->source->dimensions == 2);
        shape[0] = own->source->shape[0] - own->rows_before;
        shape[1] = own->source->shape[1];
    }
    self->names[self->count] = name;
    self->entries[self->count++] =
        (safetensors_layout_entry){name, stored_own_dtype(own, precision), own->source->dimensions,
                                   own->rows_before > 0 ? shape : own->source->shape};
    self->owns = true;
    return DIDI_OK;
}

int package_layout_say(package_layout *self, package_saying what, const char *text,
                       didi_error *error)
{
    assert(self->sayings[what] == NULL);
    self->sayings[what] = memory_string(text);
    return self->sayings[what] != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "what a file says of names");
}

/* Format 2 has packed tensors, 3 what only one task has or says of names. */
safetensors_contents package_layout_contents(package_layout *self, didi_precision precision)
{
    size_t count = 2;
    bool third = self->owns;
    for (size_t i = 0; i < PACKAGE_SAYINGS; i++) {
        if (self->sayings[i] == NULL)
            continue;
        self->metadata[count][0] = package_saying_key((package_saying)i);
        self->metadata[count++][1] = self->sayings[i];
        third = true;
    }
    self->metadata[0][0] = "format";
    self->metadata[0][1] = "didi";
    self->metadata[1][0] = "didi_format";
    self->metadata[1][1] = third ? "3" : precision_is_plain(precision, NULL) ? "1" : "2";
    return (safetensors_contents){self->entries, self->count, self->metadata, count};
}
