/* SPDX-License-Identifier: Apache-2.0 */
/* Error against budget of an extended package: what the added tasks alone would have at another
 * budget, beside what the tasks kept have in any case. */
#include "src/extension/extension_internal.h"

#include "src/base/base.h"
#include "src/methods/didi/pursuit.h"
#include "src/package/package.h"

#include <stdlib.h>

typedef struct sums {
    double error, energy;
} sums;

/* Weighted, as a merge of all tasks would weigh them. */
typedef struct halves {
    sums kept, added;
} halves;

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static double weight_of(const json_t *tasks, const char *name)
{
    const json_t *weight = json_object_get(manifest_file_row(tasks, "name", name), "weight");
    return json_is_number(weight) ? json_number_value(weight) : 1;
}

/* `scratch` holds 3 T numbers, the first T being the tasks' weights. */
static void add_layer(const extension *self, const json_t *row, size_t tasks, size_t kept,
                      double *scratch, halves *to)
{
    const json_t *errors = json_object_get(row, "errors");
    const json_t *energies = json_object_get(row, "energies");
    const char *tensor = json_string_value(json_object_get(row, "tensor"));
    double *energy = scratch + tasks;
    double *weight = energy + tasks;
    for (size_t t = 0; t < tasks; t++)
        energy[t] = json_number_value(json_array_get(energies, t));
    solve_weights(self->weighting, tensor != NULL ? solve_role(tensor) : 1, scratch, energy, tasks,
                  weight);
    for (size_t t = 0; t < tasks; t++) {
        sums *half = t < kept ? &to->kept : &to->added;
        half->energy += weight[t] * energy[t];
        half->error += weight[t] * energy[t] * json_number_value(json_array_get(errors, t));
    }
}

static int weigh(const extension *self, const json_t *manifest, const json_t *ranks, size_t added,
                 halves *ret_halves, didi_error *error)
{
    const json_t *names = json_object_get(ranks, "tasks");
    const json_t *layers = json_object_get(ranks, "layers");
    const json_t *asked = json_object_get(json_object_get(manifest, "specification"), "tasks");
    size_t tasks = json_array_size(names);
    double *scratch = memory_zeroed(3 * tasks, sizeof *scratch);
    if (scratch == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "weights of %zu tasks", tasks);
    for (size_t t = 0; t < tasks; t++)
        scratch[t] = weight_of(asked, json_string_value(json_array_get(names, t)));
    for (size_t l = 0; l < json_array_size(layers); l++)
        add_layer(self, json_array_get(layers, l), tasks, tasks - added, scratch, ret_halves);
    free(scratch);
    return DIDI_OK;
}

/* Of all tasks, when those added keep the share `error` of theirs. */
static double whole_error(const halves *of, double error)
{
    double energy = of->kept.energy + of->added.energy;
    return energy > 0 ? (of->kept.error + error * of->added.energy) / energy : 0;
}

static void join_points(json_t *points, const halves *of, double kept)
{
    for (size_t i = 0; i < json_array_size(points); i++) {
        json_t *point = json_array_get(points, i);
        json_object_set_new(point, "budget", json_real(number(point, "budget") + kept));
        json_object_set_new(point, "error", json_real(whole_error(of, number(point, "error"))));
        if (of->added.energy == 0) /* nothing is left to predict */
            json_object_set_new(point, "kind", json_string("measured"));
    }
}

static void join_curves(json_t *curves, const halves *of, uint64_t kept, double model_bytes)
{
    const char *precision = NULL;
    json_t *points = NULL;
    json_object_foreach(curves, precision, points)
    {
        for (size_t i = 0; i < json_array_size(points); i++) {
            json_t *point = json_array_get(points, i);
            json_int_t bytes = json_integer_value(json_object_get(point, "bytes"));
            bytes += (json_int_t)kept;
            json_object_set_new(point, "bytes", json_integer(bytes));
            json_object_set_new(point, "bytes_ratio", json_real((double)bytes / model_bytes));
            json_object_set_new(point, "error", json_real(whole_error(of, number(point, "error"))));
        }
    }
}

int extension_join_frontier(const extension *self, json_t *manifest, const json_t *ranks,
                            didi_error *error)
{
    const json_t *budget = json_object_get(manifest, "budget");
    json_t *frontier = json_object_get(manifest, "frontier");
    json_t *chosen = json_object_get(frontier, "chosen");
    size_t added = json_array_size(extension_tasks(manifest));
    halves both = {.kept = {0, 0}, .added = {0, 0}};
    int status = weigh(self, manifest, ranks, added, &both, error);
    if (status != DIDI_OK)
        return status;
    double kept = (double)extension_parameters(self) / number(budget, "model_parameters");
    double lost = both.added.energy > 0 ? both.added.error / both.added.energy : 0;
    join_points(json_object_get(frontier, "points"), &both, kept);
    join_curves(json_object_get(frontier, "precisions"), &both, extension_bytes(self),
                number(budget, "model_bytes"));
    json_object_set_new(chosen, "budget", json_real(number(chosen, "budget") + kept));
    json_object_set(chosen, "bytes", json_object_get(budget, "bytes"));
    json_object_set(chosen, "bytes_ratio", json_object_get(budget, "bytes_ratio"));
    json_object_set_new(chosen, "error", json_real(whole_error(&both, lost)));
    return DIDI_OK;
}
