/* SPDX-License-Identifier: Apache-2.0 */
/* Errors and energies of all tasks, those that an extension keeps first. */
#include "src/work/work.h"

#include "src/base/base.h"

#include <stdlib.h>
#include <string.h>

double figures_relative(error_figure of)
{
    return of.energy > 0 ? of.error / of.energy : 0;
}

void figures_add(error_figure *to, double error, double energy)
{
    to->error += error;
    to->energy += energy;
}

static void fill_figures(figures *self)
{
    const work *of = self->work;
    extension_dense_errors(of->extension, self->dense_error, self->dense_energy);
    for (size_t l = 0; l < self->layers; l++) {
        size_t at = l * self->tasks;
        extension_layer_errors(of->extension, self->tensors[l]->name, self->error + at,
                               self->energy + at);
    }
    for (size_t t = 0; t < of->options.task_count; t++) {
        size_t own = self->kept + t;
        json_array_append_new(self->names, json_string(of->options.tasks[t].name));
        for (size_t l = 0; l < of->layer_count; l++) {
            size_t at = l * self->tasks + own;
            bool as_base = !family_has_vector(of->layers[l], t) && !of->one_model;
            self->error[at] = as_base ? 0 : of->summaries[l].error[t];
            self->energy[at] = of->summaries[l].energy[t];
        }
        for (size_t i = 0; i < of->dense_count; i++) {
            self->dense_error[own] += work_dense_error(of, i, t);
            self->dense_energy[own] += of->dense_summaries[i].energy[t];
        }
    }
}

/* Those that the method works on; without any task to merge, what it would. */
static size_t list_tensors(const work *of, const family_tensor **tensors)
{
    size_t layers = 0;
    if (of->layer_count > 0) {
        memcpy(tensors, of->layers, of->layer_count * sizeof *tensors);
        return of->layer_count;
    }
    for (size_t i = 0; i < of->family->tensor_count; i++)
        if (of->family->tensors[i].kind == FAMILY_MATRIX)
            tensors[layers++] = &of->family->tensors[i];
    return layers;
}

int figures_create(const work *of, figures *ret_figures, didi_error *error)
{
    size_t kept = extension_kept_count(of->extension);
    size_t tasks = kept + of->options.task_count;
    const family_tensor **tensors = memory_zeroed(of->family->tensor_count, sizeof *tensors);
    size_t layers = tensors != NULL ? list_tensors(of, tensors) : 0;
    size_t count = layers * tasks;
    double *numbers = memory_zeroed(2 * (count + tasks), sizeof *numbers);
    if (tensors == NULL || numbers == NULL) {
        free(tensors);
        free(numbers);
        return didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "figures of %zu tasks", tasks);
    }
    *ret_figures = (figures){.work = of,
                             .names = extension_kept_names(of->extension),
                             .tasks = tasks,
                             .kept = kept,
                             .layers = layers,
                             .tensors = tensors,
                             .error = numbers,
                             .energy = numbers + count,
                             .dense_error = numbers + 2 * count,
                             .dense_energy = numbers + 2 * count + tasks};
    fill_figures(ret_figures);
    return DIDI_OK;
}

void figures_clear(figures *self)
{
    json_decref(self->names);
    free(self->tensors);
    free(self->error);
    *self = (figures){0};
}
