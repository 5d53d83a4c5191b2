/* SPDX-License-Identifier: Apache-2.0 */
/* Layer summaries, weights and the memory a layer takes. */
#include "src/methods/didi/pursuit.h"

#include "src/base/base.h"

#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int summary_create(layer_summary *self, size_t tasks, didi_error *error)
{
    layer_summary fresh = {
        .tasks = tasks,
        .energy = memory_zeroed(tasks, sizeof(double)),
        .weight = memory_zeroed(tasks, sizeof(double)),
        .count = memory_zeroed(tasks + 1, sizeof(size_t)),
        .sigma = memory_zeroed(tasks + 1, sizeof(double *)),
        .tail = memory_zeroed(tasks + 1, sizeof(double)),
        .rank = memory_zeroed(tasks + 1, sizeof(size_t)),
        .dense = memory_zeroed(tasks + 1, sizeof(bool)),
        .components = memory_zeroed(tasks + 1, sizeof(size_t[PRECISION_WIDTHS])),
        .dense_bits = memory_zeroed(tasks + 1, sizeof(unsigned)),
        .error = memory_zeroed(tasks, sizeof(double)),
        .unshared = memory_zeroed(tasks, sizeof(double)),
    };
    *self = fresh;
    if (fresh.energy == NULL || fresh.weight == NULL || fresh.count == NULL ||
        fresh.sigma == NULL || fresh.tail == NULL || fresh.rank == NULL || fresh.dense == NULL ||
        fresh.components == NULL || fresh.dense_bits == NULL || fresh.error == NULL ||
        fresh.unshared == NULL) {
        summary_clear(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "summary of %zu tasks", tasks);
    }
    return DIDI_OK;
}

void summary_clear(layer_summary *self)
{
    for (size_t j = 0; self->sigma != NULL && j <= self->tasks; j++)
        free(self->sigma[j]);
    free(self->energy);
    free(self->weight);
    free(self->count);
    free(self->sigma);
    free(self->tail);
    free(self->rank);
    free(self->dense);
    free(self->components);
    free(self->dense_bits);
    free(self->error);
    free(self->unshared);
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

static bool is_one_of(const char *tensor, const char *const *patterns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fnmatch(patterns[i], tensor, 0) == 0)
            return true;
    return false;
}

double solve_role(const char *tensor)
{
    static const char *const scores[] = {"*q_proj*", "*k_proj*", "*query*",  "*.key.*",
                                         "*.wq.*",   "*.wk.*",   "*.to_q.*", "*.to_k.*",
                                         "*q_lin.*", "*k_lin.*", "*.q.*",    "*.k.*"};
    return is_one_of(tensor, scores, sizeof scores / sizeof *scores) ? 0.5 : 1;
}

double solve_vector_role(const char *tensor, size_t dimensions)
{
    static const char *const widening[] = {
        "*fc1.bias",  "*c_fc.bias",          "*intermediate.dense.bias",
        "*lin1.bias", "*up_proj.bias",       "*gate_proj.bias",
        "*.wi*.bias", "*dense_h_to_4h.bias", "*linear1.bias"};
    static const char *const scales[] = {"*.weight", "*.gamma"};
    if (solve_role(tensor) < 1)
        return 1 / 32.0;
    if (is_one_of(tensor, widening, sizeof widening / sizeof *widening) ||
        (dimensions == 1 && is_one_of(tensor, scales, sizeof scales / sizeof *scales)))
        return 0.1;
    return 1;
}

/* How a task's weight follows its energy within a layer (docs/method.md, "Weights"). */
#define FAR_EXPONENT 0.4

void solve_weights(didi_weighting weighting, double role, const double *task_weight,
                   const double *energy, size_t tasks, double *ret_weight)
{
    double mean = 0;
    for (size_t t = 0; t < tasks; t++)
        mean += energy[t] / (double)tasks;
    double scale = weighting != DIDI_WEIGHTING_NONE && mean > 0 ? 1 / sqrt(mean) : 1;
    if (weighting == DIDI_WEIGHTING_ACCURACY)
        scale *= role;
    for (size_t t = 0; t < tasks; t++)
        ret_weight[t] = energy[t] > 0 ? task_weight[t] * scale : 0;
    for (size_t t = 0; t < tasks && weighting == DIDI_WEIGHTING_ACCURACY; t++)
        ret_weight[t] *= energy[t] > 0 ? pow(energy[t] / mean, FAR_EXPONENT) : 0;
}
