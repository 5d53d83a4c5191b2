/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes and widths in the manifest. */
#include "src/merge/manifest_precision.h"

#include "src/methods/didi/sizes.h"
#include "src/package/package.h"

#include <stdio.h>

json_t *manifest_widths(const layer_summary *summary, size_t index)
{
    json_t *widths = json_object();
    for (size_t i = PRECISION_WIDTHS; i-- > 0;) {
        size_t count = summary->components[index][i];
        char bits[16];
        (void)snprintf(bits, sizeof bits, "%u", precision_width_bits[i]);
        if (count > 0)
            json_object_set_new(widths, bits, json_integer((json_int_t)count));
    }
    return widths;
}

json_t *manifest_dense_widths(const didi_merge *self)
{
    json_t *tensors = json_object();
    for (size_t i = 0; i < self->dense_count; i++) {
        bool mean = self->dense_summaries[i].form == DIDI_DENSE_MEAN;
        size_t first = mean ? 0 : 1;
        size_t last = mean ? 0 : self->options.task_count;
        json_t *bits = json_array();
        for (size_t file = first; file <= last; file++) {
            bool held = merge_holds_delta(self, i, file);
            unsigned width = held ? self->dense_summaries[i].bits[file] : 0;
            json_array_append_new(bits, json_integer((json_int_t)width));
        }
        json_object_set_new(tensors, self->dense[i]->name, bits);
    }
    return tensors;
}

json_t *manifest_curves(const didi_merge *self)
{
    json_t *curves = json_object();
    double model = (double)merge_base_bytes(self);
    for (int p = 0; p < MERGE_PRECISIONS; p++) {
        const precision_curve *from = &self->curves[p];
        json_t *points = json_array();
        for (size_t i = 0; i < from->count; i++)
            json_array_append_new(
                points, json_pack("{s:I,s:f,s:f}", "bytes", (json_int_t)from->points[i].bytes,
                                  "bytes_ratio", (double)from->points[i].bytes / model, "error",
                                  from->points[i].error));
        if (from->count > 0)
            json_object_set_new(curves, didi_precision_name((didi_precision)p), points);
        else
            json_decref(points);
    }
    return curves;
}

json_t *manifest_packing(void)
{
    return json_pack("{s:i,s:i}", "format", 1, "group", (int)QUANTISE_GROUP);
}
