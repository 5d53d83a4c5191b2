/* SPDX-License-Identifier: Apache-2.0 */
/* What lies beside a model's weights so that libraries open it: configuration, tokenizer,
 * processor. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

enum { SIDE_FILE_BYTES_MAX = 64 << 20, SIDE_FILES_MAX = 64, SIDE_FILE_NAME_BYTES_MAX = 128 };

typedef struct side_file {
    char *name;
    bool of_task; /* else of the base */
} side_file;

typedef struct side_files {
    side_file files[SIDE_FILES_MAX];
    size_t count;
} side_files;

/* Copies what there is into the directory output_fd, durably, each kind from the task's model where
 * that has a file of it, else from the base's, and lists it by kind and name. task_fd may be -1;
 * `links`: where links may lead.
 * The caller clears *ret_files, also after a failure. Errors: DIDI_FORMAT (a file that is too long,
 * not regular, or a link that is not followed), DIDI_INVALID (too many), DIDI_IO, DIDI_DISK_FULL,
 * DIDI_NO_MEMORY. */
int side_files_copy(int task_fd, int base_fd, const file_bounds *links, int output_fd,
                    side_files *ret_files, didi_error *error);
void side_files_clear(side_files *self);
