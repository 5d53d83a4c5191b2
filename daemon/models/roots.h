/* SPDX-License-Identifier: Apache-2.0 */
/* The directories below which models lie, and opening a model by its relative name and no other
 * way. */
#pragma once

#include "proto/proto.h"
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

/* All roots: links in a model lead below one of them. Lives as long as they do. */
file_bounds model_roots_bounds(const model_roots *roots);

enum { MODEL_PLACE_BYTES = 1024 };

typedef struct model_place {
    size_t root;
    char path[MODEL_PLACE_BYTES];              /* of its directory, from the root */
    char revision[LIMIT_MODEL_NAME_BYTES + 1]; /* the commit, in a hub's cache; else "" */
} model_place;

/* Finds a model: the directory of its name, or the repository of its name in a hub's cache
 * (models--ORG--NAME is ORG/NAME, ORG/NAME@REVISION one of its revisions; hub_cache.h), or a
 * directory in one of them. The first root that has it wins; a directory without a model is found
 * where there is nothing better. Thread-safe. Errors: DIDI_INVALID (no name of a model; two models
 * of one root have it; several revisions), DIDI_NOT_FOUND (also for a revision), DIDI_FORMAT,
 * DIDI_IO; subject = the name. */
int model_roots_find(const model_roots *roots, const char *name, model_place *ret_place,
                     didi_error *error);

/* The name that the walk has for what `name` finds: without its revision where that is the newest,
 * else with the commit. Errors: those of model_roots_find. */
int model_roots_list_name(const model_roots *roots, const char *name,
                          char ret_name[MODEL_PLACE_BYTES], didi_error *error);

/* Opens the directory of the model `name` beneath its root (openat2 RESOLVE_BENEATH; without it,
 * component by component following no link). *ret_fd is O_CLOEXEC and the caller's. Thread-safe.
 * Errors: those of model_roots_find, DIDI_IO. */
int model_roots_open_model(const model_roots *roots, const char *name, int *ret_fd,
                           didi_error *error);

/* Calls `visit` with the name of everything that is a model or, broken, should be one
 * (checkpoint_layout_find), to LIMIT_MODEL_NAME_COMPONENTS levels, links to directories not
 * followed, each name once. A non-zero return of visit stops and is returned. Unreadable
 * directories are skipped. Thread-safe. Errors: DIDI_NO_MEMORY, DIDI_INVALID (more than
 * MODEL_ROOTS_MODELS_MAX). */
int model_roots_walk(const model_roots *roots,
                     int (*visit)(void *context, size_t root, const char *name, didi_error *error),
                     void *context, didi_error *error);
