/* SPDX-License-Identifier: Apache-2.0 */
/* The cache that clients of a model hub keep: models--ORG--NAME with blobs/, snapshots/COMMIT/ of
 * links to them, and refs/ with the commit of each branch. */
#pragma once

#include "proto/proto.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    HUB_REVISION_BYTES = LIMIT_MODEL_NAME_BYTES + 1,
    HUB_DIRECTORY_BYTES = LIMIT_MODEL_NAME_BYTES + sizeof "models----",
};

/* Takes "ORG/NAME" or "NAME" out of a directory's name; false: it is none of a cache. */
bool hub_cache_name(const char *directory, char *ret_name, size_t bytes);

/* The directory's name for the first `length` bytes of a name of one or two components; false: none
 * can have it. */
bool hub_cache_directory(const char *name, size_t length, char *ret_directory, size_t bytes);

/* Finds the commit of `revision` (a commit or a ref), or, where it is NULL, the newest: that of
 * refs/main, else the only one. Errors: DIDI_NOT_FOUND (a revision that is not there; nothing is
 * there), DIDI_INVALID (several commits and no refs/main), DIDI_FORMAT (a ref that names no
 * commit). */
int hub_cache_find(int repository_fd, const char *revision, char ret_commit[HUB_REVISION_BYTES],
                   didi_error *error);
