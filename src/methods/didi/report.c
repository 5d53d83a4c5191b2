/* SPDX-License-Identifier: Apache-2.0 */
/* What this method tells of itself: points while it runs, and its sections of the manifest. */
#include "src/methods/didi/didi_method.h"

#include <math.h>
#include <stdio.h>

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
        if (!self->work->done[l])
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
        if (!self->work->done[l])
            continue;
        sums.loss += summary->loss;
        for (size_t t = 0; t < summary->tasks; t++)
            sums.error += summary->error[t];
        add_energies(&sums, summary);
    }
    emit_sums(self, DIDI_STAGE_REFINE, &sums);
}

/* Ranks are part of refinement once there was one. */
didi_stage didi_told_as(const void *method, size_t stage)
{
    const didi *self = method;
    if (stage == DIDI_ROW_RANKS && self->pass_count > 0)
        return DIDI_STAGE_REFINE;
    return stage == DIDI_ROW_DECOMPOSE  ? DIDI_STAGE_DECOMPOSE
           : stage == DIDI_ROW_SCHEDULE ? DIDI_STAGE_ALLOCATE
           : stage == DIDI_ROW_REFINE   ? DIDI_STAGE_REFINE
                                        : DIDI_STAGE_PURSUE;
}

/* Nobody knows how many passes an error asked for takes: each gets half of what is left. */
double didi_progress(const void *method, size_t stage, size_t now, double within)
{
    const didi *self = method;
    double ranks = 1;
    double refine = 25;
    bool passing = self->work->options.budget_unit == DIDI_BUDGET_MAX_ERROR &&
                   stage >= DIDI_ROW_RANKS && now >= DIDI_ROW_RANKS;
    if (!passing)
        return stage < now ? 1 : stage == now ? within : 0;
    double done = now == DIDI_ROW_RANKS ? ranks * within : ranks + refine * within;
    double left = ldexp(1, -(int)self->pass_count);
    return 1 - left + left / 2 * done / (ranks + refine);
}

/* ---- the manifest ---- */

static json_t *widths_of(const layer_summary *summary, size_t index)
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

/* Of a packed layer: components by width, and the widths of experts kept whole. */
static void add_widths(const didi *self, const layer_summary *summary, json_t *row)
{
    if (precision_is_plain(self->work->options.precision, NULL))
        return;
    json_t *experts = json_array();
    json_t *dense = json_array();
    for (size_t t = 1; t <= summary->tasks; t++) {
        json_array_append_new(experts, widths_of(summary, t));
        json_array_append_new(dense, json_integer((json_int_t)summary->dense_bits[t]));
    }
    json_object_set_new(row, "bits",
                        json_pack("{s:o,s:o,s:o}", "shared", widths_of(summary, 0), "experts",
                                  experts, "dense", dense));
}

static json_t *ranks_section(const didi *self)
{
    size_t tasks = self->work->options.task_count;
    json_t *layers = json_array();
    json_t *names = json_array();
    for (size_t t = 0; t < tasks; t++)
        json_array_append_new(names, json_string(self->work->options.tasks[t].name));
    for (size_t l = 0; l < self->work->layer_count; l++) {
        const layer_summary *summary = &self->work->summaries[l];
        const family_tensor *tensor = self->work->layers[l];
        json_t *experts = json_array();
        json_t *dense = json_array();
        json_t *errors = json_array();
        json_t *energies = json_array();
        for (size_t t = 0; t < tasks; t++) {
            double energy = summary->energy[t];
            json_array_append_new(experts, json_integer((json_int_t)summary->rank[t + 1]));
            json_array_append_new(dense, json_boolean(summary->dense[t + 1]));
            json_array_append_new(errors, json_real(energy > 0 ? summary->error[t] / energy : 0));
            json_array_append_new(energies, json_real(energy));
        }
        json_t *row = json_pack(
            "{s:s,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o}", "tensor", tensor->name, "rows",
            (json_int_t)tensor->rows, "columns", (json_int_t)tensor->columns, "rank_limit",
            (json_int_t)tensor->rank_limit, "shared", (json_int_t)summary->rank[0], "experts",
            experts, "dense", dense, "errors", errors, "energies", energies);
        add_widths(self, summary, row);
        json_array_append_new(layers, row);
    }
    return json_pack("{s:o,s:o}", "tasks", names, "layers", layers);
}

static double share_of_model(const didi *self, uint64_t parameters)
{
    return (double)parameters / (double)self->work->plan.parameters;
}

static json_t *curves_section(const didi *self)
{
    json_t *curves = json_object();
    double model = (double)work_base_bytes(self->work);
    for (int p = 0; p < DIDI_PRECISIONS; p++) {
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

/* Error against budget, as a share of the weighted energy. All points are predicted: those of kind
 * `blocks` from the blocks of the pursuit, those of kind `spectra` from the decomposition alone,
 * before blocks fit each other (pursuit's is of experts without a shared part). Neither counts
 * refinement and rounding; `chosen`, measured, does. */
static json_t *frontier_section(const didi *self)
{
    json_t *points = json_array();
    for (size_t i = 0; i < self->frontier_count; i++) {
        const frontier_point *point = &self->frontier[i];
        json_array_append_new(
            points, json_pack("{s:f,s:f,s:s}", "budget",
                              share_of_model(self, point->parameters + self->dense_stored), "error",
                              point->error, "kind", point->from_blocks ? "blocks" : "spectra"));
    }
    double energy = work_weighted_energy(self->work);
    double loss = 0;
    for (size_t l = 0; l < self->work->layer_count; l++)
        for (size_t t = 0; t < self->work->options.task_count; t++)
            loss += self->work->summaries[l].weight[t] * self->work->summaries[l].error[t];
    uint64_t kept = self->factor_parameters + self->dense_stored;
    double ratio = (double)self->work->published_bytes / (double)work_base_bytes(self->work);
    return json_pack(
        "{s:o,s:{s:f,s:I,s:f,s:s,s:f,s:s},s:o}", "points", points, "chosen", "budget",
        share_of_model(self, kept), "bytes", (json_int_t)self->work->published_bytes,
        "bytes_ratio", ratio, "dtype", didi_precision_name(self->work->options.precision), "error",
        energy > 0 ? loss / energy : 0, "kind", "measured", "precisions", curves_section(self));
}

int didi_describe(const void *method, json_t *manifest, didi_error *error)
{
    const didi *self = method;
    if (json_object_set_new(manifest, "ranks", ranks_section(self)) != 0 ||
        json_object_set_new(manifest, "frontier", frontier_section(self)) != 0)
        return didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "ranks and frontier");
    return DIDI_OK;
}
