/* SPDX-License-Identifier: Apache-2.0 */
/* The largest eigenvalues of a symmetric tridiagonal matrix and their vectors, many at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct tridiagonal {
    size_t order;
    const double *diagonal; /* order */
    const double *beside;   /* order - 1 */
} tridiagonal;

/* Room for tridiagonal_leading, in doubles. */
size_t tridiagonal_room(size_t order);

/* The `count` largest eigenvalues, descending, and their vectors as rows of length one (count x
 * order): by bisection, then Rayleigh quotient steps with twisted factorisations (Dhillon and
 * Parlett 2004), which take neither orthogonalisation nor time where eigenvalues lie apart. False,
 * and nothing that counts, where they do not (within 1e-8 of the largest magnitude) or a step goes
 * astray. `room` holds tridiagonal_room doubles. Numbers must be finite. */
bool tridiagonal_leading(const tridiagonal *of, size_t count, double *room, float *ret_vectors,
                         double *ret_values);
