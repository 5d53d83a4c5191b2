/* SPDX-License-Identifier: Apache-2.0 */
/* Own tensors of one task that are the same byte for byte, as a head that is tied and was saved
 * under two names: found by their digests while files are read, and then stored once. */
#pragma once

#include "src/work/work.h"

/* Lists what may have an equal: tensors that are a task's own, or integers that may become so, of
 * one dtype and shape. Before the first input is compared. Errors: DIDI_NO_MEMORY. */
int work_twins_list(work *self, didi_error *error);
void work_twins_clear(work *self);

enum { TWIN_TEXT_BYTES = 64 };
/* How many of them input file `index` holds; their digests, TWIN_TEXT_BYTES characters each, read
 * or as found before. [any thread] Errors: DIDI_IO, DIDI_CHANGED, DIDI_CANCELLED, DIDI_NO_MEMORY.
 */
size_t work_twins_in(const work *self, size_t index);
int work_twins_read(work *self, size_t index, char *ret_text, didi_error *error);
void work_twins_recall(work *self, size_t index, const char *text);

/* All digests are known, and what is own: of equal tensors the first by name is stored, the others
 * refer to it (family_own.same). Errors: DIDI_NO_MEMORY. */
int work_twins_join(work *self, didi_error *error);
