/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a directory's files are its model. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>

enum { CHECKPOINT_FILE_NAME_BYTES = 256 };

typedef struct checkpoint_layout {
    char name[CHECKPOINT_FILE_NAME_BYTES]; /* the safetensors file, or the index of the shards */
    bool indexed;
} checkpoint_layout;

/* Finds model.safetensors, else model.safetensors.index.json, else the only
 * *.safetensors.index.json, else the only *.safetensors; adapters and packages of didid are no
 * models. Links count, whatever they lead to. Errors: DIDI_NOT_FOUND (nothing that could be a
 * model, or several files of any names), DIDI_FORMAT (two that could be it, by the word "model" in
 * their names or by a config.json beside them; shards without an index; files of other formats
 * alone, with what converts them), DIDI_IO; subject = `label`. */
int checkpoint_layout_find(int directory_fd, const char *label, checkpoint_layout *ret_layout,
                           didi_error *error);
