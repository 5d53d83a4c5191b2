/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the registry of models. */
#pragma once

#include "daemon/base/base.h"
#include "proto/proto.h"
#include "src/base/base.h"

typedef struct store store;

const char *model_state_name(model_state state);

typedef struct store_model {
    char *name;     /* relative path below the root */
    char *root;     /* the root as configured */
    char *revision; /* 16 hex digits over names, sizes, inodes and mtimes of its files: changes when
                       they do */
    model_state state;
    char *reason; /* of broken; else NULL */
    uint64_t tensor_count, parameters, bytes, file_count;
    uint64_t is_adapter; /* 1: a LoRA adapter, 0: a checkpoint */
    int64_t registered_ms, updated_ms;
} store_model;

void store_model_clear(store_model *model);
void store_models_free(store_model *models, size_t count);

/* By name, ascending, names above `after` (NULL from the first), at most `limit`. */
int store_model_list(store *self, const char *after, size_t limit, store_model **ret_models,
                     size_t *ret_count, bool *ret_more, didi_error *error);
int store_model_get(store *self, const char *name, store_model *ret_model, didi_error *error);

/* Replaces the registry with these rows in one transaction; registered_ms of known names is kept,
 * and updated_ms where the revision and state are the same. */
int store_model_replace(store *self, const store_model *rows, size_t count, didi_error *error);
