/* SPDX-License-Identifier: Apache-2.0 */
/* model.safetensors.index.json: which shard holds which tensor. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>

typedef struct checkpoint_index checkpoint_index;

/* Parses the `bytes` bytes of an index. Pure: touches no file, so fuzzers call it. `subject` is
 * used in errors only. Members other than weight_map (metadata.total_size among them) are advisory
 * and passed over. Free with checkpoint_index_free. Errors: DIDI_FORMAT, DIDI_NO_MEMORY. */
int checkpoint_index_parse(const char *json, size_t bytes, const char *subject,
                           checkpoint_index **ret_index, didi_error *error);

/* Frees an index; NULL is fine. */
void checkpoint_index_free(checkpoint_index *index);

/* Distinct shards, sorted by file name; at least one. */
size_t checkpoint_index_file_count(const checkpoint_index *index);
const char *checkpoint_index_file(const checkpoint_index *index, size_t file);

/* Tensors, sorted by name. */
size_t checkpoint_index_tensor_count(const checkpoint_index *index);
const char *checkpoint_index_tensor(const checkpoint_index *index, size_t tensor);

/* The shard of the tensor called `name`, or SIZE_MAX. */
size_t checkpoint_index_find(const checkpoint_index *index, const char *name);
