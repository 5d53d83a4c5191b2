/* SPDX-License-Identifier: Apache-2.0 */
/* Similarity of tasks (docs/method.md, "Which tasks share"). */
#pragma once

#include "src/work/work.h"

#include <jansson.h>

/* {"tasks": names, "cosine": T x T, "explained_by_shared": T, "layers": [{"tensor", "cosine"}]} of
 * a merge, of an extension for the tasks added; or null. Before it is refined (not `measured`) what
 * is explained is null. A new reference; NULL when out of memory. */
json_t *work_similarity_json(const work *self, bool measured);

/* Saves the inner products of a layer's task vectors: T x T, double. Errors: DIDI_IO,
 * DIDI_DISK_FULL, DIDI_CANCELLED, DIDI_NO_MEMORY. */
int work_save_gram(work *self, size_t index, const layer *target, didi_error *error);
