/* SPDX-License-Identifier: Apache-2.0 */
/* What one file of a package adds to a tensor: all of its factors and deltas, plain and packed; and
 * its manifest.json as it lies on disk. */
#pragma once

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/package/layout.h"
#include "src/package/packed.h"
#include "src/package/picks.h"

#include <jansson.h>
#include <stdint.h>

typedef struct package_file package_file;

/* Opens shared.safetensors, or with `task` experts/<task>.safetensors, of a package. The caller
 * frees *ret_file. Errors: DIDI_NOT_FOUND (a task's name that no file can have, no such file),
 * DIDI_FORMAT (also a format that this reader does not know, and own tensors that are said to be
 * another which is not there), DIDI_IO, DIDI_NO_MEMORY. */
int package_file_open(int package_fd, const char *task, package_file **ret_file, didi_error *error);

/* NULL is fine. */
void package_file_close(package_file *file);

/* For errors; its tensors; what it says of names, or NULL. They live as long as the file. */
const char *package_file_name(const package_file *file);
const safetensors_header *package_file_header(const package_file *file);
const char *package_file_says(const package_file *file, package_saying what);

/* A tensor that only the task has, by its name in the file: also one that the file says is the same
 * as another of them, which is given then. NULL: none. */
const safetensors_tensor *package_file_own(const package_file *file, const char *name);
/* Those that are said to be another: how many, the name of each, by name. */
size_t package_file_same_count(const package_file *file);
const char *package_file_same_at(const package_file *file, size_t index);

/* Bytes [first, first + count) of a tensor of the file. Errors: DIDI_IO, DIDI_CHANGED. */
int package_file_read_bytes(const package_file *file, const safetensors_tensor *from,
                            uint64_t first, void *buffer, uint64_t count, didi_error *error);

/* The sum of all tensors the file has for one tensor of the base. Owns its arrays; all zero when
 * the file has none. */
typedef struct addition {
    uint64_t rows, columns;
    uint64_t rank;       /* of the plain factors */
    float *left, *right; /* rows x rank (B), rank x columns (A); NULL without plain factors */
    float *delta;        /* rows x columns, or NULL */
    uint8_t *factor_bytes, *delta_bytes;
    packed factors, dense; /* views of the bytes; valid where these are not NULL */
    picks picks;           /* of an expert */
} addition;

/* Reads what the file has for the base's tensor `tensor`, rows x columns of at least 1 each, as it
 * is stored; plain numbers become float32. What is shared under masks is left out: by itself it
 * adds nothing. The caller clears *ret_addition. Errors: DIDI_MISMATCH (the shapes are not the
 * tensor's), DIDI_FORMAT, DIDI_IO, DIDI_NO_MEMORY. */
int package_file_read(const package_file *file, const char *tensor, uint64_t rows, uint64_t columns,
                      addition *ret_addition, didi_error *error);
/* The same of a shared file and an expert's, files[0] and files[1], with what the expert's mask is
 * over. Errors: the same; DIDI_FORMAT where that is missing. */
int package_files_read(const package_file *const files[2], const char *tensor, uint64_t rows,
                       uint64_t columns, addition ret_additions[2], didi_error *error);

/* What kind of things the file has for a tensor. */
typedef struct addition_form {
    uint64_t rank;    /* of all factors, plain and packed */
    bool delta;       /* a delta, plain or packed, or what an expert picks */
    bool packed;      /* one of these, or what is shared under masks, is packed, or has signs */
    didi_dtype dtype; /* of the plain ones; BOOL when there are none */
} addition_form;

/* As package_file_read, without the numbers: plain arrays are not read. */
int package_file_form(const package_file *file, const char *tensor, uint64_t rows, uint64_t columns,
                      addition_form *ret_form, didi_error *error);

/* True when the file has nothing for the tensor. */
bool addition_is_empty(const addition *self);

/* Adds rows first .. first + rows of the sum to out (rows x columns, contiguous). Errors:
 * DIDI_NO_MEMORY. */
int addition_apply(const addition *self, uint64_t first, uint64_t rows, float *out,
                   didi_error *error);

/* values -= elements [first, first + count) of the sum, row by row; no bit depends on how a matrix
 * is cut into pieces. Errors: DIDI_NO_MEMORY. */
int addition_subtract(const addition *self, uint64_t first, uint64_t count, float *values,
                      didi_error *error);

/* Decodes packed factors and appends them to the plain ones, so that later calls need not.
 * Errors: DIDI_NO_MEMORY. */
int addition_unpack(addition *self, didi_error *error);

/* Frees the arrays; an empty or cleared addition is fine. */
void addition_clear(addition *self);

/* Reads the manifest of a package, an object; the caller's to release. Errors: DIDI_NOT_FOUND,
 * DIDI_IO, DIDI_FORMAT (not a JSON object, or too long), DIDI_NO_MEMORY. */
int manifest_file_read(int package_fd, json_t **ret_manifest, didi_error *error);

/* The row of a list whose `key` says `value` (which may be NULL), or NULL. */
json_t *manifest_file_row(const json_t *rows, const char *key, const char *value);

/* The files listed of the base; NULL when they are not listed. */
const json_t *manifest_file_base(const json_t *manifest);
