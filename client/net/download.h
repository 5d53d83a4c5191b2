/* SPDX-License-Identifier: Apache-2.0 */
/* One artifact from the server into a directory: resumed when cut, checked against its SHA-256,
 * and given its name only then. */
#pragma once

#include "client/net/service.h"
#include "src/base/base.h"

#include <stdint.h>

enum { DOWNLOAD_NAME_BYTES_MAX = 512, DOWNLOAD_NAME_DEPTH_MAX = 4, DOWNLOAD_SHA256_HEX = 64 };

typedef struct download_file {
    const char *name;   /* relative path; must have passed download_name_check */
    const char *target; /* what to GET */
    const char *etag;   /* strong, or "" */
    const char *sha256; /* must be DOWNLOAD_SHA256_HEX characters of lower-case hex */
    int64_t bytes;      /* must not be negative */
} download_file;

typedef enum download_outcome {
    DOWNLOAD_FETCHED,
    DOWNLOAD_RESUMED, /* a part was there from an earlier time */
    DOWNLOAD_KEPT,    /* the whole file was there */
} download_outcome;

/* Told of bytes written (or found) so far for the file in hand. Returns a client_exit; other than
 * CLIENT_OK ends the download. */
typedef struct download_observer {
    void *context;
    int (*observe)(void *context, int64_t bytes, didi_error *error);
} download_observer;

/* Refuses names that could leave the directory: absolute, with "..", empty or hidden components,
 * other characters than A-Z a-z 0-9 . _ -, too long or too deep. Errors: CLIENT_FAILURE. */
int download_name_check(const char *name, didi_error *error);

/* Brings the file below directory_fd, making its subdirectories; links inside are never followed.
 * What has come stays as a hidden part beside it when this fails, and serves the next call.
 * Errors: CLIENT_FAILURE (file system, wrong digest or size), those of service_fetch. */
int download_run(client_service *service, int directory_fd, const download_file *file,
                 const download_observer *observer, download_outcome *ret_outcome,
                 didi_error *error);
