/* SPDX-License-Identifier: Apache-2.0 */
/* What an expert's file holds and says beside factors and deltas: tensors that only its task has,
 * under which names the task's model has the base's, and which of these it lacks or left alone. */
#pragma once

#include "src/work/work.h"

/* Numbers of task `task` that are its own; bytes of all tasks' own tensors with their headers, and
 * of what files say of names, at most. Once inputs are settled, those that are the same count
 * once. */
uint64_t work_own_parameters(const work *self, size_t task);
uint64_t work_own_bytes(const work *self);

/* How many tasks have a task vector of a tensor. */
size_t work_tasks_with(const work *self, const family_tensor *tensor);

/* Adds to the layout of the expert of a task. Errors: DIDI_NO_MEMORY. */
int work_own_layout(const work *self, size_t task, package_layout *layout, didi_error *error);

/* Copies a task's own tensors into its expert. Errors: DIDI_NUMERIC (NaN or Inf; out of the range
 * of the output dtype), DIDI_IO, DIDI_CHANGED, DIDI_DISK_FULL, DIDI_NO_MEMORY. */
int work_write_own(work *self, size_t task, safetensors_writer *writer, didi_error *error);

/* For the manifest, of all tasks, those an extension keeps first: {task: {"prefix", "tensors":
 * [...], "lacks": [...]}} of tasks that have something of the kind. NULL when out of memory. */
json_t *work_own_json(const work *self);
