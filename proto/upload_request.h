/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request to upload a model: its name, and the files that it will have. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct upload_file {
    const char *name; /* of the document */
    uint64_t bytes;
    const char *sha256; /* 64 lower-case hex digits */
} upload_file;

typedef struct upload_request {
    json_t *document; /* owns all texts */
    const char *name; /* what the model will be called; no revision */
    upload_file *files;
    size_t count;
    uint64_t bytes; /* of all together */
} upload_request;

/* A file that a model has: weights (.safetensors) or what lies beside them (.json, .txt, .model,
 * .jinja, .tiktoken, tokenizer*, README.md); letters, digits and "._-", no dot at the start. */
bool upload_name_is_file(const char *name);

/* Reads {"name", "files": [{"name", "bytes", "sha256"}, ...]}. Errors as specification_parse; a
 * name given twice is DIDI_INVALID. Clear *ret_request with upload_request_clear. */
int upload_request_parse(const char *text, size_t bytes, size_t bytes_max,
                         upload_request *ret_request, didi_error *error);
void upload_request_clear(upload_request *request);

/* Reads the array of files alone. `files` is borrowed. */
int upload_files_read(json_t *files, upload_request *request, didi_error *error);

/* The file of this name, or NULL. */
const upload_file *upload_request_find(const upload_request *request, const char *name);
