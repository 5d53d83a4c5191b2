/* SPDX-License-Identifier: Apache-2.0 */
/* A task as a PEFT adapter (docs/exports.md): which tensor becomes what, its numbers, its texts.
 * Of this folder alone.
 *
 * A module's change is the sum over components of (column of rows numbers) x (row of columns
 * numbers), in the order of the base's tensor. PEFT wants A (rank x in) and B (out x rank): in an
 * ordinary weight (out x in) A are the rows and B the columns, in a transposed one (in x out)
 * the other way round. */
#pragma once

#include "src/didi.h"
#include "src/files/files.h"
#include "src/package/reader.h"
#include "src/package/task_model.h"

#include <jansson.h>

/* ---- names (adapter_names.c) */

/* What config.json and the names of the base tell of its modules. */
typedef struct adapter_model {
    bool conv1d; /* GPT-2's Conv1D: weights are (in x out) */
    bool tied;   /* the output head is the embedding */
} adapter_model;

/* Reads config.json of the base, where there is one. Errors: DIDI_IO, DIDI_FORMAT, DIDI_NO_MEMORY.
 */
int adapter_model_read(int base_fd, const file_bounds *links, const checkpoint *base,
                       adapter_model *ret_model, didi_error *error);

typedef enum adapter_kind {
    ADAPTER_LINEAR,
    ADAPTER_CONVOLUTION,
    ADAPTER_EMBEDDING,
    ADAPTER_VECTOR, /* weight or bias of a module */
    ADAPTER_OTHER,  /* has no form in an adapter */
} adapter_kind;

/* What a tensor is. *ret_transposed: A is made of its columns; *ret_reason: why ADAPTER_OTHER. */
adapter_kind adapter_kind_of(const adapter_model *model, const safetensors_tensor *tensor,
                             bool *ret_transposed, const char **ret_reason);

/* The module of a tensor, "a.b" of "a.b.weight"; the caller frees. NULL when out of memory. */
char *adapter_module_path(const char *tensor);
/* The last component of a module's path: its type. */
const char *adapter_leaf(const char *path);
/* True where `path` ends in the components `suffix`, or is it. */
bool adapter_has_suffix(const char *path, const char *suffix);
/* Whether an embedding of this type is that of tokens. */
bool adapter_is_of_tokens(const char *leaf);
/* Whether servers want this type wherever they find the other one: q with k and v, gate with up. */
bool adapter_goes_with(const char *leaf, const char *other);

/* ---- plan (adapter_plan.c) */

typedef enum adapter_role {
    ADAPTER_LORA,
    ADAPTER_SAVED,    /* modules_to_save: its new value */
    ADAPTER_LEFT_OUT, /* changed, but not in the adapter */
    ADAPTER_UNCHANGED,
} adapter_role;

/* One tensor of the base. */
typedef struct adapter_tensor {
    const checkpoint_tensor *base;
    const char *name; /* in the adapter: the base's, or the task's */
    char *path;       /* of its module */
    uint64_t rows, columns;
    adapter_kind kind;
    adapter_role role;
    bool transposed;
    const char *reason;                /* why it is left out; static */
    uint64_t shared_rank, expert_rank; /* in the package */
    bool delta;                        /* beside the factors, or alone */
    bool as_base;                      /* what is shared is not the task's here */
    uint64_t rank;                     /* components that are written */
    uint64_t padded;                   /* with zeros */
    double energy, error;              /* |tau_hat|^2, |written - tau_hat|^2 */
} adapter_tensor;

typedef struct adapter_plan {
    const didi_export *wanted;
    didi_adapter_options options;
    adapter_model model;
    const task_model *task;  /* which of the base's tensors the task has, and what it has alone */
    adapter_tensor *tensors; /* of the base, by name: all floats that are not empty */
    size_t count;
    uint64_t rank; /* r */
    didi_dtype dtype;
} adapter_plan;

/* Decides on every tensor from names and headers; base, task and files outlive the plan. The caller
 * clears *ret_plan, also after a failure. Errors: DIDI_INVALID, DIDI_MISMATCH, DIDI_FORMAT,
 * DIDI_IO, DIDI_NO_MEMORY. */
int adapter_plan_make(const didi_export *wanted, const didi_adapter_options *options,
                      const checkpoint *base, const task_model *task,
                      const package_file *const files[2], adapter_plan *ret_plan,
                      didi_error *error);
void adapter_plan_clear(adapter_plan *self);
/* Whether a tensor that only the task has is saved in the adapter, as a module of its own (a head):
 * in the exact form, which then has the names of the task's model everywhere. */
bool adapter_saves_own(const adapter_plan *plan, const task_tensor *tensor);
/* Whether there is such a tensor. */
bool adapter_saves_head(const adapter_plan *plan);

/* ---- factors (adapter_factors.c) */

/* `rank` rows of `rows` numbers and of `columns` numbers. */
typedef struct adapter_factors {
    float *left, *right;
} adapter_factors;

/* Makes a module's factors of what shared file and expert add, rounded to the plan's dtype. The
 * caller clears *ret_factors. Errors: DIDI_NUMERIC, DIDI_NO_MEMORY. */
int adapter_factors_make(const adapter_plan *plan, const adapter_tensor *tensor, addition parts[2],
                         adapter_factors *ret_factors, didi_error *error);
void adapter_factors_clear(adapter_factors *self);

/* Fills the tensor's energy, and its error with these factors (NULL: with nothing). Errors:
 * DIDI_NO_MEMORY. */
int adapter_measure(adapter_tensor *tensor, const addition parts[2], const adapter_factors *factors,
                    didi_error *error);

/* ---- texts (adapter_texts.c); the caller frees, NULL when out of memory */

didi_adapter_report adapter_report(const adapter_plan *plan);
char *adapter_config_text(const adapter_plan *plan);
char *adapter_report_text(const adapter_plan *plan, const json_t *manifest);
char *adapter_readme_text(const adapter_plan *plan, const json_t *manifest);

/* ---- whole or not at all (export_adapter.c) */

/* Has `write` fill a directory under another name, which then becomes `task` of output_fd by one
 * rename, in place of an earlier one. Errors: those of `write`, DIDI_IO, DIDI_NO_MEMORY. */
int export_publish(const didi_export *wanted, int (*write)(void *, int, didi_error *),
                   void *context, didi_error *error);

/* ---- the base must be the one that was merged (export_full.c) */

int export_verify_base(const didi_export *wanted, const checkpoint *base, didi_error *error);
