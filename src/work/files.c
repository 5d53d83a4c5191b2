/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a package hold of the tensors, at the ranks and widths in force. */
#include "src/work/work.h"

#include "src/base/base.h"

stored_tensor stored_tensor_of(const family_tensor *tensor)
{
    return (stored_tensor){tensor->base->tensor, tensor->rows, tensor->columns};
}

stored_part stored_part_of(const layer_summary *summary, size_t file)
{
    return (stored_part){.delta = summary->dense[file],
                         .rank = summary->rank[file],
                         .components = summary->components[file],
                         .bits = summary->dense_bits[file]};
}

int work_file_layout(const work *self, size_t file, package_layout *ret_layout, didi_error *error)
{
    didi_precision precision = self->options.precision;
    int status = package_layout_create(self->layer_count + self->dense_count, ret_layout, error);
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++) {
        stored_tensor tensor = stored_tensor_of(self->layers[l]);
        stored_part part = stored_part_of(&self->summaries[l], file);
        status = package_layout_add(ret_layout, &tensor, &part, file, precision, error);
    }
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++) {
        stored_tensor tensor = stored_tensor_of(self->dense[i]);
        stored_part part = {.delta = work_holds_delta(self, i, file),
                            .bits = self->dense_summaries[i].bits[file]};
        status = package_layout_add(ret_layout, &tensor, &part, file, precision, error);
    }
    if (status != DIDI_OK)
        package_layout_clear(ret_layout);
    return status;
}

int work_package_bytes(const work *self, uint64_t *ret_bytes, didi_error *error)
{
    *ret_bytes = 0;
    for (size_t file = self->extension != NULL ? 1 : 0; file <= self->options.task_count; file++) {
        package_layout found;
        uint64_t bytes = 0;
        int status = work_file_layout(self, file, &found, error);
        if (status == DIDI_OK)
            status = safetensors_layout_bytes(found.entries, found.count,
                                              package_layout_metadata(self->options.precision),
                                              PACKAGE_METADATA, &bytes, error);
        package_layout_clear(&found);
        if (status != DIDI_OK)
            return status;
        *ret_bytes = memory_add(*ret_bytes, bytes);
    }
    return DIDI_OK;
}
