/* SPDX-License-Identifier: Apache-2.0 */
/* What a task and a tensor weigh, by energy and by name. */
#include "src/methods/didi/pursuit.h"

#include <fnmatch.h>
#include <math.h>

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
