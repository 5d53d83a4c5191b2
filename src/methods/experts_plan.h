/* SPDX-License-Identifier: Apache-2.0 */
/* What experts.c and experts_plan.c know of each other. */
#pragma once

#include "src/methods/experts.h"

/* Rows that are read at once. */
uint64_t expert_panel_rows(const family_tensor *tensor);
/* Width of matrices where numbers are packed, else 0. */
unsigned expert_bits(const work *work);
/* The rank of a task's factors, all of one width. */
void expert_set_rank(const work *work, layer_summary *summary, size_t task, size_t rank);
/* Bytes that a tensor takes: method_stage.memory. */
uint64_t experts_memory(const void *self, size_t tensor);
