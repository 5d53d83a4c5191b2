/* SPDX-License-Identifier: Apache-2.0 */
/* What the package's manifest says of the tasks kept, and the sections of a manifest that compare
 * them with those added. */
#include "src/extension/extension_internal.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <stdlib.h>
#include <string.h>

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
    return self != NULL ? self->file_count - 1 : 0;
}

json_t *extension_kept(const extension *self, const json_t *list)
{
    json_t *kept = json_array();
    for (size_t t = 0; self != NULL && t < self->task_count; t++)
        if (!self->removed[t])
            json_array_append(kept, json_array_get(list, t));
    return kept;
}

json_t *extension_kept_names(const extension *self)
{
    return extension_kept(self, json_object_get(said(self, "ranks"), "tasks"));
}

json_t *extension_kept_inputs(const extension *self)
{
    const json_t *models = json_object_get(said(self, "inputs"), "tasks");
    json_t *names = extension_kept_names(self);
    json_t *kept = json_object();
    for (size_t t = 0; t < json_array_size(names); t++)
        json_object_set(kept, name_at(names, t), json_object_get(models, name_at(names, t)));
    json_decref(names);
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
    for (size_t i = 0; self != NULL && i < self->file_count; i++)
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
    const json_t *row = self != NULL ? extension_layer(self, tensor) : NULL;
    for (size_t t = 0, kept = 0; row != NULL && t < self->task_count; t++) {
        if (self->removed[t])
            continue;
        double share = json_number_value(json_array_get(json_object_get(row, "errors"), t));
        energy[kept] = json_number_value(json_array_get(json_object_get(row, "energies"), t));
        error[kept] = energy[kept] * share;
        kept++;
    }
}

void extension_dense_errors(const extension *self, double *error, double *energy)
{
    const json_t *section = said(self, "error");
    json_t *names = extension_kept_names(self);
    for (size_t t = 0; t < json_array_size(names); t++) {
        energy[t] = number(json_object_get(section, "dense_energy"), name_at(names, t));
        error[t] =
            energy[t] * number(json_object_get(section, "dense_per_task"), name_at(names, t));
    }
    json_decref(names);
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

typedef struct cosines {
    const json_t *package, *merged, *full; /* sections `similarity` */
    size_t *place;                         /* of each task in its section */
    size_t *place_full;                    /* in the full merge's, or SIZE_MAX */
    size_t kept, tasks;
} cosines;

static size_t find_name(const json_t *names, const char *name)
{
    for (size_t t = 0; t < json_array_size(names); t++) {
        const char *found = name_at(names, t);
        if (found != NULL && name != NULL && strcmp(found, name) == 0)
            return t;
    }
    return SIZE_MAX;
}

static bool cosines_place(cosines *self, const json_t *names)
{
    self->tasks = json_array_size(names);
    self->place = memory_zeroed(2 * self->tasks, sizeof *self->place);
    if (self->place == NULL)
        return false;
    self->place_full = self->place + self->tasks;
    for (size_t t = 0; t < self->tasks; t++) {
        const json_t *own = t < self->kept ? self->package : self->merged;
        self->place[t] = find_name(json_object_get(own, "tasks"), name_at(names, t));
        self->place_full[t] = find_name(json_object_get(self->full, "tasks"), name_at(names, t));
    }
    return true;
}

static json_t *at(const json_t *rows, size_t s, size_t t)
{
    json_t *found = json_array_get(json_array_get(rows, s), t);
    return found != NULL ? json_incref(found) : json_null();
}

/* Joins the matrices of the three sections; any of them may be NULL. */
static json_t *join_cosines(const cosines *self, const json_t *package, const json_t *merged,
                            const json_t *full)
{
    json_t *joined = json_array();
    for (size_t s = 0; s < self->tasks; s++) {
        json_t *row = json_array();
        for (size_t t = 0; t < self->tasks; t++) {
            const json_t *own = s < self->kept ? package : merged;
            bool together = (s < self->kept) == (t < self->kept) && own != NULL;
            json_array_append_new(row, together
                                           ? at(own, self->place[s], self->place[t])
                                           : at(full, self->place_full[s], self->place_full[t]));
        }
        json_array_append_new(joined, row);
    }
    return joined;
}

static const json_t *layer_cosine(const json_t *section, const char *tensor)
{
    const json_t *layers = json_object_get(section, "layers");
    return json_object_get(manifest_file_row(layers, "tensor", tensor), "cosine");
}

static json_t *join_layers(const cosines *self, const json_t *layers)
{
    json_t *joined = json_array();
    for (size_t l = 0; self->tasks <= SIMILARITY_LAYER_TASKS && l < json_array_size(layers); l++) {
        json_t *name = json_object_get(json_array_get(layers, l), "tensor");
        const char *tensor = json_string_value(name);
        json_array_append_new(joined,
                              json_pack("{s:O,s:o}", "tensor", name, "cosine",
                                        join_cosines(self, layer_cosine(self->package, tensor),
                                                     layer_cosine(self->merged, tensor),
                                                     layer_cosine(self->full, tensor))));
    }
    return joined;
}

/* The shared part is the package's: a full merge has another. */
static json_t *join_explained(const cosines *self)
{
    json_t *joined = json_array();
    for (size_t t = 0; t < self->tasks; t++) {
        const json_t *own = t < self->kept ? self->package : self->merged;
        json_t *value = json_array_get(json_object_get(own, "explained_by_shared"), self->place[t]);
        json_array_append_new(joined, value != NULL ? json_incref(value) : json_null());
    }
    return joined;
}

json_t *extension_similarity(const extension *self, json_t *names, const json_t *merged,
                             const json_t *manifest)
{
    cosines from = {.package = said(self, "similarity"),
                    .merged = merged,
                    .full = json_object_get(full_merge(self, manifest), "similarity"),
                    .kept = extension_kept_count(self)};
    if (!cosines_place(&from, names))
        return NULL;
    json_t *all =
        join_cosines(&from, json_object_get(from.package, "cosine"),
                     json_object_get(merged, "cosine"), json_object_get(from.full, "cosine"));
    json_t *section = json_pack("{s:O,s:o,s:o,s:o}", "tasks", names, "cosine", all,
                                "explained_by_shared", join_explained(&from), "layers",
                                join_layers(&from, json_object_get(said(self, "ranks"), "layers")));
    free(from.place);
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

json_t *extension_extends(const extension *self, const json_t *names, const json_t *manifest)
{
    json_t *added = json_array();
    json_t *removed = json_array();
    for (size_t t = extension_kept_count(self); t < json_array_size(names); t++)
        json_array_append(added, json_array_get(names, t));
    for (size_t t = 0; t < self->task_count; t++)
        if (self->removed[t])
            json_array_append(removed, json_array_get(extension_tasks(self->manifest), t));
    json_t *quoted = report(self, manifest, added);
    return json_pack("{s:o,s:O,s:o,s:o,s:o,s:o}", "job",
                     self->job != NULL ? json_string(self->job) : json_null(), "fingerprint",
                     said(self, "fingerprint"), "kept", extension_kept_names(self), "added", added,
                     "removed", removed, "report", quoted);
}
