/* SPDX-License-Identifier: Apache-2.0 */
/* What a package stores of a tensor: names, sizes and counts. File 0 is shared, file t + 1 the
 * expert of task t. The only place that knows the suffixes (docs/format.md). */
#pragma once

#include "src/files/files.h"
#include "src/package/kept.h"
#include "src/package/widths.h"

/* What a tensor is to a package. */
typedef struct stored_tensor {
    const safetensors_tensor *base; /* name and shape */
    uint64_t rows, columns;
} stored_tensor;

/* What one file holds of it: factors, a delta, or nothing (rank 0, no delta). */
typedef struct stored_part {
    bool delta;
    size_t rank;              /* of the factors, where there is no delta */
    const size_t *components; /* PRECISION_WIDTHS: the rank by width, where factors are packed */
    unsigned bits;            /* width of a delta that is packed */
} stored_part;

/* Arrays of a part, in the order of the file. */
enum { STORED_ARRAYS_MAX = 2 };
typedef struct stored_array {
    const char *suffix; /* of the tensor's name in the package */
    kept_array kept;    /* the array of a snapshot that it comes from */
    didi_dtype dtype;
    size_t dimensions;      /* 1: rows alone */
    uint64_t rows, columns; /* as kept in a snapshot */
    bool shaped_as_base;    /* in the package */
} stored_array;

/* How many arrays `part` is in file `file`; describes them. */
size_t stored_arrays(const stored_tensor *tensor, const stored_part *part, size_t file,
                     didi_precision precision, stored_array ret_arrays[STORED_ARRAYS_MAX]);
/* Such an array in the tensor's snapshot, with all its rows; lives as long. Errors: DIDI_FORMAT. */
int stored_array_find(const snapshot *from, const char *tensor, size_t file,
                      const stored_array *array, const void **ret_data, didi_error *error);

/* Numbers of factors and of a delta that a part holds. */
uint64_t stored_factor_parameters(const stored_tensor *tensor, const stored_part *part);
uint64_t stored_delta_parameters(const stored_tensor *tensor, const stored_part *part);

/* One file's tensors. */
typedef struct package_layout {
    safetensors_layout_entry *entries;
    uint64_t (*shapes)[2];
    char **names;
    size_t count, room;
} package_layout;

/* An empty layout with room for the parts of `tensors` tensors. Errors: DIDI_NO_MEMORY. The caller
 * clears it, also after a failure of package_layout_add. */
int package_layout_create(size_t tensors, package_layout *ret_layout, didi_error *error);
/* Adds what file `file` holds of a tensor, whose base stays in place while the layout lives.
 * Errors: DIDI_NO_MEMORY. */
int package_layout_add(package_layout *self, const stored_tensor *tensor, const stored_part *part,
                       size_t file, didi_precision precision, didi_error *error);
/* The whole file, which lives as long as the layout. */
safetensors_contents package_layout_contents(const package_layout *self, didi_precision precision);
void package_layout_clear(package_layout *self);
