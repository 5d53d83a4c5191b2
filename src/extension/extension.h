/* SPDX-License-Identifier: Apache-2.0 */
/* A finished package that gets more tasks, or fewer: its shared part S and the experts it keeps
 * stay as they are, byte for byte. New experts approximate tau_t - S (docs/method.md, "Modular
 * expansion"), so a merge of the added tasks alone does all the work; what is here opens and checks
 * the package, takes S away from task vectors, and puts the whole package together.
 *
 * Read-only after extension_open: every function may be called by several threads at once. */
#pragma once

#include "src/didi.h"
#include "src/layer/family.h"
#include "src/package/package.h"

#include <jansson.h>

typedef struct extension extension;

enum { SIMILARITY_LAYER_TASKS = 64 }; /* more tasks than this: no cosines of single layers */

/* Opens options->extend.package_fd and checks options->tasks (those added) and the names to be
 * removed against its manifest; sizes of the files kept are checked, not their digests. Errors:
 * DIDI_NOT_FOUND (no manifest, a file is missing), DIDI_FORMAT, DIDI_CHANGED (a file has another
 * size), DIDI_INVALID (subject: the field), DIDI_IO, DIDI_NO_MEMORY. Closed by extension_close
 * (NULL is fine). */
int extension_open(const didi_merge_options *options, extension **ret_extension, didi_error *error);
void extension_close(extension *extension);

/* Lines that tell two extensions of packages apart; for fingerprints. */
void extension_print(const extension *extension, FILE *out);

/* Compares names, shapes and kinds of the family's tensors with the package's and keeps each the
 * way the package does. Errors: DIDI_MISMATCH, the base being another one. */
int extension_adopt(const extension *extension, family *family, didi_error *error);

/* The files taken over: shared.safetensors, then the experts kept. */
size_t extension_file_count(const extension *extension);

/* SHA-256 of one against the manifest. Errors: DIDI_CHANGED, DIDI_IO, DIDI_CANCELLED. */
int extension_verify_file(const extension *extension, size_t index, int (*cancelled)(void *context),
                          void *context, didi_error *error);

/* Whether `file` of the base with this SHA-256 is what the package was made from. Errors:
 * DIDI_MISMATCH. */
int extension_verify_base(const extension *extension, const checkpoint *base, size_t file,
                          const char *sha256, didi_error *error);

/* S of a tensor (empty where there is none), unpacked. The caller clears *ret_shared. Errors:
 * DIDI_MISMATCH, DIDI_FORMAT, DIDI_IO, DIDI_NO_MEMORY. */
int extension_shared(const extension *extension, const family_tensor *tensor, addition *ret_shared,
                     didi_error *error);

/* True when the package shares something of a tensor that is kept whole. */
bool extension_shares(const extension *extension, const family_tensor *tensor);

/* Puts the files taken over into a package under construction: hard links, or copies where links
 * cannot be. Errors: DIDI_CHANGED (one changed since extension_open), DIDI_IO, DIDI_DISK_FULL. */
int extension_link(const extension *extension, int package_fd, didi_error *error);

/* Parameters of the files taken over. */
uint64_t extension_parameters(const extension *extension);
/* Bytes of these files. */
uint64_t extension_bytes(const extension *extension);

/* From the manifest of the added tasks alone (`manifest`, changed in place) to the whole package's:
 * inputs, budget, errors, ranks and files of all tasks, and the section `extends`. Errors:
 * DIDI_NO_MEMORY. */
int extension_complete(const extension *extension, json_t *manifest, didi_error *error);
