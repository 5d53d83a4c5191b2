/* SPDX-License-Identifier: Apache-2.0 */
/* Per-layer state in the work directory: small safetensors files that appear whole or not at all,
 * read back by mapping, so that a stage's results cost no memory of their own and survive a crash.
 */
#pragma once

#include "src/base/base.h"
#include "src/files/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct snapshot_entry {
    const char *name;
    didi_dtype dtype;
    uint64_t rows, columns;
    const void *data; /* rows x columns elements of dtype, packed */
} snapshot_entry;

/* Writes `count` arrays as the file `name` of directory work_fd, replacing an older one. With
 * `durable` the rename is followed by fsync of the directory (the file itself is always synced by
 * its writer). Errors: DIDI_IO, DIDI_DISK_FULL, DIDI_NO_MEMORY. */
int snapshot_save(int work_fd, const char *name, const snapshot_entry *entries, size_t count,
                  bool durable, didi_error *error);

/* The same, array by array and piece by piece: `entries` without data. Errors: DIDI_IO,
 * DIDI_DISK_FULL, DIDI_NO_MEMORY. */
typedef struct snapshot_writer snapshot_writer;
int snapshot_writer_create(int work_fd, const char *name, const snapshot_entry *entries,
                           size_t count, snapshot_writer **ret_writer, didi_error *error);
/* `count` bytes of `array` from byte `first` on. */
int snapshot_writer_put(snapshot_writer *self, const char *array, uint64_t first, const void *bytes,
                        uint64_t count, didi_error *error);
/* Makes the snapshot appear; every byte must have been put. Frees the writer whatever happens. */
int snapshot_writer_close(snapshot_writer *self, bool durable, didi_error *error);
/* NULL is fine. */
void snapshot_writer_abort(snapshot_writer *self);

typedef struct snapshot snapshot;

/* Maps a state file. Errors: DIDI_NOT_FOUND, DIDI_FORMAT, DIDI_IO, DIDI_NO_MEMORY. */
int snapshot_open(int work_fd, const char *name, snapshot **ret_snapshot, didi_error *error);
/* Releases the pages read so far; arrays that were found stay readable. */
void snapshot_forget(const snapshot *state);
void snapshot_close(snapshot *state);

/* The array `name`, which must have this dtype; *ret_rows (may be NULL) gets its rows and its
 * columns must equal `columns`. NULL data is never returned for an array that has elements. Lives
 * as long as the state. Errors: DIDI_FORMAT. */
int snapshot_find(const snapshot *state, const char *name, didi_dtype dtype, uint64_t columns,
                  uint64_t *ret_rows, const void **ret_data, didi_error *error);
