/* SPDX-License-Identifier: Apache-2.0 */
/* A finished package that gets more tasks, or fewer: its shared part S and the experts it keeps
 * stay as they are, byte for byte. New experts approximate tau_t - S (docs/method.md, "Modular
 * expansion"), so a merge of the added tasks alone does most of the work. This module opens and
 * checks the package, reads S, takes over the files kept and says what their manifest says.
 *
 * Read-only after extension_open: every function may be called by several threads at once. A merge
 * of its own has none: NULL is fine everywhere, shares and keeps nothing, and agrees with all. */
#pragma once

#include "src/didi.h"
#include "src/layer/layer.h"
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

/* Prints lines that differ between any two extensions; for fingerprints. */
void extension_print(const extension *extension, FILE *out);

/* Compares names, shapes and kinds of the family's tensors with the package's and keeps each the
 * way the package does; what it left to the base is a task's own. Errors: DIDI_MISMATCH, the base
 * being another one. */
int extension_adopt(const extension *extension, const didi_merge_options *options, family *family,
                    didi_error *error);

/* The files taken over: shared.safetensors, then the experts kept. */
size_t extension_file_count(const extension *extension);
/* The first file of the new package that is not one of them: 1, else 0. */
size_t extension_first_file(const extension *extension);

/* SHA-256 of one against the manifest. Errors: DIDI_CHANGED, DIDI_IO, DIDI_CANCELLED. */
int extension_verify_file(const extension *extension, size_t index, int (*cancelled)(void *context),
                          void *context, didi_error *error);

/* Checks that the package was made from `file` of the base with this SHA-256. Errors:
 * DIDI_MISMATCH. */
int extension_verify_base(const extension *extension, const checkpoint *base, size_t file,
                          const char *sha256, didi_error *error);

/* S of a tensor, unpacked; empty for a tensor without one. The caller clears *ret_shared. Errors:
 * DIDI_MISMATCH, DIDI_FORMAT, DIDI_IO, DIDI_NO_MEMORY. */
int extension_shared(const extension *extension, const family_tensor *tensor, addition *ret_shared,
                     didi_error *error);

/* True when the package shares something of a tensor. */
bool extension_shares(const extension *extension, const family_tensor *tensor);

/* Puts the files taken over into a package under construction: hard links, or copies where links
 * cannot be. Errors: DIDI_CHANGED (one changed since extension_open), DIDI_IO, DIDI_DISK_FULL. */
int extension_link(const extension *extension, int package_fd, didi_error *error);

/* Parameters of the files taken over. */
uint64_t extension_parameters(const extension *extension);
/* Bytes of these files. */
uint64_t extension_bytes(const extension *extension);

/* ---- what the package's manifest says of the tasks kept, in their order; without an extension
 * (NULL) there are none. JSON is a new reference unless const. ---- */

size_t extension_kept_count(const extension *extension);
json_t *extension_kept_names(const extension *extension);
json_t *extension_kept_inputs(const extension *extension); /* {task: model} */
json_t *extension_kept_own(const extension *extension);    /* {task: what it has of its own} */
json_t *extension_kept_files(const extension *extension);  /* rows, that of the shared part first */

/* Of a list with an entry for each task of the package, those kept. */
json_t *extension_kept(const extension *extension, const json_t *list);

/* The row of a matrix in `ranks`, with such lists; or NULL. */
const json_t *extension_layer(const extension *extension, const char *tensor);

/* Fills error[t], absolute, and energy[t] of a matrix, and of all tensors kept whole. */
void extension_layer_errors(const extension *extension, const char *tensor, double *error,
                            double *energy);
void extension_dense_errors(const extension *extension, double *error, double *energy);

/* Widths of a tensor kept whole. True when they are of what is shared, and so are complete. */
bool extension_kept_widths(const extension *extension, const char *tensor, json_t **ret_widths);

/* Adds the section `similarity` of all tasks to a manifest whose other sections are there, and
 * `extends`; `names` begins with the tasks kept. `merged` is the section of the others, and is
 * taken. False when out of memory. */
bool extension_add_sections(const extension *extension, json_t *names, json_t *merged,
                            json_t *manifest);
