/* SPDX-License-Identifier: Apache-2.0 */
/* Layers made up for tests, and what their blocks lose by dense rebuild in double. */
#pragma once

#include "src/layer/layer.h"

/* Set-up of a group of tests: BLAS keeps to the calling thread, as the engine asks for. */
int sample_use_one_thread(void **state);

typedef struct sample_recipe {
    size_t rows, columns, tasks;
    size_t shared_rank; /* of a part all tasks have in common; 0 = they share nothing */
    size_t own_rank;    /* of each task's own part; 0 = none */
    uint64_t seed;
} sample_recipe;

/* Adds a random matrix of this rank, singular values falling slowly from about one. */
void sample_add_matrix(float *x, size_t rows, size_t columns, size_t rank, uint64_t seed);

/* A layer with task vectors, energies, weights 1 and the mean. Freed with layer_free. */
layer *sample_layer(const sample_recipe *recipe) __attribute__((returns_nonnull));

/* A streamed layer that reads the task vectors of `from`, which must outlive it; no blocks. */
layer *sample_streamed_layer(layer *from) __attribute__((returns_nonnull));

/* |tau_t - S - E_t|^2 for every task in errors (may be NULL); returns the weighted sum. */
double sample_loss(const layer *layer, double *errors);

/* out (m x n, double) = left' right of the leading `rank` rows of a block. */
void sample_product(const layer *layer, size_t index, size_t rank, double *out);

/* Fails the test unless |a - b| <= bound. */
#define sample_assert_near(a, b, bound) sample_assert_near_at((a), (b), (bound), __FILE__, __LINE__)
void sample_assert_near_at(double a, double b, double bound, const char *file, int line);
