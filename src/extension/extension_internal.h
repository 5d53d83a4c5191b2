/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the extension share; nobody else includes it. */
#pragma once

#include "src/extension/extension.h"

#include <sys/stat.h>

/* A file taken over. Strings belong to the manifest. */
typedef struct extension_file {
    const char *name, *sha256;
    json_t *row;       /* of the manifest's `files` */
    struct stat found; /* when it was opened */
} extension_file;

struct extension {
    int package_fd;
    json_t *manifest;   /* the package's */
    json_t *comparison; /* of a full merge, or NULL */
    char *job, *reason; /* either may be NULL */
    package_file *shared;
    const char **tasks; /* of the package; strings belong to the manifest */
    size_t task_count;
    size_t *kept; /* places of those kept, rising */
    size_t kept_count;
    extension_file *files;
    size_t file_count;
};

/* ranks.tasks of a manifest: names in order. */
const json_t *extension_tasks(const json_t *manifest);
/* Of the k-th task kept. */
const char *extension_kept_name(const extension *self, size_t k);
