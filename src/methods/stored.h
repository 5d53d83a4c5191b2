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
/* Likewise the mean of the task vectors, by the tasks' weights. */
int stored_mean_panels(stored *self, didi_error *error);
/* Only shows the panels to `look`, without room for what is shared: nothing is stored or measured.
 * Errors: the same. */
int stored_look_at_panels(stored *self, void (*look)(void *context, const method_panel *panel),
                          void *context, didi_error *error);
/* Bytes of memory that these take, and of what they store, headers aside. */
uint64_t stored_panels_memory(const work *work, size_t tensor);
uint64_t stored_panels_bytes(const work *work, size_t tensor);

/* The width of a tensor's numbers where they are packed whole; 0: they are not. */
unsigned stored_width(const work *work, size_t tensor);

typedef struct stored_size {
    uint64_t parameters, bytes;
} stored_size;
/* What a tensor takes; NULL: memory of panels, two operations for each number of a task, a shared
 * delta. */
typedef struct stored_cost {
    uint64_t (*memory)(const void *context, size_t tensor); /* bytes, the most of all rows */
    double (*flops)(const void *context, size_t tensor);
    stored_size (*size)(const void *context, size_t tensor); /* in all files, with headers */
    size_t passes; /* how often all task vectors are read */
} stored_cost;
/* Fills work->plan for methods that store tensors panel by panel. Errors: DIDI_MEMORY_LIMIT
 * with the bytes that are needed. */
int stored_plan(work *work, const stored_cost *cost, const void *context, didi_error *error);
enum { STORED_LEAST_BYTES = 4 << 20 }; /* of an item that holds no tensor: digests, files */
/* Stores each task vector as it is as the delta of its expert, panel by panel, at the output dtype;
 * or, without `keep`, nothing of the tensor, which is only measured. Errors: those of
 * stored_shared_panels. */
int stored_expert_panels(stored *self, bool keep, didi_error *error);
/* Bytes of memory that this takes. */
uint64_t stored_experts_memory(const work *work, size_t tensor);
/* For any `recall`: opens what `name` left of a tensor and takes up its energies and errors.
 * *ret_from is the caller's, NULL after a failure to open. Errors: those of snapshot_open,
 * DIDI_NOT_FOUND, DIDI_FORMAT. */
int stored_recall_errors(const work *work, size_t tensor, const char *name, snapshot **ret_from,
                         didi_error *error);
/* For the `recall` of a method: takes up what this left. Errors: those of stored_recall. */
int stored_recall_experts(work *work, size_t tensor, const char *name, bool keep,
                          didi_error *error);

/* For the `plan` of a method: what the widest item needs, in bytes, as figures of the plan. Errors:
 * DIDI_MEMORY_LIMIT: more than is allowed. */
int stored_plan_memory(work *work, uint64_t widest, didi_error *error);

/* ---- the engine's side ---- */

/* Room for what an item leaves of a tensor as the snapshot `name`. Errors: DIDI_NO_MEMORY. */
int stored_create(work *work, size_t tensor, const char *name, stored **ret_stored,
                  didi_error *error);
void stored_free(stored *self);
/* Takes up what stored_shared_panels left: parts, energies and errors of a tensor's summary.
 * Errors: DIDI_NOT_FOUND, DIDI_FORMAT, DIDI_IO. */
int stored_recall(work *work, size_t tensor, const char *name, didi_error *error);
