/* SPDX-License-Identifier: Apache-2.0 */
/* What tasks left as the base has it: found while digests are taken, and then no task vector. */
#pragma once

#include "src/work/work.h"

/* Compares the tensors in input file `index` with the base's and forgets those of the task that are
 * the same (family_tensor.task). self->same[index] tells which, a '1' for each tensor of the
 * family, else '0'; behind that the digests of its twins (twins.h). The base's own files have
 * nothing to compare. Errors: DIDI_IO, DIDI_CHANGED, DIDI_CANCELLED, DIDI_NO_MEMORY. */
int work_compare_input(work *self, size_t index, didi_error *error);
size_t work_comparison_bytes(const work *self, size_t index); /* of that text */
/* The same, of what an earlier attempt or merge found. False when `text` is not of this family. */
bool work_recall_comparison(work *self, size_t index, const char *text);
/* All input files were compared: integers that differ become the task's own, and own tensors that
 * are equal one. Errors: DIDI_MISMATCH, DIDI_NO_MEMORY. */
int work_settle_inputs(work *self, didi_error *error);

/* Tells, for the tensors' file of an adapter, if its configuration names another base than this
 * one: by the last component of both names, whatever their case. [any thread] */
void work_note_other_base(work *self, size_t index);
