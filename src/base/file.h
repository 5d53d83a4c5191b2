/* SPDX-License-Identifier: Apache-2.0 */
/* Durable file operations: whole reads and writes, publication by rename. */
#pragma once

#include "src/base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Closes a descriptor; a negative one is none. */
void file_close(int fd);

/* Reads exactly `count` bytes at `offset`. Errors: DIDI_IO; DIDI_CHANGED when the file ends before.
 */
int file_pread_all(int fd, void *buffer, size_t count, uint64_t offset, const char *subject,
                   didi_error *error);

/* fsync of a file or a directory, through the fault point. Errors: DIDI_IO, DIDI_DISK_FULL. */
int file_sync(int fd, const char *subject, didi_error *error);

/* renameat through the fault point; replaces an existing file. Errors: DIDI_IO, DIDI_NOT_FOUND,
 * DIDI_DISK_FULL. */
int file_rename(int from_fd, const char *from, int to_fd, const char *to, didi_error *error);

/* Opens the regular file `name` (plain: one component) of a directory for reading, O_CLOEXEC. Links
 * are followed only beneath the directory (openat2; not at all where the kernel lacks it). Caller
 * closes *ret_fd. Errors: DIDI_NOT_FOUND, DIDI_FORMAT (a link that leaves, not a regular file),
 * DIDI_IO. */
int file_open_beneath(int directory_fd, const char *name, const char *subject, int *ret_fd,
                      didi_error *error);

/* Directories, open, that links may lead below. */
typedef struct file_bounds {
    const int *fds;
    size_t count;
} file_bounds;

/* As file_open_beneath, but a link is also followed to a file below one of `bounds` (NULL: none),
 * wherever it passes on its way. Needs /proc where such a link is. Errors: also DIDI_NOT_FOUND (a
 * link to nothing), DIDI_FORMAT (a loop of links). */
int file_open_within(int directory_fd, const char *name, const file_bounds *bounds,
                     const char *subject, int *ret_fd, didi_error *error);

/* Writes exactly `count` bytes at `offset`. Errors: DIDI_IO, DIDI_DISK_FULL. */
int file_pwrite_all(int fd, const void *buffer, size_t count, uint64_t offset, const char *subject,
                    didi_error *error);

/* Reads a whole regular file of at most `bytes_max` bytes, appends a NUL; caller frees *ret_text.
 * Errors: DIDI_NOT_FOUND, DIDI_IO, DIDI_FORMAT (too long), DIDI_NO_MEMORY. */
int file_read_text(int directory_fd, const char *name, size_t bytes_max, char **ret_text,
                   size_t *ret_bytes, didi_error *error);

/* As file_read_text, of the open regular file `fd` (from its start, position untouched). */
int file_read_text_fd(int fd, const char *subject, size_t bytes_max, char **ret_text,
                      size_t *ret_bytes, didi_error *error);

/* Writes `bytes` bytes as `name` in `directory_fd` whole or not at all: temporary name, fsync,
 * rename, fsync of the directory. Replaces an existing file; mode 0640. A crash can leave the
 * temporary name,
 * ".tmp-" and 16 hex digits. When the last fsync alone fails, the new file is in place but the
 * error is given. Errors: DIDI_INVALID (`name` is not plain), DIDI_IO, DIDI_DISK_FULL. */
int file_write_durable(int directory_fd, const char *name, const void *data, size_t bytes,
                       didi_error *error);

/* mkdir (0750) if absent and open as O_DIRECTORY|O_CLOEXEC. Caller closes *ret_fd. A new
 * entry is durable after file_sync of the parent. Errors: DIDI_NOT_FOUND, DIDI_IO,
 * DIDI_DISK_FULL. */
int file_open_directory(int parent_fd, const char *name, int create, int *ret_fd,
                        didi_error *error);

/* Removes `name` under parent_fd with all it holds, never following links, depth at most 16. A
 * missing entry is success. `name` may have several components, none of them "." or "..". Errors:
 * DIDI_INVALID (name, depth), DIDI_IO. */
int file_remove_tree(int parent_fd, const char *name, didi_error *error);

/* Calls visit for every name in the directory but "." and "..", until it fails. Errors: DIDI_IO,
 * those of visit. */
int file_each_entry(int directory_fd,
                    int (*visit)(void *context, const char *name, didi_error *error), void *context,
                    didi_error *error);

/* Removes all that the directory holds, but not the directory. As file_remove_tree. */
int file_remove_contents(int directory_fd, didi_error *error);

/* Fetches SHA-256, and with it the other digests, for the life of the process; before threads
 * start. OpenSSL 3.0 crashes where an allocation fails in its first, lazy fetch. Errors:
 * DIDI_NO_MEMORY.
 */
int file_sha256_prepare(didi_error *error);

/* Lower-case hex SHA-256 of the file open at fd, from its start. Calls cancelled(context)
 * about every 16 MiB when not NULL; non-zero stops with DIDI_CANCELLED. *ret_bytes, which may be
 * NULL, gets the bytes hashed. Errors: DIDI_IO, DIDI_CANCELLED, DIDI_NO_MEMORY. */
int file_sha256(int fd, int (*cancelled)(void *context), void *context, char ret_hex[65],
                uint64_t *ret_bytes, const char *subject, didi_error *error);

/* Lower-case hex SHA-256 of the pieces that `next` gives until one has no bytes. Errors:
 * DIDI_NO_MEMORY, DIDI_INTERNAL, those of `next`. */
typedef int file_next_piece(void *context, const void **ret_bytes, size_t *ret_count,
                            didi_error *error);
int file_sha256_pieces(file_next_piece *next, void *context, char ret_hex[65], didi_error *error);

/* Lower-case hex SHA-256 of bytes. Errors: DIDI_INTERNAL. */
int file_sha256_bytes(const void *bytes, size_t count, char ret_hex[65], didi_error *error);

/* Lower-case hex of bytes, NUL-terminated: 2 count + 1 characters. */
void file_hex(const void *bytes, size_t count, char *ret_hex);

/* What RFC 9530 writes of a SHA-256 in hex: "sha-256=:<base64>:". */
enum { FILE_REPR_DIGEST_BYTES = 56 };
void file_repr_digest(const char hex[65], char ret_text[FILE_REPR_DIGEST_BYTES]);
