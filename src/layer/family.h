/* SPDX-License-Identifier: Apache-2.0 */
/* A base model and its fine-tunes: compared from headers, sorted into matrices, dense tensors and
 * the rest, and loaded layer by layer as task vectors. */
#pragma once

#include "src/didi.h"
#include "src/files/files.h"
#include "src/layer/matrix.h"

/* What a manifest says of each kind. */
#define FAMILY_KIND_TABLE(X)                                                                       \
    X(MATRIX, "factors")          /* gets factors */                                               \
    X(DENSE, "dense")             /* float, kept whole */                                          \
    X(PASSTHROUGH, "passthrough") /* integer or empty: served as the base's, or a task's own */    \
    X(EXCLUDED, "excluded")       /* left out by include/exclude: served as the base has it */     \
    X(UNUSED, "base")             /* no task has it, or each one of its own: the base's alone */

typedef enum family_kind {
#define FAMILY_ENUMERATOR(id, word) FAMILY_##id,
    FAMILY_KIND_TABLE(FAMILY_ENUMERATOR)
#undef FAMILY_ENUMERATOR
        FAMILY_KIND_COUNT
} family_kind;

/* What an adapter adds to a tensor by factors. */
typedef struct family_change {
    const adapter_change *from; /* NULL: nothing */
    bool transposed;            /* the base holds the transpose of scale B A */
    _Atomic(float *)
        directed; /* what each column is multiplied by, if by lengths (DoRA) and known */
} family_change;

typedef struct family_tensor {
    const char *name;
    family_kind kind;
    uint64_t rows, columns; /* shape[0] x rest; 1 x n for one dimension, 1 x 1 for scalars */
    uint64_t elements;
    uint64_t rank_limit; /* largest k with k (m + n) < m n, at most min(m, n); matrices only */
    const checkpoint_tensor *base;
    const checkpoint_tensor **task; /* one per task: its values; NULL: the base's */
    family_change *change; /* one per task: what is added to these values; NULL: none has any */
} family_tensor;

/* What only one task has: kept whole in its expert. */
typedef struct family_own {
    const char *name;                /* in the package: the task's, or of `grown` the base's */
    const checkpoint_tensor *source; /* in the task's model */
    const family_tensor *grown;      /* NULL; else the rows behind those of this tensor */
    const struct family_own *same;   /* NULL; else the one of the task that has the same bytes */
} family_own;

typedef struct family_task {
    checkpoint *model;
    adapter *adapter;    /* how to read `model` where that is an adapter's files, else NULL */
    checkpoint *gram;    /* Gram matrices of its layers' inputs; NULL: none were given */
    char *prefix;        /* NULL: its names are the base's; else they differ by this, ... */
    bool prefix_dropped; /* ... which the base's have, and the task's have not */
    family_own *own;     /* by name */
    size_t own_count;
} family_task;

typedef struct family {
    checkpoint *base;
    family_task *tasks;
    size_t task_count;
    family_tensor *tensors; /* sorted by name */
    size_t tensor_count;
    uint64_t parameters; /* matrices and dense, one model */
} family;

enum {
    FAMILY_TASKS_MAX = 1024,
    FAMILY_DIFFERENCES_SHOWN = 8,
};

/* Whether a task may differ from the base here: it has values of its own, or factors. Else its task
 * vector is zero, and costs nothing. */
static inline bool family_has_vector(const family_tensor *tensor, size_t task)
{
    return tensor->task[task] != NULL ||
           (tensor->change != NULL && tensor->change[task].from != NULL);
}

/* A task is a model or a PEFT adapter: then tensors that it does not name are the base's, and names
 * may have a prefix more or less as well. Opens all models, compares them and sorts the tensors by
 * shape, dtype and the options' globs. Names may differ by one prefix a task. Any two float types
 * go together, integer types must be the same. What a task lacks, or has beside the base or in
 * another shape, is treated as options->missing and options->own_tensors say. Errors: DIDI_MISMATCH
 * (message lists the first differences and counts the rest), DIDI_INVALID, and checkpoint_open's.
 */
int family_open(const didi_merge_options *options, family **ret_family, didi_error *error);
void family_close(family *family);

/* Whether the task's model has a tensor that the base has as `name`; as a fine-tune, an adapter has
 * all of them. */
bool family_task_has(const family *family, size_t task, const char *name);

/* Reads the dense task vectors of one matrix into `layer` (tau, f32; energies are measured).
 * `bytes_read` is added to. Errors: DIDI_NUMERIC (NaN or Inf: names model, tensor and element),
 * DIDI_CHANGED, DIDI_IO, DIDI_CANCELLED. */
int family_load_layer(const family *family, const family_tensor *tensor, layer *layer,
                      atomic_ullong *bytes_read, didi_error *error);

/* Tells the system that one matrix of all models is read soon, so that it is read ahead. */
void family_will_need(const family *family, const family_tensor *tensor);

/* A layer that reads the task vectors of one matrix panel by panel, from files that must stay open
 * and unchanged while it lives (family_verify_unchanged tells). Energies are not measured. Errors:
 * DIDI_NO_MEMORY; of its products those of family_load_layer. */
int family_stream_layer(const family *family, const family_tensor *tensor,
                        atomic_ullong *bytes_read, layer **ret_layer, didi_error *error);

/* Elements [first, first + count) of a tensor. */
typedef struct family_piece {
    const family_tensor *tensor;
    uint64_t first, count;
} family_piece;

/* Reads a piece of one task's delta of a dense tensor: W_t - W_0 in float32. `spare` holds as many
 * floats. Errors as above. */
int family_read_delta(const family *family, size_t task, family_piece piece, float *ret_delta,
                      float *spare, atomic_ullong *bytes_read, didi_error *error);
/* The same of all tasks: T arrays. The base is read once. */
int family_read_deltas(const family *family, family_piece piece, float *const *ret_deltas,
                       float *spare, atomic_ullong *bytes_read, didi_error *error);

/* Sums `parameters` anew, after kinds have changed. */
void family_count_parameters(family *family);

/* Whether a task's tensor is the base's: the same bytes or, of another dtype, the same numbers. The
 * task has it. Errors: DIDI_IO, DIDI_CHANGED, DIDI_NO_MEMORY. */
int family_compare(const family *family, const family_tensor *tensor, size_t task, bool *ret_same,
                   didi_error *error);

/* False where no task has a task vector other than zero: the tensor costs nothing. */
bool family_changed(const family *family, const family_tensor *tensor);

/* What tasks have of this tensor becomes their own, or is refused or dropped, as the options say.
 * Errors: DIDI_MISMATCH, DIDI_NO_MEMORY. */
int family_keep_own(const didi_merge_options *options, family *family, family_tensor *tensor,
                    didi_error *error);

/* checkpoint_verify_unchanged over all models. */
int family_verify_unchanged(const family *family, didi_error *error);

/* True when one of the globs is the tensor's name. */
bool family_name_matches(const char *name, const char *const *globs, size_t count);
