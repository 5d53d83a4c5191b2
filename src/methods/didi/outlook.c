/* SPDX-License-Identifier: Apache-2.0 */
/* The section `frontier`: what to expect of other budgets, and which budget to ask for. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <stdlib.h>
#include <string.h>

/* ---- weights ---- */

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

/* ---- points ---- */

/* Error and budget of the tasks merged, as those of all tasks: the kept ones stay as they are. */
typedef struct outlook {
    const didi *merge;
    error_figure kept, merged;
    uint64_t bytes;
    double budget;
    double model; /* bytes of the base's files */
} outlook;

static outlook outlook_of(const didi *self, const figures *of, const double *weight)
{
    const extension *extended = self->work->extension;
    outlook over = {.merge = self,
                    .kept = weighted_sum(of, weight, 0, of->kept),
                    .merged = weighted_sum(of, weight, of->kept, of->tasks),
                    .model = (double)work_base_bytes(self->work)};
    if (extended != NULL) {
        over.bytes = extension_bytes(extended);
        over.budget = work_share_of_model(self->work, extension_parameters(extended));
    }
    return over;
}

static double error_of_all(const outlook *self, double error)
{
    if (self->kept.energy == 0)
        return error;
    return (self->kept.error + error * self->merged.energy) /
           (self->kept.energy + self->merged.energy);
}

static double budget_of_all(const outlook *self, uint64_t factor_parameters)
{
    uint64_t held = factor_parameters + self->merge->dense_stored;
    return work_share_of_model(self->merge->work, held) + self->budget;
}

/* By kind: `blocks` from the blocks of the pursuit, `spectra` from the decomposition alone, before
 * blocks fit each other (pursuit's is of experts without a shared part). Neither counts refinement
 * and rounding. */
static json_t *points_json(const outlook *self)
{
    const didi *merge = self->merge;
    bool known =
        merge->work->extension != NULL && self->merged.energy == 0; /* nothing to predict */
    json_t *points = json_array();
    for (size_t i = 0; i < merge->frontier_count; i++) {
        const frontier_point *point = &merge->frontier[i];
        const char *kind = known ? "measured" : point->from_blocks ? "blocks" : "spectra";
        json_array_append_new(points, json_pack("{s:f,s:f,s:s}", "budget",
                                                budget_of_all(self, point->parameters), "error",
                                                error_of_all(self, point->error), "kind", kind));
    }
    return points;
}

/* `budget`, taken over, is what a job is to ask for. */
static json_t *size_json(const outlook *self, uint64_t merged_bytes, double error, json_t *budget)
{
    uint64_t bytes = merged_bytes + self->bytes;
    return json_pack("{s:I,s:f,s:f,s:o}", "bytes", (json_int_t)bytes, "bytes_ratio",
                     (double)bytes / self->model, "error", error_of_all(self, error), "budget",
                     budget);
}

static json_t *precision_json(const outlook *self, didi_precision precision)
{
    const precision_curve *from = &self->merge->curves[precision];
    json_t *points = json_array();
    for (size_t i = 0; i < from->count; i++) {
        json_int_t bytes = (json_int_t)from->points[i].bytes + (json_int_t)self->bytes;
        json_array_append_new(points, size_json(self, from->points[i].bytes, from->points[i].error,
                                                json_pack("{s:I}", "bytes", bytes)));
    }
    return points;
}

/* {"<precision>": [{"bytes", "bytes_ratio", "error", "budget"}, ...], ...} */
static json_t *precisions_json(const outlook *self)
{
    json_t *curves = json_object();
    for (int p = 0; p < DIDI_PRECISIONS; p++)
        if (self->merge->curves[p].count > 0)
            json_object_set_new(curves, didi_precision_name((didi_precision)p),
                                precision_json(self, (didi_precision)p));
    return curves;
}

/* ---- the curve of this merge's own output, and the sizes that have names ---- */

/* Bytes of the files when factors have so many parameters, all numbers as wide. */
static uint64_t plain_bytes(const didi *self, uint64_t factor_parameters)
{
    double bits = precision_bits(precision_of_matrices(self->work->options.precision));
    double more = (double)factor_parameters - (double)self->factor_parameters;
    double bytes = (double)self->chosen_bytes + more * bits / 8;
    return bytes > 0 ? (uint64_t)bytes : 0;
}

/* Allocators that choose no widths know their points alone. */
static json_t *curve_json(const outlook *self)
{
    const didi *merge = self->merge;
    didi_precision precision = merge->work->options.precision;
    json_t *points = json_array();
    if (merge->curves[precision].count > 0) {
        json_decref(points);
        return precision_json(self, precision);
    }
    for (size_t i = 0; i < merge->frontier_count && self->merged.energy > 0; i++) {
        const frontier_point *point = &merge->frontier[i];
        double budget = budget_of_all(self, point->parameters);
        if (budget > 0)
            json_array_append_new(points, size_json(self, plain_bytes(merge, point->parameters),
                                                    point->error, json_real(budget)));
    }
    return points;
}

static double member(const json_t *points, size_t index, const char *key)
{
    return json_number_value(json_object_get(json_array_get(points, index), key));
}

/* The error at `place` of a curve that rises in `key`; false before its first point. */
static bool error_at(const json_t *points, const char *key, double place, double *ret_error)
{
    size_t count = json_array_size(points);
    size_t next = 0;
    while (next < count && member(points, next, key) <= place)
        next++;
    if (next == 0)
        return false;
    double error = member(points, next - 1, "error");
    if (next < count) {
        double from = member(points, next - 1, key);
        double to = member(points, next, key);
        error += (member(points, next, "error") - error) * (place - from) / (to - from);
    }
    *ret_error = error;
    return true;
}

/* One of a size that has a name; NULL where the tensors kept whole leave it no room. */
static json_t *mark_json(const outlook *self, const char *name, double size, const json_t *points,
                         const json_t *curve)
{
    const work *merge = self->merge->work;
    bool in_bytes = merge->options.precision == DIDI_PRECISION_AUTO;
    double error = 0;
    double parameters = size * (double)merge->plan.parameters;
    double factors = parameters - (double)self->merge->dense_stored;
    double bytes = 2 * parameters;
    if (!in_bytes && factors > 0)
        bytes = (double)plain_bytes(self->merge, (uint64_t)factors);
    if (!in_bytes && factors <= 0)
        return NULL;
    if (!(in_bytes ? error_at(curve, "bytes", bytes, &error)
                   : error_at(points, "budget", size, &error)))
        return NULL;
    return json_pack("{s:s,s:f,s:s,s:I,s:f,s:f}", "name", name, "budget", size, "unit",
                     in_bytes ? "bytes_ratio_16bit" : "parameters", "bytes", (json_int_t)bytes,
                     "bytes_ratio", bytes / self->model, "error", error);
}

/* Of an extension, whose budget is of the tasks added, there are none. */
static json_t *marks_json(const outlook *self, const json_t *points, const json_t *curve)
{
    static const struct {
        const char *name;
        double size;
    } sizes[] = {
#define MARK_SIZE(name, size) {name, size},
        DIDI_SIZE_TABLE(MARK_SIZE)
#undef MARK_SIZE
    };
    json_t *marks = json_array();
    for (size_t i = 0; self->merge->work->extension == NULL && i < sizeof sizes / sizeof *sizes;
         i++) {
        json_t *mark = mark_json(self, sizes[i].name, sizes[i].size, points, curve);
        if (mark != NULL)
            json_array_append_new(marks, mark);
    }
    return marks;
}

/* ---- the section ---- */

/* What was measured of the files; null before there are any. */
static json_t *chosen_json(const outlook *self, const figures *of)
{
    const work *merge = self->merge->work;
    error_figure all = {self->kept.error + self->merged.error,
                        self->kept.energy + self->merged.energy};
    if (of->bytes == 0)
        return json_null();
    return json_pack("{s:f,s:I,s:f,s:s,s:f,s:s}", "budget",
                     budget_of_all(self, self->merge->factor_parameters), "bytes",
                     (json_int_t)of->bytes, "bytes_ratio", (double)of->bytes / self->model, "dtype",
                     didi_precision_name(merge->options.precision), "error", figures_relative(all),
                     "kind", "measured");
}

bool didi_foresees(const void *method, size_t stage)
{
    return stage > DIDI_ROW_RANKS || (stage > DIDI_ROW_SCHEDULE && didi_ranks_are_final(method));
}

int didi_foresee(const void *method, const figures *of, json_t *document, didi_error *error)
{
    const didi *self = method;
    double *weight = weights_of_all(self, of, json_object_get(document, "specification"));
    json_t *section = NULL;
    if (weight != NULL) {
        outlook over = outlook_of(self, of, weight);
        json_t *points = points_json(&over);
        json_t *curve = curve_json(&over);
        json_t *marks = marks_json(&over, points, curve);
        section = json_pack("{s:o,s:o,s:s,s:o,s:o,s:o}", "points", points, "chosen",
                            chosen_json(&over, of), "dtype",
                            didi_precision_name(self->work->options.precision), "curve", curve,
                            "marks", marks, "precisions", precisions_json(&over));
    }
    free(weight);
    return section != NULL && json_object_set_new(document, "frontier", section) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, "frontier", "error against budget");
}
