/* SPDX-License-Identifier: Apache-2.0 */
/* Models that clients upload, file by file, and that appear whole by one rename. Partial files lie
 * in `.uploads/ID` of the upload directory: NAME.part while bytes come, NAME once all are there and
 * the digest is right. The rows are in the store.
 *
 * A thread removes what expired, every ten seconds while uploads are open.
 *
 * All functions are thread-safe, block, and refuse with DIDI_INVALID (subject "upload_dir") where
 * the settings allow no uploads. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/models/models.h"
#include "daemon/store/store.h"
#include "daemon/uploads/content_range.h"
#include "proto/proto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct uploads uploads;

/* Opens the directory, finishes or undoes what an earlier process left at a commit, removes what
 * expired. Keeps the pointers; they must outlive it. Errors: DIDI_NOT_FOUND, DIDI_IO,
 * DIDI_DISK_FULL (the directory), DIDI_NO_MEMORY, those of the store. */
int uploads_open(const config *settings, registry *models, store *records, uploads **ret_uploads,
                 didi_error *error);
/* Ends checks of digests that are under way (DIDI_CANCELLED; such a file can be taken up again).
 * Any thread. */
void uploads_stop(uploads *self);
void uploads_close(uploads *self);

/* Errors: DIDI_CONFLICT (there is such a model; an upload of this name: subject = its id; a limit:
 * subject = the setting). `client` is who pays for it, "" for nobody in particular. */
int uploads_create(uploads *self, const upload_request *request, const char *client,
                   char ret_id[ID_BYTES], didi_error *error);

/* How far a file is: bytes that are on disk for good, and whether it is whole and checked. One that
 * is whole and not checked, since a process died, lacks its last byte. */
typedef struct upload_reached {
    uint64_t bytes;
    bool complete;
} upload_reached;
int uploads_reached(const uploads *self, const char *id, const upload_file *file,
                    upload_reached *ret_reached, didi_error *error);

/* Makes the model appear. One that was committed already is no error. Errors: DIDI_NOT_FOUND,
 * DIDI_CONFLICT (a file is missing or being written; there is such a model), DIDI_FORMAT (it is no
 * model: subject = the file), DIDI_IO, DIDI_DISK_FULL. */
int uploads_commit(uploads *self, const char *id, didi_error *error);

/* Removes an upload that is not committed. Errors: DIDI_NOT_FOUND, DIDI_CONFLICT, DIDI_IO. */
int uploads_remove(uploads *self, const char *id, didi_error *error);

/* Removes what nobody touched for upload_keep_hours; done by a thread too. */
int uploads_expire(uploads *self, didi_error *error);

/* Removes a model that was uploaded or fetched. Errors: DIDI_NOT_FOUND, DIDI_CONFLICT (an
 * unfinished job names it: subject = the job; it came otherwise), DIDI_IO. */
int uploads_remove_model(uploads *self, const char *name, didi_error *error);

/* ---- writer.c: a request that brings a part of a file ---- */

typedef struct upload_writer upload_writer;

/* `range` NULL: the whole file, from its start. Errors: DIDI_NOT_FOUND, DIDI_CONFLICT (committed;
 * the file is whole or being written; the part does not begin where the file ends), DIDI_INVALID
 * (subject "Content-Range"), DIDI_DISK_FULL (disk_free_min counts), DIDI_IO. */
int upload_writer_open(uploads *self, const char *id, const char *name, const content_range *range,
                       upload_writer **ret_writer, didi_error *error);

/* Bytes that are still to come. */
uint64_t upload_writer_room(const upload_writer *writer);

/* True when finishing takes more than a moment: a large file is whole, and its digest is to be
 * checked. Does not block. */
bool upload_writer_lasts(const upload_writer *writer);

int upload_writer_write(upload_writer *writer, const void *bytes, size_t count, didi_error *error);

/* All of the part is there: on disk for good when this returns 0; where the file is whole, its
 * digest was right. Errors: DIDI_INVALID (fewer bytes than announced), DIDI_FORMAT (the digest
 * differs: the file begins anew), DIDI_CANCELLED (uploads_stop), DIDI_IO, DIDI_DISK_FULL. */
int upload_writer_finish(upload_writer *writer, upload_reached *ret_reached, didi_error *error);
void upload_writer_close(upload_writer *writer);
