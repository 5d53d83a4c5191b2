/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of stored factors against task vectors that are factors themselves: inner products of
 * small matrices, summed in double since they nearly cancel. */
#pragma once

#include "src/methods/didi/pursuit.h"

/* The stored shared part, its left factor as rows. */
typedef struct measure_shared {
    const solve_factors *factors;
    float *left; /* rank x m, or NULL */
    double energy;
} measure_shared;

/* `factors` must outlive it. Errors: DIDI_NO_MEMORY; the caller clears in any case. */
int measure_shared_create(const layer *target, const solve_factors *factors,
                          measure_shared *ret_shared, didi_error *error);
void measure_shared_clear(measure_shared *self);

/* |S + E - tau_t|^2 and |S - tau_t|^2, for a task held as factors. Errors: DIDI_NO_MEMORY. */
int measure_factors(const layer *target, size_t task, const measure_shared *shared,
                    const solve_factors *expert, double *ret_error, double *ret_unshared,
                    didi_error *error);
