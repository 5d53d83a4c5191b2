/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors of a package's files, by ranks and widths. */
#include "src/package/layout.h"

#include "src/base/base.h"
#include "src/package/packed.h"

#include <stdlib.h>
#include <string.h>

/* Format 2 has packed tensors. */
static const char *const plain_metadata[PACKAGE_METADATA][2] = {{"format", "didi"},
                                                                {"didi_format", "1"}};
static const char *const packed_metadata[PACKAGE_METADATA][2] = {{"format", "didi"},
                                                                 {"didi_format", "2"}};

const char *const (*package_layout_metadata(const didi_merge *merge))[2]
{
    return precision_is_plain(merge->options.precision, NULL) ? plain_metadata : packed_metadata;
}

void package_layout_clear(package_layout *self)
{
    for (size_t i = 0; self->names != NULL && i < self->count; i++)
        free(self->names[i]);
    free(self->names);
    free(self->shapes);
    free(self->entries);
    *self = (package_layout){0};
}

static int create_room(package_layout *self, size_t room, didi_error *error)
{
    *self = (package_layout){.entries = memory_zeroed(room, sizeof(safetensors_layout_entry)),
                             .shapes = memory_zeroed(room, sizeof(uint64_t[2])),
                             .names = memory_zeroed(room, sizeof(char *)),
                             .room = room};
    if (self->entries == NULL || self->shapes == NULL || self->names == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layout of %zu tensors", room);
    return DIDI_OK;
}

static int add(package_layout *self, didi_dtype dtype, const char *tensor, const char *suffix,
               size_t dimensions, const uint64_t *shape, didi_error *error)
{
    char *name = memory_format("%s.%s", tensor, suffix);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor, "name of a factor");
    size_t i = self->count++;
    self->names[i] = name;
    self->entries[i] = (safetensors_layout_entry){name, dtype, dimensions, shape};
    return DIDI_OK;
}

static int add_packed(package_layout *self, const char *tensor, const char *suffix, uint64_t bytes,
                      didi_error *error)
{
    uint64_t *shape = self->shapes[self->count];
    shape[0] = bytes;
    return add(self, DIDI_DTYPE_U8, tensor, suffix, 1, shape, error);
}

static int add_factors(package_layout *self, didi_dtype dtype, const family_tensor *tensor,
                       size_t rank, bool shared, didi_error *error)
{
    uint64_t(*shapes)[2] = self->shapes + self->count;
    shapes[0][0] = tensor->rows;
    shapes[0][1] = rank;
    shapes[1][0] = rank;
    shapes[1][1] = tensor->columns;
    int status =
        add(self, dtype, tensor->name, shared ? "shared_B" : "expert_B", 2, shapes[0], error);
    if (status == DIDI_OK)
        status =
            add(self, dtype, tensor->name, shared ? "shared_A" : "expert_A", 2, shapes[1], error);
    return status;
}

static uint64_t factors_bytes(const family_tensor *tensor, const size_t *components)
{
    uint64_t bytes = PACKED_FACTORS_HEADER_BYTES;
    for (size_t i = 0; i < PRECISION_WIDTHS; i++)
        if (components[i] > 0)
            bytes += packed_segment_bytes() +
                     components[i] * packed_component_bytes(tensor->rows, tensor->columns,
                                                            precision_width_bits[i]);
    return bytes;
}

static int add_layer(const didi_merge *merge, size_t l, size_t file, package_layout *out,
                     didi_error *error)
{
    didi_dtype dtype = DIDI_DTYPE_U8;
    bool plain = precision_is_plain(merge->options.precision, &dtype);
    const layer_summary *summary = &merge->summaries[l];
    const family_tensor *tensor = merge->layers[l];
    const safetensors_tensor *base = tensor->base->tensor;
    if (plain && summary->dense[file])
        return add(out, dtype, base->name, "delta", base->dimensions, base->shape, error);
    if (summary->dense[file])
        return add_packed(
            out, base->name, "delta_packed",
            packed_dense_bytes(tensor->rows, tensor->columns, summary->dense_bits[file]), error);
    if (summary->rank[file] == 0)
        return DIDI_OK;
    if (plain)
        return add_factors(out, dtype, tensor, summary->rank[file], file == 0, error);
    return add_packed(out, base->name, file == 0 ? "shared_packed" : "expert_packed",
                      factors_bytes(tensor, summary->components[file]), error);
}

static int add_dense(const didi_merge *merge, size_t index, size_t file, package_layout *out,
                     didi_error *error)
{
    didi_dtype dtype = DIDI_DTYPE_U8;
    const family_tensor *tensor = merge->dense[index];
    const safetensors_tensor *base = tensor->base->tensor;
    if (!merge_holds_delta(merge, index, file))
        return DIDI_OK;
    if (precision_is_plain(merge->options.precision, &dtype))
        return add(out, dtype, base->name, "delta", base->dimensions, base->shape, error);
    unsigned bits = merge->dense_summaries[index].bits[file];
    return add_packed(out, base->name, "delta_packed",
                      packed_dense_bytes(tensor->rows, tensor->columns, bits), error);
}

int package_layout_create(const didi_merge *merge, size_t file, package_layout *ret_layout,
                          didi_error *error)
{
    int status = create_room(ret_layout, 2 * merge->layer_count + merge->dense_count, error);
    for (size_t l = 0; l < merge->layer_count && status == DIDI_OK; l++)
        status = add_layer(merge, l, file, ret_layout, error);
    for (size_t i = 0; i < merge->dense_count && status == DIDI_OK; i++)
        status = add_dense(merge, i, file, ret_layout, error);
    if (status != DIDI_OK)
        package_layout_clear(ret_layout);
    return status;
}

int merge_package_bytes(const didi_merge *self, uint64_t *ret_bytes, didi_error *error)
{
    *ret_bytes = 0;
    for (size_t file = self->extension != NULL ? 1 : 0; file <= self->options.task_count; file++) {
        package_layout found;
        uint64_t bytes = 0;
        int status = package_layout_create(self, file, &found, error);
        if (status == DIDI_OK)
            status =
                safetensors_layout_bytes(found.entries, found.count, package_layout_metadata(self),
                                         PACKAGE_METADATA, &bytes, error);
        package_layout_clear(&found);
        if (status != DIDI_OK)
            return status;
        *ret_bytes = memory_add(*ret_bytes, bytes);
    }
    return DIDI_OK;
}
