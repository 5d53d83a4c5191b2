/* SPDX-License-Identifier: Apache-2.0 */
/* The directories below which models lie, and opening a model by its relative name and no other
 * way. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

enum { MODEL_ROOTS_MODELS_MAX = 100000 };

typedef struct model_roots model_roots;

/* Opens `count` directories. Errors: DIDI_NOT_FOUND, DIDI_IO, DIDI_NO_MEMORY, subject = the path.
 */
int model_roots_open(const char *const *paths, size_t count, model_roots **ret_roots,
                     didi_error *error);
void model_roots_close(model_roots *roots);

/* The path of a root, as given. */
const char *model_roots_path(const model_roots *roots, size_t index);

/* Opens the directory of the model `name` beneath the first root that has it (openat2
 * RESOLVE_BENEATH; without it, component by component following no link). *ret_fd is O_CLOEXEC and
 * the caller's. Thread-safe. Errors: DIDI_INVALID (name), DIDI_NOT_FOUND, DIDI_IO; subject = the
 * name. */
int model_roots_open_model(const model_roots *roots, const char *name, int *ret_fd,
                           didi_error *error);

/* Calls `visit` with the name of every directory that holds model.safetensors or
 * model.safetensors.index.json, to LIMIT_MODEL_NAME_COMPONENTS levels, links not followed; the
 * first root wins for a name. A non-zero return of visit stops and is returned. Unreadable
 * directories are skipped. Thread-safe. Errors: DIDI_NO_MEMORY, DIDI_INVALID (more than
 * MODEL_ROOTS_MODELS_MAX). */
int model_roots_walk(const model_roots *roots,
                     int (*visit)(void *context, size_t root, const char *name, didi_error *error),
                     void *context, didi_error *error);
