/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest of an extended package: what the old one says of the tasks kept, and the merge of
 * those added. */
#include "src/extension/extension_internal.h"

#include "src/package/package.h"

#include <string.h>

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static json_int_t whole(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *name_at(const json_t *names, size_t index)
{
    return json_string_value(json_array_get(names, index));
}

/* Of the package, the entries of the tasks kept; then all of `added`. */
static json_t *join(const extension *self, const json_t *old, const json_t *added)
{
    json_t *joined = json_array();
    for (size_t t = 0; t < self->task_count; t++)
        if (!self->removed[t])
            json_array_append(joined, json_array_get(old, t));
    for (size_t t = 0; t < json_array_size(added); t++)
        json_array_append(joined, json_array_get(added, t));
    return joined;
}

/* ---- ranks and errors ---- */

/* Widths of packed experts. */
static json_t *join_bits(const extension *self, const json_t *old, const json_t *added)
{
    return json_pack("{s:O,s:o,s:o}", "shared", json_object_get(old, "shared"), "experts",
                     join(self, json_object_get(old, "experts"), json_object_get(added, "experts")),
                     "dense",
                     join(self, json_object_get(old, "dense"), json_object_get(added, "dense")));
}

/* Widths of tensors kept whole: one for each task, or one of what is shared. */
static json_t *join_dense_bits(const extension *self, json_t *added)
{
    json_t *joined = json_object();
    const char *tensor = NULL;
    json_t *widths = NULL;
    json_object_foreach(json_object_get(self->manifest, "dense_bits"), tensor, widths)
    {
        bool each = json_array_size(widths) == self->task_count;
        json_object_set_new(joined, tensor,
                            each ? join(self, widths, json_object_get(added, tensor))
                                 : json_deep_copy(widths));
    }
    return joined;
}

static json_t *join_layer(const extension *self, json_t *old, const json_t *added)
{
    static const char *const lists[] = {"experts", "dense", "errors", "energies"};
    json_t *row = json_copy(old);
    const json_t *bits = json_object_get(old, "bits");
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        json_object_set_new(
            row, lists[i],
            join(self, json_object_get(old, lists[i]), json_object_get(added, lists[i])));
    if (bits != NULL)
        json_object_set_new(row, "bits", join_bits(self, bits, json_object_get(added, "bits")));
    return row;
}

static json_t *join_ranks(const extension *self, const json_t *added)
{
    const json_t *old = json_object_get(self->manifest, "ranks");
    const json_t *old_layers = json_object_get(old, "layers");
    const json_t *layers = json_object_get(added, "layers");
    json_t *rows = json_array();
    for (size_t l = 0; l < json_array_size(old_layers); l++) {
        json_t *row = json_array_get(old_layers, l);
        const char *tensor = json_string_value(json_object_get(row, "tensor"));
        json_array_append_new(rows,
                              join_layer(self, row, manifest_file_row(layers, "tensor", tensor)));
    }
    return json_pack("{s:o,s:o}", "tasks",
                     join(self, extension_tasks(self->manifest), json_object_get(added, "tasks")),
                     "layers", rows);
}

typedef struct sums {
    double error, energy;
} sums;

static double share(sums of)
{
    return of.energy > 0 ? of.error / of.energy : 0;
}

/* Adds entry `task` of a layer. */
static void add_entry(sums *to, const json_t *row, size_t task)
{
    double energy = json_number_value(json_array_get(json_object_get(row, "energies"), task));
    to->energy += energy;
    to->error += energy * json_number_value(json_array_get(json_object_get(row, "errors"), task));
}

/* Of every task, the number that `key` of the added tasks' errors or of the package's has. */
static json_t *join_numbers(const json_t *names, const char *key, const json_t *old,
                            const json_t *added)
{
    const json_t *fresh = json_object_get(added, key);
    const json_t *kept = json_object_get(old, key);
    json_t *joined = json_object();
    for (size_t t = 0; t < json_array_size(names); t++) {
        const char *name = name_at(names, t);
        const json_t *value = json_object_get(fresh, name);
        if (value == NULL)
            value = json_object_get(kept, name);
        json_object_set_new(joined, name, json_real(json_number_value(value)));
    }
    return joined;
}

static double join_dense(const json_t *errors, const json_t *energies)
{
    sums all = {0};
    const char *task = NULL;
    json_t *energy = NULL;
    json_object_foreach((json_t *)energies, task, energy)
    {
        all.energy += json_number_value(energy);
        all.error += json_number_value(energy) * number(errors, task);
    }
    return share(all);
}

static json_t *join_errors(const extension *self, const json_t *ranks, const json_t *added)
{
    const json_t *old = json_object_get(self->manifest, "error");
    const json_t *names = json_object_get(ranks, "tasks");
    const json_t *layers = json_object_get(ranks, "layers");
    json_t *per_task = json_object();
    json_t *per_layer = json_object();
    sums all = {0};
    for (size_t t = 0; t < json_array_size(names); t++) {
        sums task = {0};
        for (size_t l = 0; l < json_array_size(layers); l++)
            add_entry(&task, json_array_get(layers, l), t);
        all = (sums){all.error + task.error, all.energy + task.energy};
        json_object_set_new(per_task, name_at(names, t), json_real(share(task)));
    }
    for (size_t l = 0; l < json_array_size(layers); l++) {
        const json_t *row = json_array_get(layers, l);
        sums one = {0};
        for (size_t t = 0; t < json_array_size(names); t++)
            add_entry(&one, row, t);
        json_object_set_new(per_layer, json_string_value(json_object_get(row, "tensor")),
                            json_real(share(one)));
    }
    json_t *energies = join_numbers(names, "dense_energy", old, added);
    json_t *dense = join_numbers(names, "dense_per_task", old, added);
    return json_pack("{s:f,s:f,s:o,s:o,s:o,s:o}", "relative", share(all), "dense",
                     join_dense(dense, energies), "per_task", per_task, "per_layer", per_layer,
                     "dense_per_task", dense, "dense_energy", energies);
}

/* ---- files and budget ---- */

/* The files taken over, then those written; the first of `written` is the shared one again. */
static json_t *join_files(const extension *self, const json_t *written)
{
    json_t *files = json_array();
    for (size_t i = 0; i < self->file_count; i++)
        json_array_append(files, self->files[i].row);
    for (size_t i = 1; i < json_array_size(written); i++)
        json_array_append(files, json_array_get(written, i));
    return files;
}

static json_int_t total(const json_t *files, const char *key)
{
    json_int_t sum = 0;
    for (size_t i = 0; i < json_array_size(files); i++)
        sum += whole(json_array_get(files, i), key);
    return sum;
}

/* `budget` of the added tasks becomes the whole package's. */
static void join_budget(const extension *self, json_t *budget, const json_t *files)
{
    double model = number(budget, "model_parameters");
    double per_byte = number(budget, "bytes_ratio") / number(budget, "bytes");
    json_int_t parameters = total(files, "parameters");
    json_int_t factors = total(files, "factor_parameters");
    json_int_t bytes = total(files, "bytes");
    double kept = (double)extension_parameters(self) / model;
    const char *unit = json_string_value(json_object_get(budget, "unit"));
    bool in_bytes = unit != NULL && strcmp(unit, "bytes") == 0;
    double asked = json_array_size(files) > self->file_count ? number(budget, "requested") : 0;
    double before = in_bytes ? (double)extension_bytes(self) : kept;
    json_object_set_new(budget, "requested", json_real(before + asked));
    json_object_set_new(budget, "factors", json_real((double)factors / model));
    json_object_set_new(budget, "parameters", json_real((double)parameters / model));
    json_object_set_new(budget, "bytes", json_integer(bytes));
    json_object_set_new(budget, "bytes_ratio", json_real((double)bytes * per_byte));
    json_object_set_new(budget, "bytes_ratio_16bit", json_real((double)bytes / (2 * model)));
    json_object_set_new(budget, "factor_parameters", json_integer(factors));
    json_object_set_new(budget, "dense_parameters", json_integer(parameters - factors));
}

static json_t *join_inputs(const json_t *names, const json_t *old, const json_t *added)
{
    json_t *tasks = json_object();
    const json_t *fresh = json_object_get(added, "tasks");
    const json_t *kept = json_object_get(old, "tasks");
    for (size_t t = 0; t < json_array_size(names); t++) {
        const char *name = name_at(names, t);
        json_t *model = json_object_get(fresh, name);
        json_object_set(tasks, name, model != NULL ? model : json_object_get(kept, name));
    }
    return json_pack("{s:O,s:o}", "base", json_object_get(added, "base"), "tasks", tasks);
}

/* ---- the report ---- */

static json_t *errors_of(const json_t *manifest, const json_t *names)
{
    const json_t *error = json_object_get(manifest, "error");
    const json_t *per_task = json_object_get(error, "per_task");
    json_t *rows = json_object();
    for (size_t t = 0; t < json_array_size(names); t++)
        json_object_set(rows, name_at(names, t), json_object_get(per_task, name_at(names, t)));
    return json_pack("{s:f,s:f,s:o}", "parameters",
                     number(json_object_get(manifest, "budget"), "parameters"), "relative",
                     number(error, "relative"), "per_task", rows);
}

/* A comparison with other inputs would say nothing. */
static bool same_inputs(const json_t *manifest, const json_t *other)
{
    return json_equal(json_object_get(json_object_get(manifest, "inputs"), "tasks"),
                      json_object_get(json_object_get(other, "inputs"), "tasks")) != 0;
}

static json_t *report(const extension *self, const json_t *manifest, const json_t *added)
{
    bool measured = self->comparison != NULL && same_inputs(manifest, self->comparison);
    const char *reason = self->reason != NULL ? self->reason : "not asked for";
    if (self->comparison != NULL && !measured)
        reason = "a model that was merged has changed since";
    return json_pack("{s:o,s:o,s:o}", "extended", errors_of(manifest, added), "full_merge",
                     measured ? errors_of(self->comparison, added) : json_null(), "reason",
                     measured ? json_null() : json_string(reason));
}

static json_t *names_of(const extension *self, bool removed)
{
    json_t *names = json_array();
    for (size_t t = 0; t < self->task_count; t++)
        if (self->removed[t] == removed)
            json_array_append(names, json_array_get(extension_tasks(self->manifest), t));
    return names;
}

int extension_complete(const extension *self, json_t *manifest, didi_error *error)
{
    json_t *added = json_deep_copy(extension_tasks(manifest));
    json_t *budget = json_object_get(manifest, "budget");
    json_t *files = join_files(self, json_object_get(manifest, "files"));
    json_t *ranks = join_ranks(self, json_object_get(manifest, "ranks"));
    json_t *errors = join_errors(self, ranks, json_object_get(manifest, "error"));
    const json_t *names = json_object_get(ranks, "tasks");
    int failed = json_object_set_new(manifest, "inputs",
                                     join_inputs(names, json_object_get(self->manifest, "inputs"),
                                                 json_object_get(manifest, "inputs")));
    join_budget(self, budget, files);
    int status = extension_join_frontier(self, manifest, ranks, error);
    if (json_object_get(self->manifest, "dense_bits") != NULL)
        failed |= json_object_set_new(
            manifest, "dense_bits", join_dense_bits(self, json_object_get(manifest, "dense_bits")));
    bool measured = self->comparison != NULL && same_inputs(manifest, self->comparison);
    if (status == DIDI_OK)
        status = extension_join_similarity(self, manifest, ranks, measured, error);
    failed |= json_object_set_new(manifest, "error", errors);
    failed |= json_object_set_new(manifest, "ranks", ranks);
    failed |= json_object_set_new(manifest, "files", files);
    json_t *about = json_pack("{s:o,s:O,s:o,s:O,s:o,s:o}", "job",
                              self->job != NULL ? json_string(self->job) : json_null(),
                              "fingerprint", json_object_get(self->manifest, "fingerprint"), "kept",
                              names_of(self, false), "added", added, "removed",
                              names_of(self, true), "report", report(self, manifest, added));
    failed |= json_object_set_new(manifest, "extends", about);
    json_decref(added);
    if (status != DIDI_OK)
        return status;
    return failed == 0 ? DIDI_OK
                       : didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "an extended manifest");
}
