/* SPDX-License-Identifier: Apache-2.0 */
/* What an item leaves of one tensor: named arrays, small ones and those that are published. The
 * engine saves them as one snapshot, takes them up again after a crash, counts and publishes them.
 * File 0 is what all tasks share, file t + 1 the expert of task t; parts of both add up. */
#pragma once

#include "src/files/files.h"
#include "src/work/work.h"

typedef struct stored stored;

/* ---- whole arrays: the caller's until stored_save ---- */

/* Keeps `rows` x `columns` numbers, for the method's own use. */
void stored_keep(stored *self, kept_array array, size_t index, uint64_t rows, uint64_t columns,
                 const void *data);
/* Factors B (rows x rank) and A (rank x columns) of file `file`, already rounded to the output
 * dtype, in which they end: in place, the values are lost. */
void stored_factors(stored *self, size_t file, size_t rank, float *b, float *a);
/* The same for a whole delta (rows x columns). */
void stored_delta(stored *self, size_t file, float *values);
/* Bytes of factors or of a delta that are packed. */
void stored_packed(stored *self, size_t file, const uint8_t *bytes, size_t count);

/* Saves them, whole or not at all: by a method before it frees them, else by the engine when the
 * item ends. The first call counts. Errors: DIDI_IO, DIDI_DISK_FULL. */
int stored_save(stored *self, didi_error *error);

/* ---- deltas panel by panel ---- */

/* One panel: whole rows of all task vectors, and room for what is stored of them. */
typedef struct method_panel {
    uint64_t first, count; /* elements of the tensor */
    size_t tasks;
    const float *const *tau; /* T x count */
    float *shared;           /* count: the shared delta, zero before */
} method_panel;

/* Hands the task vectors of a tensor to `fill`, panel by panel, and stores the shared delta that it
 * leaves, at the output dtype. Measures energies and errors, streams from the inputs and to the
 * disk: memory is (T + 4) panels, whatever the tensor's size. Errors: DIDI_NUMERIC, DIDI_CHANGED,
 * DIDI_IO, DIDI_DISK_FULL, DIDI_CANCELLED, DIDI_NO_MEMORY; those of `fill`. */
int stored_shared_panels(stored *self, void (*fill)(void *context, const method_panel *panel),
                         void *context, didi_error *error);
/* Bytes of memory that this takes, and of what it stores, headers aside. */
uint64_t stored_panels_memory(const work *work, size_t tensor);
uint64_t stored_panels_bytes(const work *work, size_t tensor);

/* ---- the engine's side ---- */

/* Room for what an item leaves of a tensor as the snapshot `name`. Errors: DIDI_NO_MEMORY. */
int stored_create(work *work, size_t tensor, const char *name, stored **ret_stored,
                  didi_error *error);
void stored_free(stored *self);
/* Takes up what stored_shared_panels left: parts, energies and errors of a tensor's summary.
 * Errors: DIDI_NOT_FOUND, DIDI_FORMAT, DIDI_IO. */
int stored_recall(work *work, size_t tensor, const char *name, didi_error *error);
