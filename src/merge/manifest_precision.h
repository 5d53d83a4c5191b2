/* SPDX-License-Identifier: Apache-2.0 */
/* What manifest.json says of bytes and widths. Each function returns a new reference. */
#pragma once

#include "src/merge/merge_internal.h"

#include <jansson.h>

/* {"<bits>": components, ...} of block `index` (0 = shared), widest first. */
json_t *manifest_widths(const layer_summary *summary, size_t index);

/* Of a packed package: {tensor: [bits by task]} of tensors kept whole, 0 where nothing is stored;
 * of `dense: mean` a single number. */
json_t *manifest_dense_widths(const didi_merge *merge);

/* {"<precision>": [{"bytes", "bytes_ratio", "error"}, ...], ...} */
json_t *manifest_curves(const didi_merge *merge);

/* The layout of packed tensors: {"format": 1, "group": 64}. */
json_t *manifest_packing(void);
