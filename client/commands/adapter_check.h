/* SPDX-License-Identifier: Apache-2.0 */
/* Adapters on disk, held to the rules by which programs load them, without those programs. */
#pragma once

#include "client/base/base.h"
#include "src/base/base.h"

typedef enum adapter_loader {
    LOADER_PEFT,
    LOADER_VLLM,
    LOADER_SGLANG,
    LOADER_COUNT, /* no such word */
} adapter_loader;

adapter_loader adapter_loader_find(const char *word);

/* Checks the adapter in the directory `name` below directory_fd: its configuration, the names,
 * shapes and dtypes of its tensors, and that all modules of export.json are there; no numbers are
 * read. *ret_note, which the caller frees, tells what to know for loading it. Errors:
 * CLIENT_FAILURE, with what the loader would refuse. */
int adapter_check(int directory_fd, const char *name, adapter_loader loader, char **ret_note,
                  didi_error *error);
