/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.json: what was asked, what went in, what came out, and what it cost. */
#include "src/merge/merge.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *error_section(const figures *self)
{
    error_figure all = {0, 0};
    error_figure dense = {0, 0};
    json_t *per_task = json_object();
    json_t *per_layer = json_object();
    json_t *per_dense = json_object();
    json_t *energies = json_object();
    for (size_t t = 0; t < self->tasks; t++) {
        const char *name = json_string_value(json_array_get(self->names, t));
        error_figure own = {0, 0};
        for (size_t l = 0; l < self->layers; l++)
            figures_add(&own, self->error[l * self->tasks + t], self->energy[l * self->tasks + t]);
        error_figure own_dense = {self->dense_error[t], self->dense_energy[t]};
        figures_add(&all, own.error, own.energy);
        figures_add(&dense, own_dense.error, own_dense.energy);
        json_object_set_new(per_task, name, json_real(figures_relative(own)));
        json_object_set_new(per_dense, name, json_real(figures_relative(own_dense)));
        json_object_set_new(energies, name, json_real(own_dense.energy));
    }
    for (size_t l = 0; l < self->layers; l++) {
        error_figure own = {0, 0};
        for (size_t t = 0; t < self->tasks; t++)
            figures_add(&own, self->error[l * self->tasks + t], self->energy[l * self->tasks + t]);
        json_object_set_new(per_layer, self->tensors[l]->name, json_real(figures_relative(own)));
    }
    return json_pack("{s:f,s:f,s:o,s:o,s:o,s:o}", "relative", figures_relative(all), "dense",
                     figures_relative(dense), "per_task", per_task, "per_layer", per_layer,
                     "dense_per_task", per_dense, "dense_energy", energies);
}

/* What was asked for; null with a method whose size is its own. */
static json_t *requested(const didi_merge *self)
{
    const work *of = &self->work;
    double asked = of->options.task_count > 0 ? of->options.budget : 0;
    if ((self->method->flags & METHOD_TAKES_BUDGET) == 0)
        return json_null();
    asked += of->options.budget_unit == DIDI_BUDGET_BYTES
                 ? (double)extension_bytes(of->extension)
                 : work_share_of_model(of, extension_parameters(of->extension));
    return json_real(asked);
}

/* What only one task has: of the parameters stored whole, and which tensors. False when out of
 * memory. */
static bool add_own(const work *self, json_t *manifest)
{
    json_t *tasks = work_own_json(self);
    json_t *row = NULL;
    const char *name = NULL;
    uint64_t count = 0;
    json_object_foreach(tasks, name, row)
    {
        count += (uint64_t)json_integer_value(json_object_get(row, "parameters"));
    }
    int failed = tasks == NULL;
    json_t *budget = json_object_get(manifest, "budget");
    failed |= json_object_set_new(budget, "own_parameters", json_integer((json_int_t)count));
    failed |= json_object_set(manifest, "own", tasks);
    json_decref(tasks);
    return failed == 0;
}

static bool was_changed(const work *self, const family_tensor *tensor)
{
    const json_t *row = extension_layer(self->extension, tensor->name);
    const json_t *energies = json_object_get(row, "energies");
    bool changed =
        family_changed(self->family, tensor) || extension_shares(self->extension, tensor);
    for (size_t t = 0; t < json_array_size(energies) && !changed; t++)
        changed = json_number_value(json_array_get(energies, t)) > 0;
    return changed;
}

/* Against the tensors that some task changed: frozen ones are part of a model, and cost nothing. */
static json_t *of_changed(const work *self, const figures *of)
{
    uint64_t parameters = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < self->family->tensor_count; i++) {
        const family_tensor *tensor = &self->family->tensors[i];
        if ((tensor->kind != FAMILY_MATRIX && tensor->kind != FAMILY_DENSE) ||
            !was_changed(self, tensor))
            continue;
        parameters += tensor->elements;
        bytes += tensor->base->tensor->bytes;
    }
    if (parameters == 0)
        return json_null();
    double bytes_stored = (double)of->bytes;
    return json_pack("{s:I,s:f,s:f,s:f}", "model_parameters", (json_int_t)parameters, "parameters",
                     (double)of->parameters / (double)parameters, "bytes_ratio",
                     bytes_stored / (double)bytes, "bytes_ratio_16bit",
                     bytes_stored / (2 * (double)parameters));
}

static json_t *budget_section(const didi_merge *self, const figures *of)
{
    const work *merge = &self->work;
    json_t *asked = requested(self);
    const didi_merge_options *options = &merge->options;
    double model = (double)merge->plan.parameters;
    double bytes = (double)of->bytes;
    json_t *unit = json_is_null(asked) ? json_null()
                                       : json_string(didi_budget_unit_name(options->budget_unit));
    return json_pack("{s:o,s:o,s:s,s:f,s:f,s:I,s:f,s:f,s:I,s:I,s:I,s:I,s:o}", "requested", asked,
                     "unit", unit, "dtype", didi_precision_name(options->precision), "factors",
                     work_share_of_model(merge, of->factors), "parameters",
                     work_share_of_model(merge, of->parameters), "bytes", (json_int_t)of->bytes,
                     "bytes_ratio", bytes / (double)work_base_bytes(merge), "bytes_ratio_16bit",
                     bytes / (2 * model), "model_bytes", (json_int_t)work_base_bytes(merge),
                     "model_parameters", (json_int_t)merge->plan.parameters, "factor_parameters",
                     (json_int_t)of->factors, "dense_parameters",
                     (json_int_t)(of->parameters - of->factors), "of_changed",
                     of_changed(merge, of));
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
    json_t *tasks = extension_kept_inputs(self->work.extension);
    for (size_t t = 0; t < self->work.options.task_count; t++)
        json_object_set_new(tasks, self->work.options.tasks[t].name,
                            model_section(self, self->work.family->tasks[t].model, &digest));
    for (size_t t = 0; t < self->work.options.task_count; t++)
        if (self->work.family->tasks[t].gram != NULL)
            json_object_set_new(json_object_get(tasks, self->work.options.tasks[t].name), "gram",
                                model_section(self, self->work.family->tasks[t].gram, &digest));
    return json_pack("{s:o,s:o}", "base", base, "tasks", tasks);
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
    *ret_whole += file > 0 ? work_own_parameters(self, file - 1) : 0;
}

/* The files and, in `totals`, what they hold together. An extension's first is one of those kept.
 */
static json_t *files_section(figures *totals, const published_file *published, size_t count)
{
    const work *self = totals->work;
    json_t *files = extension_kept_files(self->extension);
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *row = json_array_get(files, i);
        totals->bytes += (uint64_t)json_integer_value(json_object_get(row, "bytes"));
        totals->parameters += (uint64_t)json_integer_value(json_object_get(row, "parameters"));
        totals->factors += (uint64_t)json_integer_value(json_object_get(row, "factor_parameters"));
    }
    for (size_t i = extension_first_file(self->extension); i < count; i++) {
        uint64_t factors = 0;
        uint64_t whole = 0;
        count_file(self, i, &factors, &whole);
        uint64_t all = factors + whole;
        totals->bytes += published[i].bytes;
        totals->parameters += all;
        totals->factors += factors;
        json_array_append_new(files, json_pack("{s:s,s:I,s:s,s:I,s:I}", "name", published[i].name,
                                               "bytes", (json_int_t)published[i].bytes, "sha256",
                                               published[i].digest, "parameters", (json_int_t)all,
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

/* Whether a method that works on every tensor gave this one factors. */
static bool has_factors(const layer_summary *summary)
{
    for (size_t file = 0; file <= summary->tasks; file++)
        if (summary->rank[file] > 0 && !summary->dense[file])
            return true;
    return false;
}

static json_t *tensors_section(const didi_merge *self)
{
    static const char *const kinds[] = {FAMILY_KIND_TABLE(TEXT_WORD)};
    const work *of = &self->work;
    bool whole = (self->method->flags & METHOD_MATRICES_ONLY) == 0; /* or most of them */
    json_t *tensors = json_object();
    for (size_t i = 0, l = 0; i < of->family->tensor_count; i++) {
        const family_tensor *tensor = &of->family->tensors[i];
        family_kind kind = tensor->kind;
        bool mine = l < of->layer_count && of->layers[l] == tensor;
        if (whole && (mine || kind == FAMILY_MATRIX))
            kind = mine && has_factors(&of->summaries[l]) ? FAMILY_MATRIX : FAMILY_DENSE;
        l += mine;
        json_t *shape = json_array();
        for (size_t d = 0; d < tensor->base->tensor->dimensions; d++)
            json_array_append_new(shape, json_integer((json_int_t)tensor->base->tensor->shape[d]));
        json_object_set_new(tensors, tensor->name,
                            json_pack("{s:s,s:s,s:o}", "kept", kinds[kind], "dtype",
                                      didi_dtype_name(tensor->base->tensor->dtype), "shape",
                                      shape));
    }
    return tensors;
}

static void add_dense_bits(const work *self, size_t index, json_t *bits)
{
    const dense_summary *summary = &self->dense_summaries[index];
    bool mean = summary->form == DIDI_DENSE_MEAN;
    for (size_t file = mean ? 0 : 1; file <= (mean ? 0 : self->options.task_count); file++) {
        unsigned width = work_holds_delta(self, index, file) ? summary->bits[file] : 0;
        json_array_append_new(bits, json_integer((json_int_t)width));
    }
}

/* Of what a method left whole: of what is shared or, where it works on every tensor, of each task's
 * delta. NULL: there is none. */
static json_t *method_widths(const layer_summary *summary, bool every)
{
    bool any = false;
    json_t *widths = json_array();
    if (summary->dense[0] || summary->form[0] == STORED_MASKED) {
        json_array_append_new(widths, json_integer((json_int_t)summary->dense_bits[0]));
        return widths;
    }
    for (size_t file = 1; file <= summary->tasks; file++) {
        any = any || (every && summary->dense[file]);
        json_array_append_new(widths, json_integer((json_int_t)summary->dense_bits[file]));
    }
    if (!any)
        json_decref(widths);
    return any ? widths : NULL;
}

/* Of a packed package: {tensor: [bits by task]} of tensors kept whole, 0 where nothing is stored;
 * of `dense: mean` a single number. */
static json_t *dense_bits_section(const didi_merge *merge)
{
    const work *self = &merge->work;
    const family *all = self->family;
    bool every = (merge->method->flags & METHOD_MATRICES_ONLY) == 0;
    json_t *tensors = json_object();
    for (size_t l = 0; l < self->layer_count; l++) { /* what a method keeps whole */
        json_t *widths = method_widths(&self->summaries[l], every);
        if (widths != NULL)
            json_object_set_new(tensors, self->layers[l]->name, widths);
    }
    for (size_t i = 0, dense = 0; i < all->tensor_count; i++) {
        const char *name = all->tensors[i].name;
        json_t *bits = NULL;
        if (all->tensors[i].kind != FAMILY_DENSE || json_object_get(tensors, name) != NULL)
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

/* What is known of the budget before there are files. */
static json_t *asked_section(const didi_merge *self)
{
    const work *merge = &self->work;
    return json_pack("{s:o,s:s,s:s,s:I,s:I}", "requested", requested(self), "unit",
                     didi_budget_unit_name(merge->options.budget_unit), "dtype",
                     didi_precision_name(merge->options.precision), "model_bytes",
                     (json_int_t)work_base_bytes(merge), "model_parameters",
                     (json_int_t)merge->plan.parameters);
}

static json_t *specification_section(const didi_merge *self)
{
    const char *text = self->work.options.specification_json;
    bool refused = false;
    json_t *specification =
        text != NULL ? json_load(text, strlen(text), 0, NULL, &refused) : json_object();
    if (specification == NULL && !refused)
        specification = json_object();
    return specification;
}

/* What every method's manifest begins with, up to its errors. */
static json_t *begin_manifest(const didi_merge *self, const figures *of)
{
    if (self->work.options.survey)
        return json_pack("{s:i,s:b,s:o,s:o,s:o}", "format", 1, "survey", true, "specification",
                         specification_section(self), "inputs", inputs_section(self), "budget",
                         asked_section(self));
    return json_pack("{s:i,s:o,s:o,s:o,s:o}", "format", 1, "specification",
                     specification_section(self), "inputs", inputs_section(self), "budget",
                     budget_section(self, of), "error", error_section(of));
}

/* The method's own sections. */
static int describe(const didi_merge *self, const figures *of, json_t *manifest, didi_error *error)
{
    const didi_method *method = self->method;
    int status = DIDI_OK;
    if (method->describe != NULL && !self->work.options.survey)
        status = method->describe(self->self, of, manifest, error);
    if (status == DIDI_OK && method->foresee != NULL)
        status = method->foresee(self->self, of, manifest, error);
    return status;
}

/* And what follows the method's own sections. */
static json_t *end_manifest(const didi_merge *self, json_t *files)
{
    return json_pack("{s:o,s:o,s:o,s:o,s:I,s:o,s:I,s:s}", "tensors", tensors_section(self), "files",
                     files, "seconds", seconds_section(self), "stages", stages_section(self),
                     "peak_memory_bytes", (json_int_t)atomic_load(&self->work.peak_memory),
                     "versions", build_section(), "seed", (json_int_t)self->work.options.seed,
                     "fingerprint", self->fingerprint);
}

/* Sections that only some manifests have, and `similarity`, whose place is among them. False when
 * out of memory. */
static bool add_sections(const didi_merge *merge, const figures *of, json_t *manifest)
{
    const work *self = &merge->work;
    bool survey = self->options.survey;
    return (survey || packing_add(self->options.precision, dense_bits_section(merge), manifest)) &&
           extension_add_sections(self->extension, of->names, work_similarity_json(self, !survey),
                                  manifest) &&
           add_own(self, manifest);
}

int manifest_text(const didi_merge *self, const published_file *published, size_t count,
                  char **ret_text, didi_error *error)
{
    figures of = {0};
    char *text = NULL;
    int status = figures_create(&self->work, &of, error);
    if (status != DIDI_OK)
        return status;
    json_t *files = files_section(&of, published, count);
    json_t *manifest = begin_manifest(self, &of);
    json_t *end = end_manifest(self, files);
    if (manifest != NULL && end != NULL)
        status = describe(self, &of, manifest, error);
    if (status == DIDI_OK && manifest != NULL && json_object_update(manifest, end) == 0 &&
        add_sections(self, &of, manifest))
        text = json_dumps(manifest, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (status == DIDI_OK && text == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "the manifest's text");
    if (status == DIDI_OK)
        *ret_text = text;
    json_decref(manifest);
    json_decref(end);
    figures_clear(&of);
    return status;
}

int merge_save_outlook(const didi_merge *self, didi_error *error)
{
    figures of = {0};
    char *text = NULL;
    int status = figures_create(&self->work, &of, error);
    if (status != DIDI_OK)
        return status;
    json_t *document = json_pack("{s:o,s:o}", "specification", specification_section(self),
                                 "budget", asked_section(self));
    if (document != NULL)
        status = self->method->foresee(self->self, &of, document, error);
    if (status == DIDI_OK && document != NULL &&
        (self->work.extension != NULL ||
         json_object_set_new(document, "similarity", work_similarity_json(&self->work, false)) ==
             0))
        text = json_dumps(document, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (status == DIDI_OK && text == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, DIDI_OUTLOOK_FILE, "the outlook's text");
    if (status == DIDI_OK)
        status = file_write_durable(self->work.options.work_fd, DIDI_OUTLOOK_FILE, text,
                                    strlen(text), error);
    free(text);
    json_decref(document);
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
