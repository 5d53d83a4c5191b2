/* SPDX-License-Identifier: Apache-2.0 */
/* Task vectors that a layer holds as factors. Sums are taken in one order. */
#pragma once

#include "src/layer/matrix.h"

/* Room for factors of these ranks (layer_create_factored). Errors: DIDI_NO_MEMORY. */
int factors_create(layer *self, const size_t *rank, didi_error *error);
void factors_free(layer_factors *factors); /* NULL is fine */

typedef struct factors_product {
    bool transpose;
    bool add; /* to what is in `out` */
    size_t basis;
    const float *in;
    float *out;
} factors_product;

/* layer_apply for tau_t held as factors (index t + 1) or for these tasks' part of the weighted mean
 * (index 0). Errors: DIDI_NO_MEMORY. */
int factors_apply(const layer *self, size_t index, const factors_product *product,
                  didi_error *error);

/* layer_read_rows. */
void factors_read_rows(const layer *self, size_t task, size_t first_row, size_t rows, float *out);

/* |tau_t|^2, in double. Errors: DIDI_NO_MEMORY; DIDI_NUMERIC (not finite). */
int factors_energy(const layer *self, size_t task, double *ret_energy, didi_error *error);

/* Appends self->offset, with its sign turned, to the factors of each task. It must not have a
 * delta. Errors: DIDI_NO_MEMORY. */
int factors_take_away(layer *self, didi_error *error);
