/* SPDX-License-Identifier: Apache-2.0 */
/* The tiny family on which other implementations of the methods were run: what they serve is known
 * to nine digits. Tensors layer.attn.q.weight [6, 4], layer.mlp.fc.weight [6, 4] and
 * layer.mlp.fc.bias [6], their numbers in this order, row by row. */
#pragma once

#include "tests/unit/sample_family.h"

enum { REFERENCE_TASKS = 3, REFERENCE_NUMBERS = 54 };

/* One number of the base, and of a task vector. */
double sample_reference_base(size_t number);
double sample_reference_tau(size_t task, size_t number);

/* Writes the family in float32. The options are the sample's, without a budget. */
void sample_reference_create(sample_family *sample, int root);

/* The numbers that a package serves for a task. */
void sample_reference_served(const sample_family *sample, const char *package, size_t task,
                             float ret_numbers[REFERENCE_NUMBERS]);
