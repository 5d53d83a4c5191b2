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

static double weight_of(const json_t *tasks, const char *name)
{
    const json_t *weight = json_object_get(manifest_file_row(tasks, "name", name), "weight");
    return json_is_number(weight) ? json_number_value(weight) : 1;
}

/* Weighs the tasks of an extension as a merge of all of them would. */
static void weigh_again(const figures *of, const json_t *specification, double *task_weight,
                        double *weight)
{
    const json_t *asked = json_object_get(specification, "tasks");
    for (size_t t = 0; t < of->tasks; t++)
        task_weight[t] = weight_of(asked, json_string_value(json_array_get(of->names, t)));
    for (size_t l = 0; l < of->layers; l++)
        solve_weights(of->work->options.weighting, solve_role(of->tensors[l]->name), task_weight,
                      of->energy + l * of->tasks, of->tasks, weight + l * of->tasks);
}

/* {"<bits>": components, ...} of block `index` (0 = shared), widest first. */
static json_t *widths_json(const layer_summary *summary, size_t index)
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
    json_int_t shared = self->extension != NULL ? json_integer_value(json_object_get(old, "shared"))
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

/* Weighted, of tasks [first, end). */
static error_figure weighted_sum(const figures *self, const double *weight, size_t first,
                                 size_t end)
{
    error_figure found = {0, 0};
    for (size_t l = 0; l < self->layers; l++)
        for (size_t t = first; t < end; t++) {
            size_t at = l * self->tasks + t;
            figures_add(&found, weight[at] * self->error[at], weight[at] * self->energy[at]);
        }
    return found;
}

/* Error and budget of the tasks merged, as those of all tasks: the kept ones stay as they are. */
typedef struct outlook {
    error_figure kept, merged;
    uint64_t bytes;
    double budget;
} outlook;

static double error_of_all(const outlook *self, double error)
{
    if (self->kept.energy == 0)
        return error;
    return (self->kept.error + error * self->merged.energy) /
           (self->kept.energy + self->merged.energy);
}

/* {"<precision>": [{"bytes", "bytes_ratio", "error"}, ...], ...} */
static json_t *curves_json(const didi *self, const outlook *over)
{
    json_t *curves = json_object();
    double model = (double)work_base_bytes(self->work);
    for (int p = 0; p < DIDI_PRECISIONS; p++) {
        const precision_curve *from = &self->curves[p];
        json_t *points = json_array();
        for (size_t i = 0; i < from->count; i++) {
            uint64_t bytes = from->points[i].bytes + over->bytes;
            json_array_append_new(points, json_pack("{s:I,s:f,s:f}", "bytes", (json_int_t)bytes,
                                                    "bytes_ratio", (double)bytes / model, "error",
                                                    error_of_all(over, from->points[i].error)));
        }
        if (from->count > 0)
            json_object_set_new(curves, didi_precision_name((didi_precision)p), points);
        else
            json_decref(points);
    }
    return curves;
}

/* Error against budget, as a share of the weighted energy. All points are predicted: those of kind
 * `blocks` from the blocks of the pursuit, those of kind `spectra` from the decomposition alone,
 * before blocks fit each other (pursuit's is of experts without a shared part). Neither counts
 * refinement and rounding; `chosen`, measured, does. */
static json_t *frontier_section(const didi *self, const figures *of, const double *weight)
{
    const work *merge = self->work;
    outlook over = {.kept = weighted_sum(of, weight, 0, of->kept),
                    .merged = weighted_sum(of, weight, of->kept, of->tasks)};
    if (merge->extension != NULL) {
        over.bytes = extension_bytes(merge->extension);
        over.budget = work_share_of_model(merge, extension_parameters(merge->extension));
    }
    bool known = merge->extension != NULL && over.merged.energy == 0; /* nothing to predict */
    json_t *points = json_array();
    for (size_t i = 0; i < self->frontier_count; i++) {
        const frontier_point *point = &self->frontier[i];
        const char *kind = known ? "measured" : point->from_blocks ? "blocks" : "spectra";
        uint64_t held = point->parameters + self->dense_stored;
        json_array_append_new(points,
                              json_pack("{s:f,s:f,s:s}", "budget",
                                        work_share_of_model(merge, held) + over.budget, "error",
                                        error_of_all(&over, point->error), "kind", kind));
    }
    uint64_t held = self->factor_parameters + self->dense_stored;
    double ratio = (double)of->bytes / (double)work_base_bytes(merge);
    error_figure all = {over.kept.error + over.merged.error, over.kept.energy + over.merged.energy};
    return json_pack("{s:o,s:{s:f,s:I,s:f,s:s,s:f,s:s},s:o}", "points", points, "chosen", "budget",
                     work_share_of_model(merge, held) + over.budget, "bytes", (json_int_t)of->bytes,
                     "bytes_ratio", ratio, "dtype", didi_precision_name(merge->options.precision),
                     "error", figures_relative(all), "kind", "measured", "precisions",
                     curves_json(self, &over));
}

/* The weights of all tasks, layer by layer. The caller frees. */
static double *weights_of_all(const didi *self, const figures *of, const json_t *specification)
{
    double *weight = memory_zeroed((of->layers + 1) * of->tasks, sizeof *weight);
    if (weight == NULL)
        return NULL;
    for (size_t l = 0; l < self->work->layer_count; l++)
        memcpy(weight + l * of->tasks + of->kept, self->work->summaries[l].weight,
               self->work->options.task_count * sizeof *weight);
    if (self->work->extension != NULL)
        weigh_again(of, specification, weight + of->layers * of->tasks, weight);
    return weight;
}

int didi_describe(const void *method, const figures *of, json_t *manifest, didi_error *error)
{
    const didi *self = method;
    double *weight = weights_of_all(self, of, json_object_get(manifest, "specification"));
    int failed = weight == NULL;
    if (failed == 0) {
        failed |= json_object_set_new(manifest, "ranks", ranks_section(of));
        failed |= json_object_set_new(manifest, "frontier", frontier_section(self, of, weight));
    }
    free(weight);
    return failed == 0 ? DIDI_OK
                       : didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "ranks and frontier");
}
