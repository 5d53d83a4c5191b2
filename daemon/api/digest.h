/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of published files, remembered while the file is the same. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>
#include <sys/stat.h>

enum { API_DIGEST_BYTES = 65, API_ETAG_BYTES = 80 };

typedef struct api_digests api_digests;

/* NULL when out of memory. */
api_digests *api_digests_create(void);
void api_digests_free(api_digests *self);

/* Hex SHA-256 of the open file whose status is `status`; reads the file the first time.
 * Thread-safe. Errors: DIDI_IO. */
int api_digests_of_file(api_digests *self, int fd, const struct stat *status,
                        char ret_hex[API_DIGEST_BYTES], didi_error *error);

/* A hex digest as strong ETag. */
void api_digest_etag(const char *hex, char ret_text[API_ETAG_BYTES]);
