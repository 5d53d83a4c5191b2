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
#include <string.h>
#include <unistd.h>

static json_t *error_section(const didi_merge *self)
{
    size_t tasks = self->options.task_count;
    double error_sum = 0;
    double energy_sum = 0;
    double dense_error = 0;
    double dense_energy = 0;
    json_t *per_task = json_object();
    json_t *per_layer = json_object();
    json_t *per_dense = json_object();
    json_t *energies = json_object();
    for (size_t t = 0; t < tasks; t++) {
        double energy = merge_task_energy(self, t);
        double error = 0;
        for (size_t l = 0; l < self->layer_count; l++)
            error += self->summaries[l].error[t];
        error_sum += error;
        energy_sum += energy;
        json_object_set_new(per_task, self->options.tasks[t].name,
                            json_real(energy > 0 ? error / energy : 0));
    }
    for (size_t l = 0; l < self->layer_count; l++) {
        double error = 0;
        double energy = 0;
        for (size_t t = 0; t < tasks; t++) {
            error += self->summaries[l].error[t];
            energy += self->summaries[l].energy[t];
        }
        json_object_set_new(per_layer, self->layers[l]->name,
                            json_real(energy > 0 ? error / energy : 0));
    }
    for (size_t t = 0; t < tasks; t++) {
        double error = 0;
        double energy = 0;
        for (size_t i = 0; i < self->dense_count; i++) {
            error += merge_dense_error(self, i, t);
            energy += self->dense_summaries[i].energy[t];
        }
        dense_error += error;
        dense_energy += energy;
        json_object_set_new(per_dense, self->options.tasks[t].name,
                            json_real(energy > 0 ? error / energy : 0));
        json_object_set_new(energies, self->options.tasks[t].name, json_real(energy));
    }
    return json_pack("{s:f,s:f,s:o,s:o,s:o,s:o}", "relative",
                     energy_sum > 0 ? error_sum / energy_sum : 0, "dense",
                     dense_energy > 0 ? dense_error / dense_energy : 0, "per_task", per_task,
                     "per_layer", per_layer, "dense_per_task", per_dense, "dense_energy", energies);
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

/* Of a packed layer: components by width, and the widths of experts kept whole. */
static void add_widths(const didi_merge *self, const layer_summary *summary, json_t *row)
{
    if (precision_is_plain(self->options.precision, NULL))
        return;
    json_t *experts = json_array();
    json_t *dense = json_array();
    for (size_t t = 1; t <= summary->tasks; t++) {
        json_array_append_new(experts, widths_json(summary, t));
        json_array_append_new(dense, json_integer((json_int_t)summary->dense_bits[t]));
    }
    json_object_set_new(row, "bits",
                        json_pack("{s:o,s:o,s:o}", "shared", widths_json(summary, 0), "experts",
                                  experts, "dense", dense));
}

static json_t *ranks_section(const didi_merge *self)
{
    size_t tasks = self->options.task_count;
    json_t *layers = json_array();
    json_t *names = json_array();
    for (size_t t = 0; t < tasks; t++)
        json_array_append_new(names, json_string(self->options.tasks[t].name));
    for (size_t l = 0; l < self->layer_count; l++) {
        const layer_summary *summary = &self->summaries[l];
        const family_tensor *tensor = self->layers[l];
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

static double share_of_model(const didi_merge *self, uint64_t parameters)
{
    return (double)parameters / (double)self->plan.parameters;
}

/* Experts that the allocation kept whole. */
static uint64_t whole_experts(const didi_merge *self)
{
    uint64_t parameters = 0;
    for (size_t l = 0; l < self->layer_count; l++)
        for (size_t j = 0; j <= self->options.task_count; j++)
            parameters += self->summaries[l].dense[j] ? self->layers[l]->elements : 0;
    return parameters;
}

static json_t *budget_section(const didi_merge *self)
{
    uint64_t stored = self->factor_parameters + self->dense_stored;
    uint64_t factors = self->factor_parameters - whole_experts(self);
    uint64_t one_model = merge_base_bytes(self);
    double published = (double)self->published_bytes;
    double half_width = 2 * (double)self->plan.parameters; /* one model in 16 bits */
    return json_pack("{s:f,s:s,s:s,s:f,s:f,s:I,s:f,s:f,s:I,s:I,s:I,s:I}", "requested",
                     self->options.budget, "unit", didi_budget_unit_name(self->options.budget_unit),
                     "dtype", didi_precision_name(self->options.precision), "factors",
                     share_of_model(self, factors), "parameters", share_of_model(self, stored),
                     "bytes", (json_int_t)self->published_bytes, "bytes_ratio",
                     published / (double)one_model, "bytes_ratio_16bit", published / half_width,
                     "model_bytes", (json_int_t)one_model, "model_parameters",
                     (json_int_t)self->plan.parameters, "factor_parameters", (json_int_t)factors,
                     "dense_parameters", (json_int_t)(stored - factors));
}

/* {"<precision>": [{"bytes", "bytes_ratio", "error"}, ...], ...} */
static json_t *curves_json(const didi_merge *self)
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

/* Error against budget, as a share of the weighted energy. All points are predicted: those of kind
 * `blocks` from the blocks of the pursuit, those of kind `spectra` from the decomposition alone,
 * before blocks fit each other (pursuit's is of experts without a shared part). Neither counts
 * refinement and rounding; `chosen`, measured, does. */
static json_t *frontier_section(const didi_merge *self)
{
    json_t *points = json_array();
    for (size_t i = 0; i < self->frontier_count; i++) {
        const frontier_point *point = &self->frontier[i];
        json_array_append_new(
            points, json_pack("{s:f,s:f,s:s}", "budget",
                              share_of_model(self, point->parameters + self->dense_stored), "error",
                              point->error, "kind", point->from_blocks ? "blocks" : "spectra"));
    }
    double energy = merge_total_energy(self);
    double loss = 0;
    for (size_t l = 0; l < self->layer_count; l++)
        for (size_t t = 0; t < self->options.task_count; t++)
            loss += self->summaries[l].weight[t] * self->summaries[l].error[t];
    uint64_t stored = self->factor_parameters + self->dense_stored;
    double ratio = (double)self->published_bytes / (double)merge_base_bytes(self);
    return json_pack("{s:o,s:{s:f,s:I,s:f,s:s,s:f,s:s},s:o}", "points", points, "chosen", "budget",
                     share_of_model(self, stored), "bytes", (json_int_t)self->published_bytes,
                     "bytes_ratio", ratio, "dtype", didi_precision_name(self->options.precision),
                     "error", energy > 0 ? loss / energy : 0, "kind", "measured", "precisions",
                     curves_json(self));
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
    json_t *tasks = json_object();
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

static json_t *files_section(const didi_merge *self, const char *const *names,
                             const uint64_t *bytes, const char (*digests)[65], size_t count)
{
    json_t *files = json_array();
    for (size_t i = 0; i < count; i++) {
        uint64_t factors = 0;
        uint64_t all = 0;
        count_file(self, i, &factors, &all);
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

/* Of a packed package: {tensor: [bits by task]} of tensors kept whole, 0 where nothing is stored;
 * of `dense: mean` a single number. */
static json_t *dense_bits_section(const didi_merge *self)
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

static json_t *build_section(void)
{
    didi_blas_info blas;
    didi_blas_describe(&blas);
    return json_pack("{s:s,s:{s:s,s:s,s:s}}", "didi", didi_version(), "blas", "flavour",
                     blas.flavour, "kernel", blas.kernel, "version", blas.version);
}

int manifest_text(const didi_merge *self, const char *const *file_names, const uint64_t *file_bytes,
                  const char (*file_digests)[65], size_t file_count, char **ret_text,
                  didi_error *error)
{
    json_t *specification = NULL;
    if (self->options.specification_json != NULL)
        specification = json_loads(self->options.specification_json, 0, NULL);
    if (specification == NULL)
        specification = json_object();
    json_t *manifest =
        json_pack("{s:i,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:o,s:I,s:s}", "format", 1,
                  "specification", specification, "inputs", inputs_section(self), "budget",
                  budget_section(self), "error", error_section(self), "ranks", ranks_section(self),
                  "frontier", frontier_section(self), "tensors", tensors_section(self), "files",
                  files_section(self, file_names, file_bytes, file_digests, file_count), "seconds",
                  seconds_section(self), "stages", stages_section(self), "peak_memory_bytes",
                  (json_int_t)atomic_load(&self->peak_memory), "versions", build_section(), "seed",
                  (json_int_t)self->options.seed, "fingerprint", self->fingerprint);
    if (!precision_is_plain(self->options.precision, NULL)) {
        json_object_set_new(manifest, "packing",
                            json_pack("{s:i,s:i}", "format", 1, "group", (int)QUANTISE_GROUP));
        json_object_set_new(manifest, "dense_bits", dense_bits_section(self));
    }
    int status = DIDI_OK;
    if (manifest != NULL)
        json_object_set_new(manifest, "similarity", merge_similarity_json(self));
    if (manifest != NULL && self->extension != NULL)
        status = extension_complete(self->extension, manifest, error);
    if (status != DIDI_OK) {
        json_decref(manifest);
        return status;
    }
    char *text =
        manifest != NULL ? json_dumps(manifest, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(manifest);
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "the manifest's text");
    *ret_text = text;
    return DIDI_OK;
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
