/* SPDX-License-Identifier: Apache-2.0 */
/* A task's model as it is rebuilt from a package and the base: which tensors, and their bytes in
 * order. The other half of src/work/own.c (docs/format.md, sections 2 and 3). */
#pragma once

#include "src/files/files.h"

/* One tensor: the base's with what the package adds, rows of the task's own behind it, or the
 * task's own alone. */
typedef struct task_tensor {
    char *name; /* in the task's model */
    didi_dtype dtype;
    size_t dimensions;
    uint64_t *shape;
    uint64_t elements, bytes;
    const checkpoint_tensor *base; /* NULL: `own` is all of it */
    const safetensors_tensor *own; /* in the expert's file; NULL: none */
    bool as_base;                  /* nothing is added to the base's */
} task_tensor;

typedef struct task_model task_model;

/* Opens the files of a package that make up a task's model; `base` must outlive it. Errors:
 * DIDI_NOT_FOUND (no such task), DIDI_FORMAT (what the expert says of names cannot be, or does not
 * go with the base), DIDI_IO, DIDI_NO_MEMORY. The caller frees *ret_model. */
int task_model_open(int package_fd, const char *task, const checkpoint *base,
                    task_model **ret_model, didi_error *error);
/* NULL is fine. */
void task_model_close(task_model *model);

/* Its tensors by name, in order; NULL: there is none of that name. */
size_t task_model_count(const task_model *model);
const task_tensor *task_model_at(const task_model *model, size_t index);

const task_tensor *task_model_find(const task_model *model, const char *name);

/* As the layout of a file has it; lives as long as the model. */
safetensors_layout_entry task_tensor_entry(const task_tensor *tensor);

typedef struct task_pieces task_pieces;

/* The bytes of one tensor, in pieces of which none depends on who asks. Memory: what the package
 * has for the tensor, and a panel. Errors: DIDI_MISMATCH, DIDI_FORMAT, DIDI_IO, DIDI_NO_MEMORY. */
int task_pieces_open(const task_model *model, const task_tensor *tensor, task_pieces **ret_pieces,
                     didi_error *error);
/* The next piece, valid until the next call; *ret_count is 0 after the last. Errors: those of
 * task_pieces_open, DIDI_CHANGED, DIDI_NUMERIC (a value is not finite in the tensor's dtype). */
int task_pieces_next(task_pieces *pieces, const void **ret_bytes, size_t *ret_count,
                     didi_error *error);
/* NULL is fine. */
void task_pieces_close(task_pieces *pieces);
