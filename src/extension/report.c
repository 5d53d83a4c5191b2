/* SPDX-License-Identifier: Apache-2.0 */
/* What the package's manifest says of the tasks kept, and the sections of a manifest that compare
 * them with those added. */
#include "src/extension/extension_internal.h"

#include "src/base/base.h"
#include "src/package/package.h"

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *name_at(const json_t *names, size_t index)
{
    return json_string_value(json_array_get(names, index));
}

static const json_t *said(const extension *self, const char *section)
{
    return self != NULL ? json_object_get(self->manifest, section) : NULL;
}

/* ---- the tasks kept ---- */

size_t extension_kept_count(const extension *self)
{
    return self != NULL ? self->kept_count : 0;
}

const char *extension_kept_name(const extension *self, size_t k)
{
    return self->tasks[self->kept[k]];
}

json_t *extension_kept(const extension *self, const json_t *list)
{
    json_t *kept = json_array();
    for (size_t k = 0; k < extension_kept_count(self); k++)
        json_array_append(kept, json_array_get(list, self->kept[k]));
    return kept;
}

json_t *extension_kept_names(const extension *self)
{
    return extension_kept(self, json_object_get(said(self, "ranks"), "tasks"));
}

json_t *extension_kept_inputs(const extension *self)
{
    const json_t *models = json_object_get(said(self, "inputs"), "tasks");
    json_t *kept = json_object();
    for (size_t k = 0; k < extension_kept_count(self); k++)
        json_object_set(kept, extension_kept_name(self, k),
                        json_object_get(models, extension_kept_name(self, k)));
    return kept;
}

json_t *extension_kept_own(const extension *self)
{
    json_t *names = extension_kept_names(self);
    json_t *kept = json_object();
    for (size_t t = 0; t < json_array_size(names); t++)
        json_object_set(kept, name_at(names, t),
                        json_object_get(said(self, "own"), name_at(names, t)));
    json_decref(names);
    return kept;
}

json_t *extension_kept_files(const extension *self)
{
    json_t *files = json_array();
    for (size_t i = 0; i < extension_file_count(self); i++)
        json_array_append(files, self->files[i].row);
    return files;
}

const json_t *extension_layer(const extension *self, const char *tensor)
{
    return manifest_file_row(json_object_get(said(self, "ranks"), "layers"), "tensor", tensor);
}

void extension_layer_errors(const extension *self, const char *tensor, double *error,
                            double *energy)
{
    const json_t *row = extension_layer(self, tensor);
    const json_t *errors = json_object_get(row, "errors");
    const json_t *energies = json_object_get(row, "energies");
    for (size_t k = 0; k < extension_kept_count(self); k++) {
        energy[k] = json_number_value(json_array_get(energies, self->kept[k]));
        error[k] = energy[k] * json_number_value(json_array_get(errors, self->kept[k]));
    }
}

void extension_dense_errors(const extension *self, double *error, double *energy)
{
    const json_t *errors = json_object_get(said(self, "error"), "dense_per_task");
    const json_t *energies = json_object_get(said(self, "error"), "dense_energy");
    for (size_t k = 0; k < extension_kept_count(self); k++) {
        energy[k] = number(energies, extension_kept_name(self, k));
        error[k] = energy[k] * number(errors, extension_kept_name(self, k));
    }
}

bool extension_kept_widths(const extension *self, const char *tensor, json_t **ret_widths)
{
    json_t *widths = json_object_get(said(self, "dense_bits"), tensor);
    bool shared = widths != NULL && json_array_size(widths) != self->task_count;
    *ret_widths = shared ? json_incref(widths) : extension_kept(self, widths);
    return shared;
}

/* The comparison, if it is of the same models: with others it would say nothing. */
static const json_t *full_merge(const extension *self, const json_t *manifest)
{
    const json_t *tasks = json_object_get(json_object_get(manifest, "inputs"), "tasks");
    const json_t *others = json_object_get(json_object_get(self->comparison, "inputs"), "tasks");
    return json_equal(tasks, others) != 0 ? self->comparison : NULL;
}

/* ---- which tasks share ----
 * The cosine of two kept tasks is the package's, that of two added ones the merge's. That of a kept
 * and an added one is a full merge's, if there is one of the same models. */

enum { OF_PACKAGE, OF_MERGE, OF_FULL, SOURCES };

/* A section `similarity`, and where each task stands in its lists. */
typedef struct cosines {
    const json_t *section;
    json_t *places; /* {task: place} */
} cosines;

static cosines cosines_of(const json_t *section)
{
    cosines self = {section, json_object()};
    const json_t *tasks = json_object_get(section, "tasks");
    for (size_t t = 0; t < json_array_size(tasks); t++)
        json_object_set_new(self.places, name_at(tasks, t), json_integer((json_int_t)t));
    return self;
}

/* What a list of the section has for a task, or NULL. */
static json_t *entry_of(const cosines *self, const json_t *list, const char *task)
{
    const json_t *place = json_object_get(self->places, task);
    return place != NULL ? json_array_get(list, (size_t)json_integer_value(place)) : NULL;
}

static json_t *or_null(json_t *value)
{
    return value != NULL ? json_incref(value) : json_null();
}

/* The cosines of a matrix, or with NULL of all. */
static const json_t *rows_of(const cosines *self, const char *tensor)
{
    const json_t *layers = json_object_get(self->section, "layers");
    return json_object_get(
        tensor != NULL ? manifest_file_row(layers, "tensor", tensor) : self->section, "cosine");
}

static json_t *join_cosines(const cosines from[SOURCES], const json_t *names, size_t kept,
                            const char *tensor)
{
    const json_t *const rows[] = {[OF_PACKAGE] = rows_of(&from[OF_PACKAGE], tensor),
                                  [OF_MERGE] = rows_of(&from[OF_MERGE], tensor),
                                  [OF_FULL] = rows_of(&from[OF_FULL], tensor)};
    json_t *joined = json_array();
    for (size_t s = 0; s < json_array_size(names); s++) {
        json_t *row = json_array();
        for (size_t t = 0; t < json_array_size(names); t++) {
            size_t own = s < kept ? OF_PACKAGE : OF_MERGE;
            size_t source = (s < kept) == (t < kept) && rows[own] != NULL ? own : OF_FULL;
            const json_t *list = entry_of(&from[source], rows[source], name_at(names, s));
            json_array_append_new(row, or_null(entry_of(&from[source], list, name_at(names, t))));
        }
        json_array_append_new(joined, row);
    }
    return joined;
}

static json_t *join_layers(const cosines from[SOURCES], const json_t *names, size_t kept,
                           const json_t *layers)
{
    json_t *joined = json_array();
    size_t count = json_array_size(names) <= SIMILARITY_LAYER_TASKS ? json_array_size(layers) : 0;
    for (size_t l = 0; l < count; l++) {
        json_t *name = json_object_get(json_array_get(layers, l), "tensor");
        json_array_append_new(joined,
                              json_pack("{s:O,s:o}", "tensor", name, "cosine",
                                        join_cosines(from, names, kept, json_string_value(name))));
    }
    return joined;
}

/* The shared part is the package's: a full merge has another. */
static json_t *join_explained(const cosines from[SOURCES], const json_t *names, size_t kept)
{
    json_t *joined = json_array();
    for (size_t t = 0; t < json_array_size(names); t++) {
        const cosines *own = &from[t < kept ? OF_PACKAGE : OF_MERGE];
        const json_t *list = json_object_get(own->section, "explained_by_shared");
        json_array_append_new(joined, or_null(entry_of(own, list, name_at(names, t))));
    }
    return joined;
}

static json_t *joined_similarity(const extension *self, json_t *names, const json_t *merged,
                                 const json_t *manifest)
{
    const json_t *full = json_object_get(full_merge(self, manifest), "similarity");
    const cosines from[] = {[OF_PACKAGE] = cosines_of(said(self, "similarity")),
                            [OF_MERGE] = cosines_of(merged),
                            [OF_FULL] = cosines_of(full)};
    const json_t *layers = json_object_get(said(self, "ranks"), "layers");
    size_t kept = self->kept_count;
    json_t *section = json_pack("{s:O,s:o,s:o,s:o}", "tasks", names, "cosine",
                                join_cosines(from, names, kept, NULL), "explained_by_shared",
                                join_explained(from, names, kept), "layers",
                                join_layers(from, names, kept, layers));
    for (size_t i = 0; i < SOURCES; i++)
        json_decref(from[i].places);
    return section;
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

static json_t *report(const extension *self, const json_t *manifest, const json_t *added)
{
    const json_t *full = full_merge(self, manifest);
    const char *reason = self->comparison != NULL ? "a model that was merged has changed since"
                         : self->reason != NULL   ? self->reason
                                                  : "not asked for";
    return json_pack("{s:o,s:o,s:o}", "extended", errors_of(manifest, added), "full_merge",
                     full != NULL ? errors_of(full, added) : json_null(), "reason",
                     full != NULL ? json_null() : json_string(reason));
}

static json_t *extends(const extension *self, const json_t *names, const json_t *manifest)
{
    json_t *added = json_array();
    json_t *removed = json_array();
    for (size_t t = self->kept_count; t < json_array_size(names); t++)
        json_array_append(added, json_array_get(names, t));
    for (size_t t = 0, k = 0; t < self->task_count; t++)
        if (k < self->kept_count && self->kept[k] == t)
            k++;
        else
            json_array_append_new(removed, json_string(self->tasks[t]));
    json_t *quoted = report(self, manifest, added);
    return json_pack("{s:o,s:O,s:o,s:o,s:o,s:o}", "job",
                     self->job != NULL ? json_string(self->job) : json_null(), "fingerprint",
                     said(self, "fingerprint"), "kept", extension_kept_names(self), "added", added,
                     "removed", removed, "report", quoted);
}

bool extension_add_sections(const extension *self, json_t *names, json_t *merged, json_t *manifest)
{
    if (self == NULL)
        return json_object_set_new(manifest, "similarity", merged) == 0;
    json_t *similarity = joined_similarity(self, names, merged, manifest);
    json_decref(merged);
    return json_object_set_new(manifest, "similarity", similarity) == 0 &&
           json_object_set_new(manifest, "extends", extends(self, names, manifest)) == 0;
}
