/* SPDX-License-Identifier: Apache-2.0 */
/* Made-up layers on their way through the stages. */
#pragma once

#include "src/methods/didi/pursuit.h"

/* Fails the test with the error's message unless status is DIDI_OK. */
void sample_must(int status, const didi_error *error);

/* A summary of the layer with energies, and weights as `weighting` has them, which the layer gets
 * too. Freed with summary_clear. */
layer_summary sample_summary(layer *layer, didi_weighting weighting);

/* Sets ranks of all blocks as greedy allocation of their known values under `budget` has them. */
void sample_allocate(const layer *layer, layer_summary *summary, uint64_t budget);
