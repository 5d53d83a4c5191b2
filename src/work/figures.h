/* SPDX-License-Identifier: Apache-2.0 */
/* What a manifest says of all tasks: those that an extension keeps, and then those merged. */
#pragma once

#include "src/work/work.h"

#include <jansson.h>

typedef struct figures {
    const work *work;
    json_t *names;
    size_t tasks, kept, layers;
    const family_tensor **tensors;       /* layers: also those that a removal alone leaves alone */
    double *error, *energy;              /* layers x tasks; error is |stored - tau|^2 */
    double *dense_error, *dense_energy;  /* tasks: of the tensors kept whole */
    uint64_t bytes, parameters, factors; /* of all files; counted when these are listed */
} figures;

/* After all errors were measured. Errors: DIDI_NO_MEMORY. The caller clears it. */
int figures_create(const work *work, figures *ret_figures, didi_error *error);
void figures_clear(figures *self);

/* An error with the energy it is of. */
typedef struct figure {
    double error, energy;
} error_figure;
double figures_relative(error_figure of); /* 0 of nothing */
void figures_add(error_figure *to, double error, double energy);
