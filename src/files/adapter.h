/* SPDX-License-Identifier: Apache-2.0 */
/* LoRA adapters as PEFT writes them: what they change of which tensor of their base. */
#pragma once

#include "src/files/checkpoint.h"

typedef struct adapter adapter;

/* What becomes of one tensor of the base: its values, which are `value`'s where there is one, plus
 * scale B A, of `rows` x `columns`, the first dimension and the rest. With `magnitude` (DoRA) each
 * row of that sum, or each column of its transpose, is then brought to the length that it says. */
typedef struct adapter_change {
    char *name; /* as the adapter calls the tensor, without "base_model.model." */
    const checkpoint_tensor *value;     /* or NULL */
    const checkpoint_tensor *a, *b;     /* rank x columns, rows x rank; NULL: `value` is all */
    const checkpoint_tensor *magnitude; /* `rows` numbers, or NULL */
    size_t rank;
    double scale;
    uint64_t rows, columns;
    bool is_linear;  /* of two dimensions, where some models hold the transpose ... */
    bool transposed; /* ... and the configuration says that the base does */
} adapter_change;

/* Reads what `files`, opened as an adapter, change; it must outlive the adapter. Errors: those of
 * adapter_config_parse; DIDI_FORMAT (factors without their counterpart, of rank 0, of ranks that
 * differ from each other or from the configuration, of shapes that are no LoRA's);
 * DIDI_INVALID (a kind of tensor that is not known); DIDI_IO, DIDI_NO_MEMORY. */
int adapter_read(const checkpoint *files, adapter **ret_adapter, didi_error *error);
void adapter_free(adapter *adapter); /* NULL is fine */

/* The changes, by name. */
size_t adapter_count(const adapter *adapter);
const adapter_change *adapter_at(const adapter *adapter, size_t index);
const adapter_change *adapter_find(const adapter *adapter, const char *name);

/* The base it was made for, as its configuration names it, or NULL. */
const char *adapter_base_name(const adapter *adapter);
