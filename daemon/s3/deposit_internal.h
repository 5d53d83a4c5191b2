/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of records share. Internal to the room. */
#pragma once

#include "daemon/s3/deposit.h"

enum { DEPOSIT_MANIFEST_BYTES_MAX = 64 << 20 };
#define DEPOSIT_MANIFEST "manifest.json"

/* Where files are read from while they are digested, one after the other. */
typedef struct deposit_source {
    void *context;
    int (*open)(void *context, deposit_file *file, uint64_t *ret_bytes, didi_error *error);
    int (*read)(void *context, const deposit_file *file, char *buffer, size_t bytes, uint64_t at,
                didi_error *error);
} deposit_source;

/* Fills the files that a manifest lists, and itself as the last. Errors: DIDI_FORMAT. */
int deposit_list(deposit *self, const char *text, size_t bytes, didi_error *error);

/* Reads all files, compares them with what the manifest says, and writes s3.pieces. Errors:
 * DIDI_CHANGED (a file is not what the manifest says), DIDI_CANCELLED, those of the source and of
 * files. */
int deposit_digest(deposit *self, int job_fd, const deposit_source *source, const atomic_bool *end,
                   didi_error *error);

/* An object of the record, whose key comes to lie in `key`. Errors: DIDI_INVALID (it is too long).
 */
int deposit_object(const deposit *self, const deposit_way *way, const char *name,
                   char key[S3_KEY_BYTES], s3_object *ret_object, didi_error *error);

/* What S3 says of an object of the record. Errors: DIDI_CHANGED (it is gone), those of
 * deposit_object and s3_head. */
int deposit_head(const deposit *self, const deposit_way *way, const char *name, s3_facts *ret_facts,
                 didi_error *error);
int deposit_gone(const char *name, didi_error *error); /* DIDI_CHANGED */

/* Writes the record, whole or not at all. Errors: DIDI_NO_MEMORY, those of file_write_durable. */
int deposit_write(const deposit *self, int job_fd, didi_error *error);

uint64_t deposit_pieces_of(uint64_t bytes);

/* What s3.pieces says of a piece, in hex. Errors: DIDI_NOT_FOUND, DIDI_IO, DIDI_CHANGED. */
int deposit_piece_digest(int job_fd, const deposit_file *file, uint64_t piece, char ret_hex[65],
                         didi_error *error);
