/* SPDX-License-Identifier: Apache-2.0 */
/* The record of what a job stored: s3.json in the job's directory, with what is known of each
 * object, and s3.pieces, the SHA-256 of each piece of each file, by which what comes back is judged
 * before anybody gets it. It is written before the first byte goes out, and after each part. */
#pragma once

#include "daemon/s3/client.h"

enum {
    DEPOSIT_PIECE_BYTES = 2 << 20,
    DEPOSIT_FILES_MAX = 100000,
    DEPOSIT_TRIES_MAX = 4, /* reads of a piece whose bytes are wrong */
};

#define DEPOSIT_RECORD "s3.json"
#define DEPOSIT_PIECES "s3.pieces"

typedef struct deposit_file {
    char *name; /* below artifacts/ */
    uint64_t bytes, first_piece;
    char sha256[65];
    char etag[S3_ETAG_BYTES]; /* "" until it is deposit */
    char *upload;             /* in parts, that is under way; NULL for none */
    uint64_t part_bytes;
    s3_part *parts; /* that are deposit */
    size_t part_count;
} deposit_file;

typedef struct deposit {
    char bucket[S3_BUCKET_BYTES], prefix[S3_KEY_BYTES]; /* a key is PREFIX/NAME */
    bool complete;                                      /* all of it is there */
    deposit_file *files;                                /* the manifest last */
    size_t count;
} deposit;

void deposit_free(deposit *self);

/* Reads a record. Errors: DIDI_NOT_FOUND (there is none), DIDI_FORMAT, DIDI_IO, DIDI_NO_MEMORY. */
int deposit_read(int job_fd, deposit **ret_deposit, didi_error *error);

/* The record of the files that artifacts/manifest.json lists, to be stored below
 * s3://BUCKET/PREFIX: that of before where it is of the same files and place; else a new one,
 * written, for which all files are read and compared with the manifest. `end` as in s3_object.
 * Errors: DIDI_FORMAT, DIDI_CHANGED (a file is not what the manifest says), DIDI_CANCELLED, those
 * of files. */
int deposit_begin(int job_fd, const char *bucket, const char *prefix, const atomic_bool *end,
                  deposit **ret_deposit, didi_error *error);

/* A file of the record by name, or NULL. */
const deposit_file *deposit_find(const deposit *self, const char *name);

/* What a call goes through. */
typedef struct deposit_way {
    s3 *client;
    int job_fd;
    const atomic_bool *end; /* as in s3_object; may be NULL */
    bool quick;
} deposit_way;

/* Stores what is not there yet, the manifest last, and then marks the record complete. Files above
 * `part_bytes` go in parts. What an interrupted call left is gone on from. Errors: those of s3_put,
 * of files. */
int deposit_send(deposit *self, const deposit_way *way, uint64_t part_bytes, didi_error *error);

/* Compares size, ETag and digest of the object with the record. Errors: DIDI_CHANGED (it is another
 * one, or gone), those of s3_head. */
int deposit_check(const deposit *self, const deposit_way *way, const deposit_file *file,
                  didi_error *error);

/* Reads piece number `piece` of a file into a buffer of DEPOSIT_PIECE_BYTES, compared with its
 * digest. Errors: DIDI_CHANGED (replaced, gone, or other bytes each time), those of s3_read. */
int deposit_piece(const deposit *self, const deposit_way *way, const deposit_file *file,
                  uint64_t piece, char *buffer, size_t *ret_bytes, didi_error *error);

/* Brings the files that are not in artifacts/ back to it, each whole or not at all. Errors:
 * those of deposit_piece, of files. */
int deposit_restore(const deposit *self, const deposit_way *way, didi_error *error);

/* Makes the record and artifacts/manifest.json of a job anew, from what lies below
 * s3://BUCKET/PREFIX: every byte of it is read and compared with the manifest, which is written
 * last, with the time at which it was stored. Errors: DIDI_NOT_FOUND (no manifest is there),
 * DIDI_FORMAT (it is none), DIDI_CHANGED (an object is not what it says, or gone), those of s3_read
 * and of files. */
int deposit_rebuild(const char *bucket, const char *prefix, const deposit_way *way,
                    didi_error *error);

/* Removes the files but the manifest from artifacts/: they are stored. */
void deposit_trim(const deposit *self, int job_fd);

/* Deletes the objects, the manifest first, and ends uploads under way. Errors: those of s3_delete.
 */
int deposit_delete(const deposit *self, const deposit_way *way, didi_error *error);
