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

/* ---- files ---- */

void package_layout_clear(package_layout *self)
{
    for (size_t i = 0; self->names != NULL && i < self->count; i++)
        free(self->names[i]);
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

safetensors_contents package_layout_contents(const package_layout *self, didi_precision precision)
{
    /* Format 2 has packed tensors. */
    static const char *const first[][2] = {{"format", "didi"}, {"didi_format", "1"}};
    static const char *const second[][2] = {{"format", "didi"}, {"didi_format", "2"}};
    return (safetensors_contents){self->entries, self->count,
                                  precision_is_plain(precision, NULL) ? first : second, 2};
}
