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
    X(PASSTHROUGH, "passthrough") /* integer or empty: equal everywhere, served as the base's */   \
    X(EXCLUDED, "excluded")       /* left out by include/exclude: served as the base has it */

typedef enum family_kind {
#define FAMILY_ENUMERATOR(id, word) FAMILY_##id,
    FAMILY_KIND_TABLE(FAMILY_ENUMERATOR)
#undef FAMILY_ENUMERATOR
        FAMILY_KIND_COUNT
} family_kind;

typedef struct family_tensor {
    const char *name;
    family_kind kind;
    uint64_t rows, columns; /* shape[0] x rest; 1 x n for one dimension, 1 x 1 for scalars */
    uint64_t elements;
    uint64_t rank_limit;  /* largest k with k (m + n) < m n, at most min(m, n); matrices only */
    const checkpoint_tensor *base;
    const checkpoint_tensor **task; /* one per task */
} family_tensor;

typedef struct family {
    checkpoint *base;
    checkpoint **tasks;
    size_t task_count;
    family_tensor *tensors; /* sorted by name */
    size_t tensor_count;
    uint64_t parameters; /* matrices and dense, one model */
} family;

enum {
    FAMILY_TASKS_MAX = 1024,
    FAMILY_DIFFERENCES_SHOWN = 8,
};

/* Opens all models, compares them (names; shapes; dtypes: any two float types go together, integer
 * types must be the same) and sorts the tensors by shape, dtype and the options' globs. Errors:
 * DIDI_MISMATCH (message lists the first differences and counts the rest), DIDI_INVALID, and
 * checkpoint_open's. */
int family_open(const didi_merge_options *options, family **ret_family, didi_error *error);
void family_close(family *family);

/* Reads the task vectors of one matrix into `layer` (tau, f32; energy is measured). `bytes_read` is
 * added to. Errors: DIDI_NUMERIC (NaN or Inf: names model, tensor and element), DIDI_CHANGED,
 * DIDI_IO, DIDI_CANCELLED. */
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

/* Compares an integer tensor of every task with the base. Errors: DIDI_MISMATCH naming model,
 * tensor. */
int family_check_equal(const family *family, const family_tensor *tensor, atomic_ullong *bytes_read,
                       didi_error *error);

/* checkpoint_verify_unchanged over all models. */
int family_verify_unchanged(const family *family, didi_error *error);

/* True when one of the globs is the tensor's name. */
bool family_name_matches(const char *name, const char *const *globs, size_t count);
