/* SPDX-License-Identifier: Apache-2.0 */
/* Which tasks of an extended package share: what the package knew of those it keeps, what was found
 * of those added, and of one with the other what a full merge found, where there is one. */
#include "src/extension/extension_internal.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <stdlib.h>
#include <string.h>

enum { FROM_PACKAGE, FROM_ADDED, FROM_COMPARISON, SOURCES };

/* Sections `similarity`, and where each task of the new package is in them; -1 where it is not. */
typedef struct sources {
    const json_t *sections[SOURCES];
    int *places[SOURCES];
    size_t tasks;
} sources;

static int find_name(const json_t *names, const char *name)
{
    for (size_t t = 0; t < json_array_size(names); t++) {
        const char *found = json_string_value(json_array_get(names, t));
        if (found != NULL && name != NULL && strcmp(found, name) == 0)
            return (int)t;
    }
    return -1;
}

/* The first `kept` names are of the package: a task added may have the name of one removed. */
static int open_sources(sources *self, const json_t *names, size_t kept, didi_error *error)
{
    self->tasks = json_array_size(names);
    int *places = memory_zeroed(SOURCES * self->tasks, sizeof *places);
    if (places == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "places of tasks");
    for (int from = 0; from < SOURCES; from++) {
        const json_t *found = json_object_get(self->sections[from], "tasks");
        self->places[from] = places + (size_t)from * self->tasks;
        for (size_t t = 0; t < self->tasks; t++) {
            bool mine = from == FROM_COMPARISON || (t < kept) == (from == FROM_PACKAGE);
            const char *name = json_string_value(json_array_get(names, t));
            self->places[from][t] = mine ? find_name(found, name) : -1;
        }
    }
    return DIDI_OK;
}

static json_t *cosine(const sources *self, const json_t *const *rows, size_t s, size_t t)
{
    for (int from = 0; from < SOURCES; from++) {
        int a = self->places[from][s];
        int b = self->places[from][t];
        if (a >= 0 && b >= 0 && rows[from] != NULL)
            return json_incref(json_array_get(json_array_get(rows[from], (size_t)a), (size_t)b));
    }
    return json_null();
}

static json_t *join_cosines(const sources *self, const json_t *const *rows)
{
    json_t *joined = json_array();
    for (size_t s = 0; s < self->tasks; s++) {
        json_t *row = json_array();
        for (size_t t = 0; t < self->tasks; t++)
            json_array_append_new(row, cosine(self, rows, s, t));
        json_array_append_new(joined, row);
    }
    return joined;
}

static json_t *join_layers(const sources *self, const json_t *layers)
{
    json_t *joined = json_array();
    for (size_t l = 0; self->tasks <= SIMILARITY_LAYER_TASKS && l < json_array_size(layers); l++) {
        const json_t *tensor = json_object_get(json_array_get(layers, l), "tensor");
        const json_t *rows[SOURCES];
        for (int from = 0; from < SOURCES; from++) {
            const json_t *known = json_object_get(self->sections[from], "layers");
            const json_t *row = manifest_file_row(known, "tensor", json_string_value(tensor));
            rows[from] = json_object_get(row, "cosine");
        }
        json_array_append_new(
            joined, json_pack("{s:O,s:o}", "tensor", tensor, "cosine", join_cosines(self, rows)));
    }
    return joined;
}

/* The shared part is the package's: a comparison has another. */
static json_t *join_explained(const sources *self)
{
    json_t *joined = json_array();
    for (size_t t = 0; t < self->tasks; t++) {
        int from = self->places[FROM_PACKAGE][t] >= 0 ? FROM_PACKAGE : FROM_ADDED;
        int place = self->places[from][t];
        json_t *list = json_object_get(self->sections[from], "explained_by_shared");
        json_t *value = place >= 0 ? json_array_get(list, (size_t)place) : NULL;
        json_array_append_new(joined, value != NULL ? json_incref(value) : json_null());
    }
    return joined;
}

int extension_join_similarity(const extension *self, json_t *manifest, const json_t *ranks,
                              bool comparable, didi_error *error)
{
    const json_t *names = json_object_get(ranks, "tasks");
    size_t added = json_array_size(extension_tasks(manifest));
    sources from = {
        .sections = {json_object_get(self->manifest, "similarity"),
                     json_object_get(manifest, "similarity"),
                     comparable ? json_object_get(self->comparison, "similarity") : NULL}};
    int status = open_sources(&from, names, json_array_size(names) - added, error);
    if (status != DIDI_OK)
        return status;
    const json_t *rows[SOURCES];
    for (int i = 0; i < SOURCES; i++)
        rows[i] = json_object_get(from.sections[i], "cosine");
    json_t *section =
        json_pack("{s:O,s:o,s:o,s:o}", "tasks", names, "cosine", join_cosines(&from, rows),
                  "explained_by_shared", join_explained(&from), "layers",
                  join_layers(&from, json_object_get(ranks, "layers")));
    free(from.places[0]);
    return json_object_set_new(manifest, "similarity", section) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "similarity of tasks");
}
