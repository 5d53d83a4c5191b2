/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.json: what was asked, what went in, what came out, and what it cost. */
#include "src/merge/merge_internal.h"
#include "src/methods/didi/sizes.h"
#include "src/package/package.h"
#include "src/work/similarity.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is summed over tasks: of those an extension keeps, and then of those merged. */
typedef struct figures {
    const didi_merge *merge;
    json_t *names;
    size_t tasks, kept, layers;
    const family_tensor **tensors;       /* layers: also those that a removal alone leaves alone */
    double *weight, *error, *energy;     /* layers x tasks; error is |stored - tau|^2 */
    double *dense_error, *dense_energy;  /* tasks: of the tensors kept whole */
    uint64_t bytes, parameters, factors; /* of all files */
} figures;

static double weight_of(const json_t *tasks, const char *name)
{
    const json_t *weight = json_object_get(manifest_file_row(tasks, "name", name), "weight");
    return json_is_number(weight) ? json_number_value(weight) : 1;
}

/* Weighs the tasks of an extension as a merge of all of them would. */
static void weigh_again(figures *self, const json_t *specification, double *task_weight)
{
    const didi_merge *merge = self->merge;
    const json_t *asked = json_object_get(specification, "tasks");
    for (size_t t = 0; t < self->tasks; t++)
        task_weight[t] = weight_of(asked, json_string_value(json_array_get(self->names, t)));
    for (size_t l = 0; l < self->layers; l++)
        solve_weights(merge->options.weighting, solve_role(self->tensors[l]->name), task_weight,
                      self->energy + l * self->tasks, self->tasks, self->weight + l * self->tasks);
}

static void fill_figures(figures *self)
{
    const didi_merge *merge = self->merge;
    extension_dense_errors(merge->extension, self->dense_error, self->dense_energy);
    for (size_t l = 0; l < self->layers; l++) {
        size_t at = l * self->tasks;
        extension_layer_errors(merge->extension, self->tensors[l]->name, self->error + at,
                               self->energy + at);
    }
    for (size_t t = 0; t < merge->options.task_count; t++) {
        size_t own = self->kept + t;
        json_array_append_new(self->names, json_string(merge->options.tasks[t].name));
        for (size_t l = 0; l < merge->layer_count; l++) {
            size_t at = l * self->tasks + own;
            self->weight[at] = merge->summaries[l].weight[t];
            self->error[at] = merge->summaries[l].error[t];
            self->energy[at] = merge->summaries[l].energy[t];
        }
        for (size_t i = 0; i < merge->dense_count; i++) {
            self->dense_error[own] += merge_dense_error(merge, i, t);
            self->dense_energy[own] += merge->dense_summaries[i].energy[t];
        }
    }
}

static int figures_create(const didi_merge *merge, const json_t *specification,
                          figures *ret_figures, didi_error *error)
{
    size_t kept = extension_kept_count(merge->extension);
    size_t tasks = kept + merge->options.task_count;
    size_t layers = 0;
    const family_tensor **tensors = memory_zeroed(merge->family->tensor_count, sizeof *tensors);
    for (size_t i = 0; tensors != NULL && i < merge->family->tensor_count; i++)
        if (merge->family->tensors[i].kind == FAMILY_MATRIX)
            tensors[layers++] = &merge->family->tensors[i];
    size_t count = layers * tasks;
    double *numbers = memory_zeroed(3 * (count + tasks), sizeof *numbers);
    if (tensors == NULL || numbers == NULL) {
        free(tensors);
        free(numbers);
        return didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "figures of %zu tasks", tasks);
    }
    *ret_figures = (figures){.merge = merge,
                             .names = extension_kept_names(merge->extension),
                             .tasks = tasks,
                             .kept = kept,
                             .layers = layers,
                             .tensors = tensors,
                             .weight = numbers,
                             .error = numbers + count,
                             .energy = numbers + 2 * count,
                             .dense_error = numbers + 3 * count,
                             .dense_energy = numbers + 3 * count + tasks};
    fill_figures(ret_figures);
    if (merge->extension != NULL)
        weigh_again(ret_figures, specification, numbers + 3 * count + 2 * tasks);
    return DIDI_OK;
}

static void figures_clear(figures *self)
{
    json_decref(self->names);
    free(self->tensors);
    free(self->weight);
}

typedef struct sums {
    double error, energy;
} sums;

static double relative(sums of)
{
    return of.energy > 0 ? of.error / of.energy : 0;
}

static void add(sums *to, double error, double energy)
{
    to->error += error;
    to->energy += energy;
}

static json_t *error_section(const figures *self)
{
    sums all = {0, 0};
    sums dense = {0, 0};
    json_t *per_task = json_object();
    json_t *per_layer = json_object();
    json_t *per_dense = json_object();
    json_t *energies = json_object();
    for (size_t t = 0; t < self->tasks; t++) {
        const char *name = json_string_value(json_array_get(self->names, t));
        sums own = {0, 0};
        for (size_t l = 0; l < self->layers; l++)
            add(&own, self->error[l * self->tasks + t], self->energy[l * self->tasks + t]);
        sums own_dense = {self->dense_error[t], self->dense_energy[t]};
        add(&all, own.error, own.energy);
        add(&dense, own_dense.error, own_dense.energy);
        json_object_set_new(per_task, name, json_real(relative(own)));
        json_object_set_new(per_dense, name, json_real(relative(own_dense)));
        json_object_set_new(energies, name, json_real(own_dense.energy));
    }
    for (size_t l = 0; l < self->layers; l++) {
        sums own = {0, 0};
        for (size_t t = 0; t < self->tasks; t++)
            add(&own, self->error[l * self->tasks + t], self->energy[l * self->tasks + t]);
        json_object_set_new(per_layer, self->tensors[l]->name, json_real(relative(own)));
    }
    return json_pack("{s:f,s:f,s:o,s:o,s:o,s:o}", "relative", relative(all), "dense",
                     relative(dense), "per_task", per_task, "per_layer", per_layer,
                     "dense_per_task", per_dense, "dense_energy", energies);
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
static json_t *bits_json(const didi_merge *self, const layer_summary *summary, const json_t *kept)
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
    const didi_merge *self = of->merge;
    const family_tensor *tensor = of->tensors[l];
    const layer_summary *summary = l < self->layer_count ? &self->summaries[l] : NULL;
    const json_t *old = extension_layer(self->extension, tensor->name);
    json_int_t shared = self->extension != NULL ? json_integer_value(json_object_get(old, "shared"))
                                                : (json_int_t)summary->rank[0];
    json_t *experts = extension_kept(self->extension, json_object_get(old, "experts"));
    json_t *dense = extension_kept(self->extension, json_object_get(old, "dense"));
    json_t *errors = extension_kept(self->extension, json_object_get(old, "errors"));
    json_t *energies = extension_kept(self->extension, json_object_get(old, "energies"));
    for (size_t t = 0; t < self->options.task_count; t++) {
        sums own = {summary->error[t], summary->energy[t]};
        json_array_append_new(experts, json_integer((json_int_t)summary->rank[t + 1]));
        json_array_append_new(dense, json_boolean(summary->dense[t + 1]));
        json_array_append_new(errors, json_real(relative(own)));
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

static double share_of_model(const didi_merge *self, uint64_t parameters)
{
    return (double)parameters / (double)self->plan.parameters;
}

static json_t *budget_section(const figures *self)
{
    const didi_merge *merge = self->merge;
    const didi_merge_options *options = &merge->options;
    double model = (double)merge->plan.parameters;
    double bytes = (double)self->bytes;
    double requested = options->task_count > 0 ? options->budget : 0;
    if (merge->extension != NULL)
        requested += options->budget_unit == DIDI_BUDGET_BYTES
                         ? (double)extension_bytes(merge->extension)
                         : share_of_model(merge, extension_parameters(merge->extension));
    return json_pack(
        "{s:f,s:s,s:s,s:f,s:f,s:I,s:f,s:f,s:I,s:I,s:I,s:I}", "requested", requested, "unit",
        didi_budget_unit_name(options->budget_unit), "dtype",
        didi_precision_name(options->precision), "factors", share_of_model(merge, self->factors),
        "parameters", share_of_model(merge, self->parameters), "bytes", (json_int_t)self->bytes,
        "bytes_ratio", bytes / (double)merge_base_bytes(merge), "bytes_ratio_16bit",
        bytes / (2 * model), "model_bytes", (json_int_t)merge_base_bytes(merge), "model_parameters",
        (json_int_t)merge->plan.parameters, "factor_parameters", (json_int_t)self->factors,
        "dense_parameters", (json_int_t)(self->parameters - self->factors));
}

/* Weighted, of tasks [first, end). */
static sums weighted_sums(const figures *self, size_t first, size_t end)
{
    sums found = {0, 0};
    for (size_t l = 0; l < self->layers; l++)
        for (size_t t = first; t < end; t++) {
            size_t at = l * self->tasks + t;
            add(&found, self->weight[at] * self->error[at], self->weight[at] * self->energy[at]);
        }
    return found;
}

/* Error and budget of the tasks merged, as those of all tasks: the kept ones stay as they are. */
typedef struct outlook {
    sums kept, merged;
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
static json_t *curves_json(const didi_merge *self, const outlook *over)
{
    json_t *curves = json_object();
    double model = (double)merge_base_bytes(self);
    for (int p = 0; p < MERGE_PRECISIONS; p++) {
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
static json_t *frontier_section(const figures *self)
{
    const didi_merge *merge = self->merge;
    outlook over = {.kept = weighted_sums(self, 0, self->kept),
                    .merged = weighted_sums(self, self->kept, self->tasks)};
    if (merge->extension != NULL) {
        over.bytes = extension_bytes(merge->extension);
        over.budget = share_of_model(merge, extension_parameters(merge->extension));
    }
    bool known = merge->extension != NULL && over.merged.energy == 0; /* nothing to predict */
    json_t *points = json_array();
    for (size_t i = 0; i < merge->frontier_count; i++) {
        const frontier_point *point = &merge->frontier[i];
        const char *kind = known ? "measured" : point->from_blocks ? "blocks" : "spectra";
        uint64_t stored = point->parameters + merge->dense_stored;
        json_array_append_new(points,
                              json_pack("{s:f,s:f,s:s}", "budget",
                                        share_of_model(merge, stored) + over.budget, "error",
                                        error_of_all(&over, point->error), "kind", kind));
    }
    uint64_t stored = merge->factor_parameters + merge->dense_stored;
    double ratio = (double)self->bytes / (double)merge_base_bytes(merge);
    sums all = {over.kept.error + over.merged.error, over.kept.energy + over.merged.energy};
    return json_pack("{s:o,s:{s:f,s:I,s:f,s:s,s:f,s:s},s:o}", "points", points, "chosen", "budget",
                     share_of_model(merge, stored) + over.budget, "bytes", (json_int_t)self->bytes,
                     "bytes_ratio", ratio, "dtype", didi_precision_name(merge->options.precision),
                     "error", relative(all), "kind", "measured", "precisions",
                     curves_json(merge, &over));
}

static json_t *model_section(const didi_merge *self, const checkpoint *model, size_t *digest)
{
    json_t *files = json_array();
    for (size_t f = 0; f < checkpoint_file_count(model); f++) {
        const checkpoint_file *file = checkpoint_file_at(model, f);
        json_array_append_new(files, json_pack("{s:s,s:I,s:s}", "name", file->name, "bytes",
                                               (json_int_t)file->bytes, "sha256",
                                               self->digests[(*digest)++]));
    }
    return json_pack("{s:s,s:o}", "model", checkpoint_label(model), "files", files);
}

static json_t *inputs_section(const didi_merge *self)
{
    size_t digest = 0;
    json_t *base = model_section(self, self->family->base, &digest);
    json_t *tasks = extension_kept_inputs(self->extension);
    for (size_t t = 0; t < self->options.task_count; t++)
        json_object_set_new(tasks, self->options.tasks[t].name,
                            model_section(self, self->family->tasks[t], &digest));
    return json_pack("{s:o,s:o}", "base", base, "tasks", tasks);
}

/* Numbers in factors of file `index`, and in factors and deltas together. */
static void count_file(const didi_merge *self, size_t index, uint64_t *ret_factors,
                       uint64_t *ret_all)
{
    uint64_t factors = 0;
    uint64_t whole = 0;
    for (size_t l = 0; l < self->layer_count; l++) {
        const layer_summary *summary = &self->summaries[l];
        const family_tensor *tensor = self->layers[l];
        factors +=
            summary->dense[index] ? 0 : summary->rank[index] * (tensor->rows + tensor->columns);
        whole += summary->dense[index] ? tensor->elements : 0;
    }
    for (size_t i = 0; i < self->dense_count; i++)
        whole += merge_holds_delta(self, i, index) ? self->dense[i]->elements : 0;
    *ret_factors = factors;
    *ret_all = factors + whole;
}

/* The files and, in `totals`, what they hold together. An extension's first is one of those kept.
 */
static json_t *files_section(figures *totals, const char *const *names, const uint64_t *bytes,
                             const char (*digests)[65], size_t count)
{
    const didi_merge *self = totals->merge;
    json_t *files = extension_kept_files(self->extension);
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *row = json_array_get(files, i);
        totals->bytes += (uint64_t)json_integer_value(json_object_get(row, "bytes"));
        totals->parameters += (uint64_t)json_integer_value(json_object_get(row, "parameters"));
        totals->factors += (uint64_t)json_integer_value(json_object_get(row, "factor_parameters"));
    }
    for (size_t i = self->extension != NULL ? 1 : 0; i < count; i++) {
        uint64_t factors = 0;
        uint64_t all = 0;
        count_file(self, i, &factors, &all);
        totals->bytes += bytes[i];
        totals->parameters += all;
        totals->factors += factors;
        json_array_append_new(files,
                              json_pack("{s:s,s:I,s:s,s:I,s:I}", "name", names[i], "bytes",
                                        (json_int_t)bytes[i], "sha256", digests[i], "parameters",
                                        (json_int_t)all, "factor_parameters", (json_int_t)factors));
    }
    return files;
}

/* Wall-clock seconds, from a stage's first item to its last, in the process that finished. */
static json_t *seconds_section(const didi_merge *self)
{
    json_t *seconds = json_object();
    for (int stage = 0; stage < DIDI_STAGE_COUNT; stage++)
        json_object_set_new(seconds, didi_stage_name((didi_stage)stage),
                            json_real(merge_stage_seconds(self, (didi_stage)stage)));
    json_object_set_new(seconds, "total", json_real(merge_seconds(self)));
    return seconds;
}

/* What each stage took, in the process that finished. `flops` are those of float32 products; `cpu`
 * is that of all threads. The last stage's are as they are when this is written. */
static json_t *stages_section(const didi_merge *self)
{
    json_t *stages = json_object();
    for (int i = 0; i < DIDI_STAGE_COUNT; i++) {
        const stage_usage *usage = &self->stages[i];
        json_t *stage = json_pack(
            "{s:f,s:f,s:I,s:I,s:I}", "seconds", merge_stage_seconds(self, (didi_stage)i),
            "cpu_seconds", 1e-9 * (double)atomic_load(&usage->cpu_ns), "flops",
            (json_int_t)atomic_load(&usage->flops), "bytes_read", (json_int_t)usage->bytes_read,
            "peak_memory_bytes", (json_int_t)atomic_load(&usage->peak_memory));
        json_object_set_new(stages, didi_stage_name((didi_stage)i), stage);
    }
    return stages;
}

static json_t *tensors_section(const didi_merge *self)
{
    static const char *const kinds[] = {"factors", "dense", "passthrough", "excluded"};
    json_t *tensors = json_object();
    for (size_t i = 0; i < self->family->tensor_count; i++) {
        const family_tensor *tensor = &self->family->tensors[i];
        json_t *shape = json_array();
        for (size_t d = 0; d < tensor->base->tensor->dimensions; d++)
            json_array_append_new(shape, json_integer((json_int_t)tensor->base->tensor->shape[d]));
        json_object_set_new(tensors, tensor->name,
                            json_pack("{s:s,s:s,s:o}", "kept", kinds[tensor->kind], "dtype",
                                      didi_dtype_name(tensor->base->tensor->dtype), "shape",
                                      shape));
    }
    return tensors;
}

static void add_dense_bits(const didi_merge *self, size_t index, json_t *bits)
{
    const dense_summary *summary = &self->dense_summaries[index];
    bool mean = summary->form == DIDI_DENSE_MEAN;
    for (size_t file = mean ? 0 : 1; file <= (mean ? 0 : self->options.task_count); file++) {
        unsigned width = merge_holds_delta(self, index, file) ? summary->bits[file] : 0;
        json_array_append_new(bits, json_integer((json_int_t)width));
    }
}

/* Of a packed package: {tensor: [bits by task]} of tensors kept whole, 0 where nothing is stored;
 * of `dense: mean` a single number. */
static json_t *dense_bits_section(const didi_merge *self)
{
    const family *all = self->family;
    json_t *tensors = json_object();
    for (size_t i = 0, dense = 0; i < all->tensor_count; i++) {
        const char *name = all->tensors[i].name;
        json_t *bits = NULL;
        if (all->tensors[i].kind != FAMILY_DENSE)
            continue;
        bool whole = extension_kept_widths(self->extension, name, &bits);
        if (!whole && dense < self->dense_count)
            add_dense_bits(self, dense, bits);
        json_object_set_new(tensors, name, bits);
        dense++;
    }
    return tensors;
}

static json_t *build_section(void)
{
    didi_blas_info blas;
    didi_blas_describe(&blas);
    return json_pack("{s:s,s:{s:s,s:s,s:s}}", "didi", didi_version(), "blas", "flavour",
                     blas.flavour, "kernel", blas.kernel, "version", blas.version);
}

/* Sections that every manifest has. */
static json_t *manifest_create(figures *of, json_t *specification, json_t *files)
{
    const didi_merge *self = of->merge;
    return json_pack("{s:i,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:o,s:I,s:s}", "format", 1,
                     "specification", specification, "inputs", inputs_section(self), "budget",
                     budget_section(of), "error", error_section(of), "ranks", ranks_section(of),
                     "frontier", frontier_section(of), "tensors", tensors_section(self), "files",
                     files, "seconds", seconds_section(self), "stages", stages_section(self),
                     "peak_memory_bytes", (json_int_t)atomic_load(&self->peak_memory), "versions",
                     build_section(), "seed", (json_int_t)self->options.seed, "fingerprint",
                     self->fingerprint);
}

/* Sections that only some manifests have, and `similarity`, whose place is among them. False when
 * out of memory. */
static bool add_sections(const figures *of, json_t *manifest)
{
    const didi_merge *self = of->merge;
    int failed = 0;
    json_t *similarity = merge_similarity_json(self);
    if (self->extension != NULL) {
        json_t *merged = similarity;
        similarity = extension_similarity(self->extension, of->names, merged, manifest);
        json_decref(merged);
    }
    if (!precision_is_plain(self->options.precision, NULL)) {
        failed |= json_object_set_new(
            manifest, "packing", json_pack("{s:i,s:i}", "format", 1, "group", (int)QUANTISE_GROUP));
        failed |= json_object_set_new(manifest, "dense_bits", dense_bits_section(self));
    }
    failed |= json_object_set_new(manifest, "similarity", similarity);
    if (self->extension != NULL)
        failed |= json_object_set_new(manifest, "extends",
                                      extension_extends(self->extension, of->names, manifest));
    return failed == 0;
}

int manifest_text(const didi_merge *self, const char *const *file_names, const uint64_t *file_bytes,
                  const char (*file_digests)[65], size_t file_count, char **ret_text,
                  didi_error *error)
{
    json_t *specification = NULL;
    json_t *manifest = NULL;
    char *text = NULL;
    figures of = {0};
    if (self->options.specification_json != NULL)
        specification = json_loads(self->options.specification_json, 0, NULL);
    if (specification == NULL)
        specification = json_object();
    int status = figures_create(self, specification, &of, error);
    if (status != DIDI_OK)
        goto out;
    json_t *files = files_section(&of, file_names, file_bytes, file_digests, file_count);
    manifest = manifest_create(&of, json_incref(specification), files);
    if (manifest != NULL && add_sections(&of, manifest))
        text = json_dumps(manifest, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (text == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "the manifest's text");
    else
        *ret_text = text;
out:
    json_decref(manifest);
    json_decref(specification);
    figures_clear(&of);
    return status;
}

int manifest_find(int directory_fd, const char *name, const char *fingerprint, bool *ret_found,
                  didi_error *error)
{
    json_t *manifest = NULL;
    didi_error reading = {0};
    int fd = openat(directory_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        *ret_found = false;
        return DIDI_OK;
    }
    if (fd < 0)
        return didi_fail_errno(error, errno, name, "looking for artifacts of an earlier attempt");
    int status = manifest_file_read(fd, &manifest, &reading);
    (void)close(fd);
    if (status != DIDI_OK && status != DIDI_NOT_FOUND && status != DIDI_FORMAT) {
        if (error != NULL)
            *error = reading;
        return status;
    }
    const char *found = json_string_value(json_object_get(manifest, "fingerprint"));
    bool same = found != NULL && strcmp(found, fingerprint) == 0;
    json_decref(manifest);
    if (!same)
        return didi_fail(error, DIDI_CONFLICT, name,
                         "'%s' exists already and is not what this merge would write", name);
    *ret_found = true;
    return DIDI_OK;
}
