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
    addition_file *shared;
    size_t task_count; /* of the package */
    bool *removed;     /* of each of them */
    didi_weighting weighting;
    extension_file *files;
    size_t file_count;
};

/* ranks.tasks of a manifest: names in order. */
const json_t *extension_tasks(const json_t *manifest);

/* extension_frontier.c: the `frontier` of a manifest of the added tasks becomes that of the whole
 * package, the tasks kept staying as they are; `ranks` are the whole package's already, and so is
 * the budget in the manifest. Errors: DIDI_NO_MEMORY. */
int extension_join_frontier(const extension *self, json_t *manifest, const json_t *ranks,
                            didi_error *error);

/* extension_similarity.c: its `similarity` likewise. Tasks kept and tasks added were never read
 * together: their cosines are those of the comparison, when that is `comparable`, else null.
 * Errors: DIDI_NO_MEMORY. */
int extension_join_similarity(const extension *self, json_t *manifest, const json_t *ranks,
                              bool comparable, didi_error *error);
