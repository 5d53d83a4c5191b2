/* SPDX-License-Identifier: Apache-2.0 */
/* Similarity of tasks (docs/method.md, "Which tasks share"). */
#pragma once

#include "src/merge/merge_internal.h"

#include <jansson.h>

/* {"tasks": names, "cosine": T x T, "explained_by_shared": T, "layers": [{"tensor", "cosine"}]} of
 * a refined merge, of an extension for the tasks added; or null. A new reference; NULL when out of
 * memory. */
json_t *merge_similarity_json(const didi_merge *merge);
