/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets in bytes: what a package may take, and the ranks and widths that fill it. */
#pragma once

#include "src/methods/didi/didi_method.h"

/* Bytes the safetensors files may take; UINT64_MAX for budgets of another kind. */
uint64_t didi_byte_budget(const didi *merge);

/* Most that no choice of ranks changes: the files' headers without any tensor, and what only one
 * task has. Then of a header, for one entry of `tensor`: two where factors are stored as a dtype.
 */
uint64_t didi_fixed_bytes(const didi *merge);
uint64_t didi_entry_bytes(const didi *merge, const family_tensor *tensor, bool factors);

/* The smallest budget of bytes that could work, from the headers of the inputs alone: the tensors
 * kept whole (at 2 bits where the precision is auto) and one component. */
uint64_t didi_bytes_minimum(const didi *merge);

/* Parameters of factors that fit into `bytes` after the tensors kept whole, at most. */
uint64_t didi_parameters_within(const didi *merge, uint64_t bytes);

/* What turns 1 / root of a tensor's mean energy into a weight like those of the matrices. */
double didi_weight_unit(const didi *merge);

/* The blocks of all layers, shared first, then the experts, and the tensors kept whole, each as its
 * mean first and then for each task. Caller frees. Errors: DIDI_NO_MEMORY. */
int didi_list_precision_blocks(const didi *merge, didi_precision precision,
                               precision_block **ret_blocks, size_t *ret_count, didi_error *error);

/* What is stored when factors have so many parameters, in the unit that progress is told in: bytes
 * / bytes of the base's files for budgets in bytes, bytes / those of a model in 16 bits with
 * precision auto, else parameters / those of a model. What an extension keeps is included. */
double didi_ratio(const didi *self, double factors);
/* The budget in that unit; NaN where an error is asked for. */
double didi_ratio_target(const didi *self);
