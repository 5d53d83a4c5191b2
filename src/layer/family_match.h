/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensor of a task is which of the base. */
#pragma once

#include "src/layer/family.h"

/* Finds each task's tensors of the base (family_tensor.task) and what only the task has
 * (family_task.own), by options->own_tensors and options->missing; tensors that no task shares with
 * the base become FAMILY_UNUSED. Models are open and tensors sorted into kinds. Errors:
 * DIDI_MISMATCH, DIDI_NO_MEMORY. */
int family_match(const didi_merge_options *options, family *family, didi_error *error);
