/* SPDX-License-Identifier: Apache-2.0 */
/* A model at S3: the files below a prefix, or one file. */
#pragma once

#include "daemon/fetch/blob.h"
#include "daemon/s3/s3.h"

/* Opens the directory of a model, and makes those on its way; the caller closes. Errors: those of
 * file_open_directory. */
int bucket_open_place(int directory_fd, const char *name, int *ret_fd, didi_error *error);

/* Fetches what hub_wants of "s3://BUCKET/PREFIX" into a directory `id` beside the unfinished files,
 * from where an earlier attempt left off, and moves it to `name` in the fetch directory once all of
 * it is there. Each file is of the ETag that was listed, and of the digest that the server knows.
 * Errors: DIDI_NOT_FOUND (nothing there), DIDI_FORMAT (no safetensors file, another digest),
 * DIDI_CHANGED (replaced meanwhile), DIDI_CONFLICT (there is such a model), DIDI_DISK_FULL, those
 * of s3_read. */
int bucket_fetch(fetch_run *run, s3 *client, const char *name, const char *id, const char *url,
                 didi_error *error);
