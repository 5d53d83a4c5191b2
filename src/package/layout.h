/* SPDX-License-Identifier: Apache-2.0 */
/* What a package stores of a tensor: names, sizes and counts. File 0 is shared, file t + 1 the
 * expert of task t. The only place that knows the suffixes (docs/format.md). */
#pragma once

#include "src/files/files.h"
#include "src/package/kept.h"
#include "src/package/widths.h"

#include <jansson.h>

/* What a tensor is to a package. */
typedef struct stored_tensor {
    const safetensors_tensor *base; /* name and shape */
    uint64_t rows, columns;
} stored_tensor;

/* What one file holds of a tensor. The last five are of format 5. */
typedef enum stored_form {
    STORED_FACTORS,     /* of a rank; 0: nothing */
    STORED_DELTA,       /* all numbers */
    STORED_MASKED,      /* shared: all numbers, of which a mask takes some */
    STORED_MASK,        /* expert: a bit for each number that is shared so */
    STORED_SCALED_MASK, /* and what they are multiplied by */
    STORED_SIGNS,       /* expert: a bit for each number, and the magnitude of all of them */
    STORED_PLACES,      /* expert: so many numbers of each row, and their columns */
} stored_form;
typedef struct stored_part {
    stored_form form;
    size_t rank;              /* of factors */
    const size_t *components; /* PRECISION_WIDTHS: the rank by width, where factors are packed */
    unsigned bits;            /* width of a delta, or of what is masked, that is packed */
    size_t entries;           /* of each row, with places */
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

/* With dtype auto what is packed of a tensor is gathered with others unless it may take 2^20 bytes:
 * PACKAGE_GATHERED is their name, and they need no entry in the header. */
#define PACKAGE_GATHERED "parts"
bool stored_is_gathered(uint64_t rows, uint64_t columns, didi_precision precision);

/* How many arrays `part` is in file `file`; describes them. */
size_t stored_arrays(const stored_tensor *tensor, const stored_part *part, size_t file,
                     didi_precision precision, stored_array ret_arrays[STORED_ARRAYS_MAX]);
/* Such an array in the tensor's snapshot, with all its rows; lives as long. Errors: DIDI_FORMAT. */
int stored_array_find(const snapshot *from, const char *tensor, size_t file,
                      const stored_array *array, const void **ret_data, didi_error *error);

/* Numbers of factors that a part holds, and of all else; of 32 bits, or 16 of two columns, one is
 * counted. */
uint64_t stored_factor_parameters(const stored_tensor *tensor, const stored_part *part);
uint64_t stored_delta_parameters(const stored_tensor *tensor, const stored_part *part);

/* A tensor that only one task has, kept whole; or the rows behind those of the base's. */
typedef struct stored_own {
    const char *name; /* the task's; of rows behind the base's, the base's */
    const safetensors_tensor *source;
    uint64_t rows_before; /* 0: all of it */
} stored_own;
uint64_t stored_own_elements(const stored_own *own);
uint64_t stored_own_bytes(const stored_own *own, didi_precision precision);
/* Floats become the output's dtype, or bf16 where that is packed, unless theirs is as narrow. */
didi_dtype stored_own_dtype(const stored_own *own, didi_precision precision);
const char *stored_own_suffix(const stored_own *own);

/* Adds to a manifest what readers of packed numbers need: the section `packing`, and `dense_bits`
 * with the widths of tensors kept whole, which is taken. Nothing where no number is packed. False
 * when out of memory. */
bool packing_add(didi_precision precision, json_t *dense_bits, json_t *manifest);

/* What a file says of names, in its __metadata__ (docs/format.md). */
typedef enum package_saying {
    PACKAGE_PREFIX_ADDED,   /* the task's names are the base's with this before */
    PACKAGE_PREFIX_DROPPED, /* or without it */
    PACKAGE_LACKS,          /* JSON array: the base's tensors that the task's model has not */
    PACKAGE_AS_BASE,        /* JSON array: those it has as the base has, whatever is shared */
    PACKAGE_OWN_SAME,       /* JSON object: own tensors that are not there, the one that each is */
    PACKAGE_SAYINGS
} package_saying;
const char *package_saying_key(package_saying what);

/* At most so many bytes for a character of a name, and for a number of a shape. */
enum { JSON_CHARACTER_BYTES = 6, PACKAGE_NUMBER_BYTES = 21 };

/* One file's tensors. */
typedef struct package_layout {
    safetensors_layout_entry *entries;
    uint64_t (*shapes)[2];
    char **names;
    size_t count, room;
    bool owns;      /* holds tensors of one task alone */
    bool picks;     /* or parts of format 5 */
    bool trellis;   /* or rows of format 6 */
    bool *gathered; /* of each entry: where it is small, all of which are one tensor, of format 6 */
    char *sayings[PACKAGE_SAYINGS];
    const char *metadata[2 + PACKAGE_SAYINGS][2];
} package_layout;

/* An empty layout with room for the parts of `tensors` tensors. Errors: DIDI_NO_MEMORY. The caller
 * clears it, also after a failure of package_layout_add. */
int package_layout_create(size_t tensors, package_layout *ret_layout, didi_error *error);
/* Adds what file `file` holds of a tensor, whose base stays in place while the layout lives.
 * Errors: DIDI_NO_MEMORY. */
int package_layout_add(package_layout *self, const stored_tensor *tensor, const stored_part *part,
                       size_t file, didi_precision precision, didi_error *error);
/* Adds a tensor that only this task has, or something that the file says (`text` is copied).
 * Errors: DIDI_NO_MEMORY. */
int package_layout_add_own(package_layout *self, const stored_own *own, didi_precision precision,
                           didi_error *error);
int package_layout_say(package_layout *self, package_saying what, const char *text,
                       didi_error *error);
/* The whole file, which lives as long as the layout. */
safetensors_contents package_layout_contents(package_layout *self, didi_precision precision);
void package_layout_clear(package_layout *self);
