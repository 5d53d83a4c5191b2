/* SPDX-License-Identifier: Apache-2.0 */
/* Durable file operations: whole reads and writes, publication by rename. */
#pragma once

#include "src/base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Reads exactly `count` bytes at `offset`. Errors: DIDI_IO; DIDI_CHANGED when the file ends before. */
int file_pread_all(int fd, void *buffer, size_t count, uint64_t offset, const char *subject,
                   didi_error *error);

/* Writes exactly `count` bytes at `offset`. Errors: DIDI_IO, DIDI_DISK_FULL. */
int file_pwrite_all(int fd, const void *buffer, size_t count, uint64_t offset, const char *subject,
                    didi_error *error);

/* Reads a whole regular file of at most `bytes_max` bytes, appends a NUL; caller frees *ret_text.
 * Errors: DIDI_NOT_FOUND, DIDI_IO, DIDI_FORMAT (too long), DIDI_NO_MEMORY. */
int file_read_text(int directory_fd, const char *name, size_t bytes_max, char **ret_text,
                   size_t *ret_bytes, didi_error *error);

/* Writes `bytes` bytes as `name` in `directory_fd` whole or not at all: temporary name, fsync, rename,
 * fsync of the directory. Replaces an existing file. Errors: DIDI_IO, DIDI_DISK_FULL. */
int file_write_durable(int directory_fd, const char *name, const void *data, size_t bytes,
                       didi_error *error);

/* fsync of a directory given by fd. */
int file_sync_directory(int directory_fd, const char *subject, didi_error *error);

/* mkdir (0750) if absent and open as O_DIRECTORY|O_CLOEXEC. Caller closes *ret_fd. */
int file_open_directory(int parent_fd, const char *name, int create, int *ret_fd, didi_error *error);

/* Removes `name` under parent_fd with all it holds, never following links, depth at most 16. A missing
 * entry is success. */
int file_remove_tree(int parent_fd, const char *name, didi_error *error);

/* Lower-case hex SHA-256 of the file open at fd, from its start. As checkpoint_digest. */
int file_sha256(int fd, int (*cancelled)(void *context), void *context, char ret_hex[65],
                uint64_t *ret_bytes, const char *subject, didi_error *error);
