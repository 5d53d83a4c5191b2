/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors each file of a package holds. File 0 is shared, file t + 1 the expert of task t. */
#pragma once

#include "src/files/files.h"
#include "src/merge/merge_internal.h"

enum { PACKAGE_METADATA = 2 };
const char *const (*package_layout_metadata(const didi_merge *merge))[2];

/* One file's tensors. */
typedef struct package_layout {
    safetensors_layout_entry *entries;
    uint64_t (*shapes)[2];
    char **names;
    size_t count, room;
} package_layout;

/* Errors: DIDI_NO_MEMORY; *ret_layout is then cleared. */
int package_layout_create(const didi_merge *merge, size_t file, package_layout *ret_layout,
                          didi_error *error);
void package_layout_clear(package_layout *self);

/* merge_write_dense.c: what file `file` holds of a tensor kept whole, in pieces. Measures the error
 * of packing. Errors: those of reading the inputs and of the writer. */
int merge_write_dense(didi_merge *merge, size_t index, size_t file, safetensors_writer *writer,
                      didi_error *error);
