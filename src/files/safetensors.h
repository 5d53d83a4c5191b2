/* SPDX-License-Identifier: Apache-2.0 */
/* The safetensors container: reading headers of untrusted files, writing files.
 * Format and checks: the reference reader's, in its order, plus duplicate keys refused. */
#pragma once

#include "src/base/base.h"
#include "src/files/dtype.h"

#include <stddef.h>
#include <stdint.h>

enum {
    SAFETENSORS_HEADER_BYTES_MAX = 100000000, /* decimal, as in the reference */
    SAFETENSORS_TENSORS_MAX = 1000000,
    SAFETENSORS_NAME_BYTES_MAX = 4096,
    SAFETENSORS_DIMENSIONS_MAX = 32,
    SAFETENSORS_METADATA_PAIRS_MAX = 65536,
};

typedef struct safetensors_tensor {
    const char *name; /* owned by the header */
    didi_dtype dtype;
    size_t dimensions;     /* 0 for a scalar */
    const uint64_t *shape; /* owned by the header */
    uint64_t elements;     /* product of shape, 1 for a scalar */
    uint64_t offset;       /* of the first byte, from the start of the file */
    uint64_t bytes;
} safetensors_tensor;

typedef struct safetensors_header safetensors_header;

/* Parses the `json_bytes` of header text of a file of `file_bytes` bytes (8 + json_bytes <=
 * file_bytes is checked here). Pure: touches no file, so fuzzers call it. `path` is used in errors
 * only. On success the caller owns *ret_header and frees it with safetensors_header_free.
 * Errors: DIDI_FORMAT (subject = path, or path and tensor), DIDI_NO_MEMORY. */
int safetensors_header_parse(const char *json, uint64_t json_bytes, uint64_t file_bytes,
                             const char *path, safetensors_header **ret_header, didi_error *error);

/* Reads and parses the header of the open regular file `fd` (pread, position untouched).
 * Errors: as above, and DIDI_IO. */
int safetensors_header_read(int fd, const char *path, safetensors_header **ret_header,
                            didi_error *error);

/* Frees a header; NULL is fine. */
void safetensors_header_free(safetensors_header *header);

/* Number of tensors. */
size_t safetensors_header_count(const safetensors_header *header);

/* The index-th tensor, index < count, in ascending file offset; ties (one of them has no
 * elements) by end, then by name. */
const safetensors_tensor *safetensors_header_at(const safetensors_header *header, size_t index);

/* The tensor called `name`, or NULL. O(log count). */
const safetensors_tensor *safetensors_header_find(const safetensors_header *header,
                                                  const char *name);

/* What __metadata__ has under `key`, or NULL. Lives as long as the header. O(log pairs). */
const char *safetensors_header_metadata(const safetensors_header *header, const char *key);

/* ---- writing ---- */

typedef struct safetensors_writer safetensors_writer;

/* A tensor to be written: name, dtype, shape (copied). */
typedef struct safetensors_layout_entry {
    const char *name;
    didi_dtype dtype;
    size_t dimensions;
    const uint64_t *shape;
} safetensors_layout_entry;

/* All of a file: its tensors, and pairs of key and value for __metadata__ (may be none). */
typedef struct safetensors_contents {
    const safetensors_layout_entry *entries;
    size_t count;
    const char *const (*metadata)[2];
    size_t metadata_count;
    const bool *gathered; /* of each entry, or NULL: whether it is a part of: */
    const char *gathered_name;
} safetensors_contents;

/* Creates the file `name` in directory `directory_fd` (O_CREAT|O_EXCL|O_CLOEXEC, 0640), lays out
 * the tensors in the reference order (dtype descending, then name), writes the header padded with
 * spaces to a multiple of 8 and reserves the final length on disk. What is gathered, U8 and 1 byte
 * to 2^20 - 1, comes last, as one tensor (gathered.h), and is put by its name. The contents are
 * copied; `directory_fd` (not AT_FDCWD) is duplicated. On failure no file is left. Errors: DIDI_IO,
 * DIDI_DISK_FULL, DIDI_CONFLICT (file exists), DIDI_INVALID (a name that repeats or that the reader
 * would refuse, header or size over the limit), DIDI_NO_MEMORY.
 */
int safetensors_writer_create(int directory_fd, const char *name,
                              const safetensors_contents *contents, safetensors_writer **ret_writer,
                              didi_error *error);

/* Bytes the whole file will have for this layout, without creating anything. */
int safetensors_layout_bytes(const safetensors_contents *contents, uint64_t *ret_bytes,
                             didi_error *error);

/* What such a file begins with, before its data: length, JSON, padding. The caller frees. */
int safetensors_layout_text(const safetensors_contents *contents, char **ret_text,
                            size_t *ret_text_bytes, uint64_t *ret_file_bytes, didi_error *error);

/* Writes `count` elements, converted from float32 to the tensor's dtype, at element `first` of
 * tensor `name`. Thread-safe for disjoint ranges (pwrite). Errors: DIDI_INVALID (no such tensor,
 * range), DIDI_NUMERIC (a value is not finite after conversion), DIDI_IO, DIDI_DISK_FULL. */
int safetensors_writer_put_f32(safetensors_writer *writer, const char *name, uint64_t first,
                               const float *values, uint64_t count, didi_error *error);

/* Writes raw bytes at byte `first` of tensor `name`. As above. */
int safetensors_writer_put_bytes(safetensors_writer *writer, const char *name, uint64_t first,
                                 const void *bytes, uint64_t count, didi_error *error);

/* Closes, after an fsync with `durable` (scratch files need not outlive a power loss); the file is
 * removed when that fails. The writer is freed whatever the outcome. The caller must have put every
 * byte. Errors: DIDI_IO, DIDI_DISK_FULL. */
int safetensors_writer_close(safetensors_writer *writer, bool durable, didi_error *error);

/* Closes without fsync and removes the file; NULL is fine. */
void safetensors_writer_abort(safetensors_writer *writer);
