/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors that the engine keeps whole: a delta for each task, their mean, or nothing. */
#pragma once

#include "src/work/work.h"

/* The size rule: small matrices with the names of embeddings become dense, unless the dense tensors
 * would then eat more than half of the budget, or with their headers leave no room for a component
 * (docs/method.md, "What is kept dense"). Before an extension adopts the family. */
void work_keep_sensitive(const didi_merge_options *options, family *family);
/* Whether a tensor has a name that the field gives to embeddings. */
bool work_is_embedding(const char *name);
/* True when file `index` (0 = shared, then the experts) holds a delta of this dense tensor. */
bool work_holds_delta(const work *self, size_t dense, size_t index);
/* The form a dense tensor starts in. `auto` keeps matrices for each task and vectors as their mean,
 * until a method finds room for more; in an extension what the package shares stays. */
didi_dense work_dense_form(const work *self, const family_tensor *tensor);
/* How often that form stores the tensor. */
uint64_t work_dense_copies(const work *self, const family_tensor *tensor);
/* Parameters stored of tensors kept whole, tasks' own included: what the scan found zero is not. */
uint64_t work_dense_parameters(const work *self);
/* Room for a piece of a tensor kept whole: so many elements, so many bytes where they are stored.
 */
enum { WORK_PIECE_ELEMENTS = 1 << 16 };
typedef struct piece_buffers {
    float *delta, *stored; /* before and after rounding */
    float *task, *spare;
    double *sum; /* over tasks */
    uint8_t *packed;
    addition shared; /* what a package that is extended shares of the tensor */
} piece_buffers;
/* Errors: DIDI_NO_MEMORY. */
int piece_buffers_create(piece_buffers *self, uint64_t elements, size_t bytes, didi_error *error);
void piece_buffers_clear(piece_buffers *self);

/* What `mean` stores of a piece: the sum over `tasks` tasks that have a task vector / their number,
 * in `ret_mean`. */
void work_mean_of(const double *sum, size_t tasks, uint64_t count, float *ret_mean);

/* Measures all of them, and checks that what passes through is equal everywhere; picks that up
 * again. Errors: DIDI_NUMERIC, DIDI_MISMATCH, DIDI_CHANGED, DIDI_IO, DIDI_NO_MEMORY. */
int work_scan_dense(work *self, didi_error *error);
int work_recall_dense(work *self, didi_error *error);

/* What file `file` holds of one, in pieces. Measures the error of packing. Errors: those of reading
 * the inputs and of the writer. */
int work_write_dense(work *self, size_t index, size_t file, safetensors_writer *writer,
                     didi_error *error);
/* |stored - delta_t|^2 of a task and a tensor kept whole, once this is written. */
double work_dense_error(const work *self, size_t index, size_t task);

/* That the stored values of a piece of a delta are finite. Errors: DIDI_NUMERIC naming tensor,
 * element and `stored_as`. */
int work_check_range(const family_piece *piece, const float *values, const char *stored_as,
                     didi_error *error);
