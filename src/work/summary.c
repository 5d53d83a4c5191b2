/* SPDX-License-Identifier: Apache-2.0 */
/* Summaries of tensors, and sums over all of them. */
#include "src/work/work.h"

#include "src/base/base.h"

#include <stdlib.h>
#include <string.h>

/* Arrays of a layer_summary: entries more than one a task. */
#define SUMMARY_ARRAYS(X)                                                                          \
    X(energy, 0)                                                                                   \
    X(weight, 0)                                                                                   \
    X(count, 1)                                                                                    \
    X(sigma, 1)                                                                                    \
    X(tail, 1)                                                                                     \
    X(rank, 1)                                                                                     \
    X(dense, 1)                                                                                    \
    X(form, 1)                                                                                     \
    X(entries, 1)                                                                                  \
    X(components, 1)                                                                               \
    X(dense_bits, 1)                                                                               \
    X(error, 0)                                                                                    \
    X(unshared, 0)

int summary_create(layer_summary *self, size_t tasks, didi_error *error)
{
    bool whole = true;
    *self = (layer_summary){.tasks = tasks};
#define SUMMARY_ALLOCATE(array, more)                                                              \
    self->array = memory_zeroed(tasks + (more), sizeof *self->array);                              \
    whole = whole && self->array != NULL;
    SUMMARY_ARRAYS(SUMMARY_ALLOCATE)
#undef SUMMARY_ALLOCATE
    if (whole)
        return DIDI_OK;
    summary_clear(self);
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "summary of %zu tasks", tasks);
}

void summary_clear(layer_summary *self)
{
    for (size_t j = 0; self->sigma != NULL && j <= self->tasks; j++)
        free(self->sigma[j]);
#define SUMMARY_FREE(array, more) free(self->array);
    SUMMARY_ARRAYS(SUMMARY_FREE)
#undef SUMMARY_FREE
    *self = (layer_summary){0};
}

int summary_set_sigma(layer_summary *self, size_t index, const double *sigma, size_t count,
                      double tail, didi_error *error)
{
    double *copy = memory_zeroed(count, sizeof *copy);
    if (copy == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu singular values", count);
    if (count > 0)
        memcpy(copy, sigma, count * sizeof *copy);
    free(self->sigma[index]);
    self->sigma[index] = copy;
    self->count[index] = count;
    self->tail[index] = tail > 0 ? tail : 0;
    return DIDI_OK;
}

int dense_summary_create(dense_summary *self, size_t tasks, didi_error *error)
{
    *self = (dense_summary){.energy = memory_zeroed(tasks, sizeof(double)),
                            .bits = memory_zeroed(tasks + 1, sizeof(unsigned)),
                            .unstored = memory_zeroed(tasks, sizeof(double)),
                            .stored_error = memory_zeroed(tasks, sizeof(double))};
    if (self->energy != NULL && self->bits != NULL && self->unstored != NULL &&
        self->stored_error != NULL)
        return DIDI_OK;
    dense_summary_clear(self);
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "summary of %zu tasks", tasks);
}

void dense_summary_clear(dense_summary *self)
{
    free(self->energy);
    free(self->bits);
    free(self->unstored);
    free(self->stored_error);
    *self = (dense_summary){0};
}

double work_weighted_energy(const work *self)
{
    double sum = 0;
    for (size_t l = 0; l < self->layer_count; l++)
        for (size_t t = 0; t < self->options.task_count; t++)
            sum += self->summaries[l].weight[t] * self->summaries[l].energy[t];
    return sum;
}

double work_energy(const work *self)
{
    double sum = 0;
    for (size_t l = 0; l < self->layer_count; l++)
        for (size_t t = 0; t < self->options.task_count; t++)
            sum += self->summaries[l].energy[t];
    return sum;
}

double work_task_energy(const work *self, size_t task)
{
    double sum = 0;
    for (size_t l = 0; l < self->layer_count; l++)
        sum += self->summaries[l].energy[task];
    return sum;
}

double work_matrix_parameters(const work *self)
{
    double sum = 0;
    for (size_t l = 0; l < self->layer_count; l++)
        sum += (double)self->layers[l]->elements;
    return sum;
}

double work_share_of_model(const work *self, uint64_t parameters)
{
    return (double)parameters / (double)self->plan.parameters;
}

static uint64_t model_bytes(const checkpoint *model)
{
    uint64_t bytes = 0;
    for (size_t f = 0; f < checkpoint_file_count(model); f++)
        bytes = memory_add(bytes, checkpoint_file_at(model, f)->bytes);
    return bytes;
}

uint64_t work_base_bytes(const work *self)
{
    return model_bytes(self->family->base);
}

uint64_t work_input_bytes(const work *self)
{
    uint64_t bytes = model_bytes(self->family->base);
    for (size_t t = 0; t < self->family->task_count; t++)
        bytes = memory_add(bytes, model_bytes(self->family->tasks[t].model));
    for (size_t t = 0; t < self->family->task_count; t++)
        if (self->family->tasks[t].gram != NULL)
            bytes = memory_add(bytes, model_bytes(self->family->tasks[t].gram));
    return bytes;
}

int work_check_tasks_differ(const work *self, didi_error *error)
{
    for (size_t t = 0; t < self->options.task_count; t++) {
        double energy = work_task_energy(self, t);
        for (size_t i = 0; i < self->dense_count; i++)
            energy += self->dense_summaries[i].energy[t];
        if (energy == 0)
            return didi_fail(error, DIDI_MISMATCH, self->options.tasks[t].label,
                             "task '%s' (%s) is identical to the base %s: its task vector is zero",
                             self->options.tasks[t].name, self->options.tasks[t].label,
                             self->options.base_label);
    }
    return DIDI_OK;
}
