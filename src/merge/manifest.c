/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.json: what was asked, what went in, what came out, and what it cost. */
#include "src/merge/merge.h"
#include "src/package/package.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static json_t *error_section(const didi_merge *self)
{
    size_t tasks = self->work.options.task_count;
    double error_sum = 0;
    double energy_sum = 0;
    double dense_error = 0;
    double dense_energy = 0;
    json_t *per_task = json_object();
    json_t *per_layer = json_object();
    json_t *per_dense = json_object();
    json_t *energies = json_object();
    for (size_t t = 0; t < tasks; t++) {
        double energy = work_task_energy(&self->work, t);
        double error = 0;
        for (size_t l = 0; l < self->work.layer_count; l++)
            error += self->work.summaries[l].error[t];
        error_sum += error;
        energy_sum += energy;
        json_object_set_new(per_task, self->work.options.tasks[t].name,
                            json_real(energy > 0 ? error / energy : 0));
    }
    for (size_t l = 0; l < self->work.layer_count; l++) {
        double error = 0;
        double energy = 0;
        for (size_t t = 0; t < tasks; t++) {
            error += self->work.summaries[l].error[t];
            energy += self->work.summaries[l].energy[t];
        }
        json_object_set_new(per_layer, self->work.layers[l]->name,
                            json_real(energy > 0 ? error / energy : 0));
    }
    for (size_t t = 0; t < tasks; t++) {
        double error = 0;
        double energy = 0;
        for (size_t i = 0; i < self->work.dense_count; i++) {
            error += work_dense_error(&self->work, i, t);
            energy += self->work.dense_summaries[i].energy[t];
        }
        dense_error += error;
        dense_energy += energy;
        json_object_set_new(per_dense, self->work.options.tasks[t].name,
                            json_real(energy > 0 ? error / energy : 0));
        json_object_set_new(energies, self->work.options.tasks[t].name, json_real(energy));
    }
    return json_pack("{s:f,s:f,s:o,s:o,s:o,s:o}", "relative",
                     energy_sum > 0 ? error_sum / energy_sum : 0, "dense",
                     dense_energy > 0 ? dense_error / dense_energy : 0, "per_task", per_task,
                     "per_layer", per_layer, "dense_per_task", per_dense, "dense_energy", energies);
}

/* Numbers of file `file` in factors, and in deltas of tensors that the method or the engine kept
 * whole. */
static void count_file(const work *self, size_t file, uint64_t *ret_factors, uint64_t *ret_whole)
{
    *ret_factors = *ret_whole = 0;
    for (size_t l = 0; l < self->layer_count; l++) {
        stored_tensor tensor = stored_tensor_of(self->layers[l]);
        stored_part part = stored_part_of(&self->summaries[l], file);
        *ret_factors += stored_factor_parameters(&tensor, &part);
        *ret_whole += stored_delta_parameters(&tensor, &part);
    }
    for (size_t i = 0; i < self->dense_count; i++)
        *ret_whole += work_holds_delta(self, i, file) ? self->dense[i]->elements : 0;
}

static json_t *budget_section(const didi_merge *self)
{
    const didi_merge_options *o = &self->work.options;
    bool asked = (self->method->flags & METHOD_TAKES_BUDGET) != 0;
    uint64_t factors = 0;
    uint64_t whole = 0;
    for (size_t file = 0; file <= o->task_count; file++) {
        uint64_t more[2];
        count_file(&self->work, file, &more[0], &more[1]);
        factors += more[0];
        whole += more[1];
    }
    uint64_t one_model = work_base_bytes(&self->work);
    double published = (double)self->work.published_bytes;
    double parameters = (double)self->work.plan.parameters;
    return json_pack(
        "{s:o,s:o,s:s,s:f,s:f,s:I,s:f,s:f,s:I,s:I,s:I,s:I}", "requested",
        asked ? json_real(o->budget) : json_null(), "unit",
        asked ? json_string(didi_budget_unit_name(o->budget_unit)) : json_null(), "dtype",
        didi_precision_name(o->precision), "factors", (double)factors / parameters, "parameters",
        (double)(factors + whole) / parameters, "bytes", (json_int_t)self->work.published_bytes,
        "bytes_ratio", published / (double)one_model, "bytes_ratio_16bit",
        published / (2 * parameters), "model_bytes", (json_int_t)one_model, "model_parameters",
        (json_int_t)self->work.plan.parameters, "factor_parameters", (json_int_t)factors,
        "dense_parameters", (json_int_t)whole);
}

static json_t *model_section(const didi_merge *self, const checkpoint *model, size_t *digest)
{
    json_t *files = json_array();
    for (size_t f = 0; f < checkpoint_file_count(model); f++) {
        const checkpoint_file *file = checkpoint_file_at(model, f);
        json_array_append_new(files, json_pack("{s:s,s:I,s:s}", "name", file->name, "bytes",
                                               (json_int_t)file->bytes, "sha256",
                                               self->work.digests[(*digest)++]));
    }
    return json_pack("{s:s,s:o}", "model", checkpoint_label(model), "files", files);
}

static json_t *inputs_section(const didi_merge *self)
{
    size_t digest = 0;
    json_t *base = model_section(self, self->work.family->base, &digest);
    json_t *tasks = json_object();
    for (size_t t = 0; t < self->work.options.task_count; t++)
        json_object_set_new(tasks, self->work.options.tasks[t].name,
                            model_section(self, self->work.family->tasks[t], &digest));
    return json_pack("{s:o,s:o}", "base", base, "tasks", tasks);
}

static json_t *files_section(const didi_merge *self, const char *const *names,
                             const uint64_t *bytes, const char (*digests)[65], size_t count)
{
    json_t *files = json_array();
    for (size_t i = 0; i < count; i++) {
        uint64_t factors = 0;
        uint64_t whole = 0;
        count_file(&self->work, i, &factors, &whole);
        json_array_append_new(files, json_pack("{s:s,s:I,s:s,s:I,s:I}", "name", names[i], "bytes",
                                               (json_int_t)bytes[i], "sha256", digests[i],
                                               "parameters", (json_int_t)(factors + whole),
                                               "factor_parameters", (json_int_t)factors));
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
        const stage_usage *usage = &self->work.usage[i];
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
    for (size_t i = 0; i < self->work.family->tensor_count; i++) {
        const family_tensor *tensor = &self->work.family->tensors[i];
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

static json_t *build_section(void)
{
    didi_blas_info blas;
    didi_blas_describe(&blas);
    return json_pack("{s:s,s:{s:s,s:s,s:s}}", "didi", didi_version(), "blas", "flavour",
                     blas.flavour, "kernel", blas.kernel, "version", blas.version);
}

static json_t *dense_widths_section(const work *self)
{
    json_t *tensors = json_object();
    for (size_t i = 0; i < self->dense_count; i++) {
        bool mean = self->dense_summaries[i].form == DIDI_DENSE_MEAN;
        size_t first = mean ? 0 : 1;
        size_t last = mean ? 0 : self->options.task_count;
        json_t *bits = json_array();
        for (size_t file = first; file <= last; file++) {
            bool held = work_holds_delta(self, i, file);
            unsigned width = held ? self->dense_summaries[i].bits[file] : 0;
            json_array_append_new(bits, json_integer((json_int_t)width));
        }
        json_object_set_new(tensors, self->dense[i]->name, bits);
    }
    return tensors;
}

/* What every method's manifest begins with, up to its errors. */
static json_t *begin_manifest(const didi_merge *self)
{
    json_t *specification = NULL;
    if (self->work.options.specification_json != NULL)
        specification = json_loads(self->work.options.specification_json, 0, NULL);
    if (specification == NULL)
        specification = json_object();
    return json_pack("{s:i,s:o,s:o,s:o,s:o}", "format", 1, "specification", specification, "inputs",
                     inputs_section(self), "budget", budget_section(self), "error",
                     error_section(self));
}

static json_t *end_manifest(const didi_merge *self, json_t *files)
{
    return json_pack("{s:o,s:o,s:o,s:o,s:I,s:o,s:I,s:s}", "tensors", tensors_section(self), "files",
                     files, "seconds", seconds_section(self), "stages", stages_section(self),
                     "peak_memory_bytes", (json_int_t)atomic_load(&self->work.peak_memory),
                     "versions", build_section(), "seed", (json_int_t)self->work.options.seed,
                     "fingerprint", self->fingerprint);
}

static void add_packing(const work *self, json_t *manifest)
{
    json_t *packing = json_pack("{s:i,s:i}", "format", 1, "group", (int)QUANTISE_GROUP);
    json_object_set_new(manifest, "packing", packing);
    json_object_set_new(manifest, "dense_bits", dense_widths_section(self));
}

int manifest_text(const didi_merge *self, const char *const *file_names, const uint64_t *file_bytes,
                  const char (*file_digests)[65], size_t file_count, char **ret_text,
                  didi_error *error)
{
    char *text = NULL;
    json_t *manifest = begin_manifest(self);
    json_t *end =
        end_manifest(self, files_section(self, file_names, file_bytes, file_digests, file_count));
    int status = manifest != NULL && end != NULL
                     ? DIDI_OK
                     : didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "the manifest");
    if (status == DIDI_OK && self->method->describe != NULL)
        status = self->method->describe(self->self, manifest, error);
    if (status == DIDI_OK) {
        json_object_update(manifest, end);
        if (!precision_is_plain(self->work.options.precision, NULL))
            add_packing(&self->work, manifest);
        json_object_set_new(manifest, "similarity", work_similarity_json(&self->work));
    }
    if (status == DIDI_OK && self->work.extension != NULL)
        status = extension_complete(self->work.extension, manifest, error);
    if (status == DIDI_OK)
        text = json_dumps(manifest, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    json_decref(manifest);
    json_decref(end);
    if (status == DIDI_OK && text == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "the manifest's text");
    if (status == DIDI_OK)
        *ret_text = text;
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
