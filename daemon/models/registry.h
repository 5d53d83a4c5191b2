/* SPDX-License-Identifier: Apache-2.0 */
/* The registry of models: what the roots hold, by relative name. Scanning reads headers only. Every
 * function is thread-safe. */
#pragma once

#include "daemon/models/roots.h"
#include "daemon/store/store.h"

#include <stdint.h>

typedef struct registry registry;

/* Keeps `roots` and `store` by reference; they must outlive the registry. Does not scan yet. */
int registry_create(const model_roots *roots, store *records, registry **ret_registry,
                    didi_error *error);
void registry_free(registry *self);

const model_roots *registry_roots(const registry *self);

/* Scans the roots and commits what changed: new and changed models are opened and checked (state
 * ready or broken, with the reason), vanished ones leave the list. One scan at a time; a second
 * caller waits and scans again. Takes as long as the headers take to read. Errors: those of the
 * walk and the store; a broken model is no error. */
int registry_rescan(registry *self, size_t *ret_ready, size_t *ret_broken, didi_error *error);

/* The row of a model, by the name it is listed under or by another of its revision's. Listing is
 * the store's: store_model_list. Errors: DIDI_NOT_FOUND, those of the store. */
int registry_find(registry *self, const char *name, store_model *ret_model, didi_error *error);

/* Whether what lies in the directory is a model that would be ready, every weights file of it
 * sound. `name` is what errors call it. Errors: those of checkpoint_open, DIDI_FORMAT. */
int registry_check_directory(int directory_fd, const char *name, didi_error *error);

typedef struct registry_tensor {
    const char *name;
    const char *dtype; /* as the file spells it, static */
    const uint64_t *shape;
    size_t dimensions;
    uint64_t bytes;
    const char *file;
} registry_tensor;

/* Opens the model and calls `visit` for each tensor, by name. A non-zero return of visit stops and
 * is returned. Errors: those of checkpoint_open; DIDI_NOT_FOUND when there is no such model. */
int registry_tensors(registry *self, const char *name,
                     int (*visit)(void *context, const registry_tensor *tensor), void *context,
                     didi_error *error);
