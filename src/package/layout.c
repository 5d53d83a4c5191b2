/* SPDX-License-Identifier: Apache-2.0 */
/* The arrays of a package's files, by ranks and widths. */
#include "src/package/layout.h"

#include "src/base/base.h"
#include "src/package/packed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- parts ---- */

static uint64_t factors_bytes(const stored_tensor *tensor, const size_t *components)
{
    uint64_t bytes = PACKED_FACTORS_HEADER_BYTES;
    for (size_t i = 0; i < PRECISION_WIDTHS; i++)
        if (components[i] > 0)
            bytes += packed_segment_bytes() +
                     components[i] * packed_component_bytes(tensor->rows, tensor->columns,
                                                            precision_width_bits[i]);
    return bytes;
}

static stored_array packed_array(const char *suffix, uint64_t bytes)
{
    return (stored_array){.suffix = suffix,
                          .kept = KEPT_PACKED,
                          .dtype = DIDI_DTYPE_U8,
                          .dimensions = 1,
                          .shape = {bytes, 0},
                          .rows = bytes,
                          .columns = 1};
}

static stored_array factor_array(const char *suffix, kept_array kept, didi_dtype dtype,
                                 uint64_t rows, uint64_t columns)
{
    return (stored_array){.suffix = suffix,
                          .kept = kept,
                          .dtype = dtype,
                          .dimensions = 2,
                          .shape = {rows, columns},
                          .rows = rows,
                          .columns = columns};
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
            plain ? (stored_array){.suffix = "delta",
                                   .kept = KEPT_DELTA,
                                   .dtype = dtype,
                                   .dimensions = tensor->base->dimensions,
                                   .shaped_as_base = true,
                                   .rows = rows,
                                   .columns = columns}
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
    ret_arrays[0] =
        factor_array(file == 0 ? "shared_B" : "expert_B", KEPT_B, dtype, rows, part->rank);
    ret_arrays[1] =
        factor_array(file == 0 ? "shared_A" : "expert_A", KEPT_A, dtype, part->rank, columns);
    return 2;
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
        memcpy(shape, from->shape, sizeof from->shape);
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
