/* SPDX-License-Identifier: Apache-2.0 */
/* Models scored by a command of the operator's, which is held off everything but its own directory
 * (docs/scoring.md). */
#pragma once

#include "daemon/base/base.h"
#include "daemon/models/models.h"
#include "src/base/base.h"
#include "src/package/package.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCORE_OUTPUT_BYTES_MAX = 65536, /* that a scorer may print */
    SCORE_SPLIT_BYTES_MAX = 128,
};

typedef struct scorer scorer;

/* What the operator says. Nothing is taken. */
typedef struct scorer_settings {
    const char *command;  /* words, split at spaces and tabs; quotes mean nothing and are refused */
    uint64_t seconds_max; /* of one score; > 0 */
    uint64_t memory_max; /* bytes, of address space of one process, of memory of all; 0: no limit */
    const char *user;    /* whom it runs as where the daemon is root's */
    bool confined;       /* by Landlock and seccomp */
    const char *const
        *hidden; /* paths that it may not read; those that are not there are left out */
    size_t hidden_count;
} scorer_settings;

/* Finds the program and prepares. Errors: DIDI_INVALID (the command or the user cannot be used, the
 * kernel cannot confine), DIDI_NOT_FOUND (no such program), DIDI_IO, DIDI_NO_MEMORY. */
int scorer_open(const scorer_settings *settings, scorer **ret_scorer, didi_error *error);
/* The same from settings of the daemon or of a foreground run: what keeps state and secrets is
 * hidden. *ret_scorer is NULL where no scorer is set. */
int scorer_open_configured(const config *settings, scorer **ret_scorer, didi_error *error);
/* NULL is fine. */
void scorer_close(scorer *self);

typedef struct score_request {
    const char *directory; /* of the model: the scorer's to write in, and the caller's to remove */
    const char *task;
    const char *split; /* of [A-Za-z0-9._-], with no '.' and '-' first; NULL: none is named */
} score_request;

/* Runs the command on one model and waits; by the time it returns, all processes of it are gone.
 * Blocks: up to seconds_max. `cancelled` may be NULL; it is asked some ten times a second. Errors:
 * DIDI_SCORER (it fails, hangs, takes too much, prints no number: subject = the task),
 * DIDI_INVALID (the split; it cannot be confined), DIDI_CANCELLED, DIDI_IO, DIDI_NO_MEMORY. [any]
 */
int scorer_run(const scorer *self, const score_request *request, int (*cancelled)(void *context),
               void *context, double *ret_score, didi_error *error);

/* Names of models, and of the task that the package has in between. */
typedef struct score_models {
    const char *base, *fine_tune, *task;
} score_models;

/* Copies a model below the roots, that is no adapter, as the directory `name` of parent_fd, as an
 * export would be: model.safetensors or shards with their index, and what configures it. Errors:
 * those of model_roots_open_model and checkpoint_open, DIDI_MISMATCH (an adapter), DIDI_IO,
 * DIDI_DISK_FULL, DIDI_CANCELLED, DIDI_NO_MEMORY. [any] */
int score_copy_model(const model_roots *roots, const char *model, int parent_fd, const char *name,
                     int (*cancelled)(void *context), void *context, didi_error *error);

/* What a package serves of a task, beside base and fine-tune below the roots (proxies_measure).
 * Errors: those, and those of model_roots_open_model and checkpoint_open. [any] */
int score_measure(const model_roots *roots, int package_fd, const score_models *models,
                  int (*cancelled)(void *context), void *context, proxies *ret_proxies,
                  didi_error *error);
