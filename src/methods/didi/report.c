/* SPDX-License-Identifier: Apache-2.0 */
/* What this method tells of itself: points while it runs, and its sections of the manifest. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- points over the layers done so far ---- */

typedef struct progress_sums {
    double loss, weighted, error, energy, parameters;
} progress_sums;

static void add_energies(progress_sums *sums, const layer_summary *summary)
{
    for (size_t t = 0; t < summary->tasks; t++) {
        sums->energy += summary->energy[t];
        sums->weighted += summary->weight[t] * summary->energy[t];
    }
}

static void emit_sums(const didi *self, didi_stage stage, const progress_sums *sums)
{
    work_point(self->work, stage, self->work->items_done,
               sums->weighted > 0 ? sums->loss / sums->weighted : 0,
               sums->energy > 0 ? sums->error / sums->energy : 0,
               didi_ratio(self, sums->parameters));
}

void didi_report_pursued(void *method)
{
    const didi *self = method;
    progress_sums sums = {0};
    for (size_t l = 0; l < self->work->layer_count; l++) {
        if (self->work->items[l] != ITEM_DONE)
            continue;
        sums.loss += self->pursued[l].loss;
        sums.error += self->pursued[l].error;
        sums.parameters += self->pursued[l].parameters;
        add_energies(&sums, &self->work->summaries[l]);
    }
    emit_sums(self, DIDI_STAGE_PURSUE, &sums);
}

void didi_report_refined(void *method)
{
    const didi *self = method;
    progress_sums sums = {.parameters = (double)self->factor_parameters};
    for (size_t l = 0; l < self->work->layer_count; l++) {
        const layer_summary *summary = &self->work->summaries[l];
        if (self->work->items[l] != ITEM_DONE)
            continue;
        sums.loss += summary->loss;
        for (size_t t = 0; t < summary->tasks; t++)
            sums.error += summary->error[t];
        add_energies(&sums, summary);
    }
    emit_sums(self, DIDI_STAGE_REFINE, &sums);
}

/* ---- the manifest ---- */

/* {"<bits>": components, ...} of block `index` (0 = shared), widest first. */
static json_t *widths_json(const layer_summary *summary, size_t index)
{
    json_t *widths = json_object();
    for (size_t i = PRECISION_WIDTHS; i-- > 0;) {
        size_t count = summary->components[index][i];
        char bits[16];
        (void)snprintf(bits, sizeof bits, "%u", precision_plain_bits(precision_width_bits[i]));
        if (count > 0)
            json_object_set_new(widths, bits, json_integer((json_int_t)count));
    }
    return widths;
}

/* Of a packed layer: components by width, and the widths of experts kept whole. `kept` is the same
 * of the package that is extended. */
static json_t *bits_json(const work *self, const layer_summary *summary, const json_t *kept)
{
    json_t *experts = extension_kept(self->extension, json_object_get(kept, "experts"));
    json_t *dense = extension_kept(self->extension, json_object_get(kept, "dense"));
    json_t *shared = self->extension != NULL ? json_incref(json_object_get(kept, "shared"))
                                             : widths_json(summary, 0);
    for (size_t t = 1; t <= self->options.task_count; t++) {
        json_array_append_new(experts, widths_json(summary, t));
        json_array_append_new(dense, json_integer((json_int_t)summary->dense_bits[t]));
    }
    return json_pack("{s:o,s:o,s:o}", "shared", shared, "experts", experts, "dense", dense);
}

static json_t *layer_json(const figures *of, size_t l)
{
    const work *self = of->work;
    const family_tensor *tensor = of->tensors[l];
    const layer_summary *summary = l < self->layer_count ? &self->summaries[l] : NULL;
    assert(summary != NULL || (self->extension != NULL && self->options.task_count == 0));
    const json_t *old = extension_layer(self->extension, tensor->name);
    json_int_t shared = summary == NULL || self->extension != NULL
                            ? json_integer_value(json_object_get(old, "shared"))
                            : (json_int_t)summary->rank[0];
    json_t *experts = extension_kept(self->extension, json_object_get(old, "experts"));
    json_t *dense = extension_kept(self->extension, json_object_get(old, "dense"));
    json_t *errors = extension_kept(self->extension, json_object_get(old, "errors"));
    json_t *energies = extension_kept(self->extension, json_object_get(old, "energies"));
    for (size_t t = 0; t < self->options.task_count; t++) {
        error_figure own = {summary->error[t], summary->energy[t]};
        json_array_append_new(experts, json_integer((json_int_t)summary->rank[t + 1]));
        json_array_append_new(dense, json_boolean(summary->dense[t + 1]));
        json_array_append_new(errors, json_real(figures_relative(own)));
        json_array_append_new(energies, json_real(own.energy));
    }
    json_t *row =
        json_pack("{s:s,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o}", "tensor", tensor->name, "rows",
                  (json_int_t)tensor->rows, "columns", (json_int_t)tensor->columns, "rank_limit",
                  (json_int_t)tensor->rank_limit, "shared", shared, "experts", experts, "dense",
                  dense, "errors", errors, "energies", energies);
    if (!precision_is_plain(self->options.precision, NULL))
        json_object_set_new(row, "bits", bits_json(self, summary, json_object_get(old, "bits")));
    return row;
}

static json_t *ranks_section(const figures *self)
{
    json_t *layers = json_array();
    for (size_t l = 0; l < self->layers; l++)
        json_array_append_new(layers, layer_json(self, l));
    return json_pack("{s:O,s:o}", "tasks", self->names, "layers", layers);
}

int didi_describe(const void *method, const figures *of, json_t *manifest, didi_error *error)
{
    const didi *self = method;
    assert(of->work == self->work);
    return json_object_set_new(manifest, "ranks", ranks_section(of)) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "the ranks");
}
