/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets in bytes: what a package may take, and the ranks and widths that fill it. */
#pragma once

#include "src/budget/budget.h"
#include "src/merge/merge_internal.h"

/* Bytes all files of the base have: what a bytes_ratio is a ratio to. */
uint64_t merge_base_bytes(const didi_merge *merge);

/* Bytes the safetensors files may take; UINT64_MAX for budgets of another kind. */
uint64_t merge_byte_budget(const didi_merge *merge);

/* Most that the files' headers take without any tensor, and for one entry of `tensor`: two entries
 * where factors are stored as a dtype. */
uint64_t merge_file_headers(const didi_merge *merge);
uint64_t merge_entry_bytes(const didi_merge *merge, const family_tensor *tensor, bool factors);

/* The smallest budget of bytes that could work, from the headers of the inputs alone: the tensors
 * kept whole (at 2 bits where the precision is auto) and one component. */
uint64_t merge_bytes_minimum(const didi_merge *merge);

/* Parameters of factors that fit into `bytes` after the tensors kept whole, at most. */
uint64_t merge_parameters_within(const didi_merge *merge, uint64_t bytes);

/* What turns 1 / root of a tensor's mean energy into a weight like those of the matrices. */
double merge_weight_unit(const didi_merge *merge);

/* The blocks of all layers, shared first, then the experts, and the tensors kept whole, each as its
 * mean first and then for each task. Caller frees. Errors: DIDI_NO_MEMORY. */
int merge_list_precision_blocks(const didi_merge *merge, didi_precision precision,
                                precision_block **ret_blocks, size_t *ret_count, didi_error *error);
